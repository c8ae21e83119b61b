"""Sensors of vectors: other units, axes, dimensions and distractors.

Each first divides the observation by `scale`, so that dimensions of different units are
comparable. Results are float32. They are sums in a fixed order, so that one observation alone
gives the same bits as in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from .sensors import Sensor, derangement, numbered_draws

Floats = NDArray[np.float64]

KNOWN_SCALES: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "CartPole-v1": (2.4, 2.0, 0.21, 2.0),
        "Acrobot-v1": (1.0, 1.0, 1.0, 1.0, 4.0, 8.0),
    }
)
"""By id: CartPole's limits of position and angle, and speeds that both environments reach."""


@dataclass(frozen=True, kw_only=True)
class _VectorSensor(Sensor):
    part: str = "observation"
    scale: tuple[float, ...] | None = None
    """A usual value of each dimension, by which it is divided; None divides by 1."""

    reads: ClassVar[Literal["grid", "picture", "vector"]] = "vector"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale is not None and not all(0 < each < np.inf for each in self.scale):
            raise ValueError(
                f"scale of {self.family} must hold positive numbers, one for each dimension, got "
                f"{self.scale}"
            )

    def change(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Vectors (N, D) as the sensor shows them, float32 (N, E)."""
        scaled = np.asarray(batch, dtype=np.float64) / self._divisor(batch.shape[-1])
        return self._transform(scaled).astype(np.float32)

    def undo(self, batch: NDArray[Any]) -> NDArray[Any]:
        """The plain vectors behind the changed ones, float32 (N, D)."""
        plain = self._invert(np.asarray(batch, dtype=np.float64))
        return (plain * self._divisor(plain.shape[-1])).astype(np.float32)

    def changed_box(self, box: spaces.Box) -> spaces.Box:
        """A float32 box that holds every changed vector of `box`."""
        if len(box.shape) != 1:
            raise ValueError(
                f"{self.family} changes vectors; these observations have the shape {box.shape}. "
                f"Put the sensor around the environment before frame stacks, or wrap it in "
                f"gymnasium.wrappers.FlattenObservation first."
            )
        divisor = self._divisor(box.shape[0])
        low, high = self._bounds(box.low / divisor, box.high / divisor)
        return spaces.Box(_outward(low, -np.inf), _outward(high, np.inf), dtype=np.float32)

    def _divisor(self, n: int) -> Floats:
        if self.scale is None:
            return np.ones(n)
        if len(self.scale) != n:
            raise ValueError(
                f"scale of {self.family} has {len(self.scale)} numbers, the observation {n}: give "
                f"one for each dimension"
            )
        return np.array(self.scale)

    def _transform(self, scaled: Floats) -> Floats:
        raise NotImplementedError

    def _invert(self, changed: Floats) -> Floats:
        raise NotImplementedError

    def _bounds(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Units(_VectorSensor):
    """Other units (a tenth to ten times as large), signs and order of the dimensions."""

    def _transform(self, scaled: Floats) -> Floats:
        order, units = _units(self.number, scaled.shape[-1])
        return scaled[:, order] * units

    def _invert(self, changed: Floats) -> Floats:
        order, units = _units(self.number, changed.shape[-1])
        return (changed / units)[:, np.argsort(order)]

    def _bounds(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        order, units = _units(self.number, len(low))
        ends = low[order] * units, high[order] * units
        return np.minimum(*ends), np.maximum(*ends)


@dataclass(frozen=True, kw_only=True)
class Rotated(_VectorSensor):
    """The axes are turned: the scaled vector times a random orthogonal matrix."""

    def _transform(self, scaled: Floats) -> Floats:
        return _times(scaled, _rotation(self.number, scaled.shape[-1]))

    def _invert(self, changed: Floats) -> Floats:
        return _times(changed, _rotation(self.number, changed.shape[-1]).T)

    def _bounds(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        return _bounds_of_product(low, high, _rotation(self.number, len(low)))


@dataclass(frozen=True, kw_only=True)
class Mixed(_VectorSensor):
    """A fixed nonlinear map to 32 dimensions: Q tanh(W x + b), with Q orthogonal.

    It is invertible: see `undo`. Infinite numbers become NaN.
    """

    width: ClassVar[int] = 32

    def changed_box(self, box: spaces.Box) -> spaces.Box:
        """A float32 box that holds every changed vector of `box`, which has at most 32 numbers."""
        if len(box.shape) == 1 and box.shape[0] > self.width:
            raise ValueError(
                f"Mixed has {self.width} dimensions, which cannot hold the {box.shape[0]} of the "
                f"observation space. Use Rotated."
            )
        return super().changed_box(box)

    def undo(self, batch: NDArray[Any]) -> NDArray[Any]:
        """The plain vectors behind the changed ones, float32 (N, D). `scale` must be set."""
        if self.scale is None:
            raise ValueError("undo of Mixed needs scale=, from which it knows the dimensions")
        return super().undo(batch)

    def _transform(self, scaled: Floats) -> Floats:
        weights, offset, turn = _mixture(self.number, scaled.shape[-1])
        mixed = _times(np.tanh(_times(scaled, weights) + offset), turn)
        mixed[~np.isfinite(scaled).all(axis=1)] = np.nan  # tanh would hide infinite numbers
        return mixed

    def _invert(self, changed: Floats) -> Floats:
        assert self.scale is not None
        weights, offset, turn = _mixture(self.number, len(self.scale))
        inner = np.clip(_times(changed, turn.T), -1 + 1e-12, 1 - 1e-12)
        slope = 1 - inner**2  # a saturated tanh tells little: weighted least squares
        system = slope[:, :, np.newaxis] * weights.T
        right = slope * (np.arctanh(inner) - offset)
        normal = np.einsum("bij,bik->bjk", system, system)
        plain: Floats = np.linalg.solve(normal, np.einsum("bij,bi->bj", system, right)[..., None])
        return plain[..., 0]

    def _bounds(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        _, _, turn = _mixture(self.number, len(low))
        largest = np.abs(turn).sum(axis=0)
        return -largest, largest


@dataclass(frozen=True, kw_only=True)
class Distractors(_VectorSensor):
    """8 more dimensions of noise, in [-1, 1], between the scaled ones; the order is drawn.

    The noise is a hash of the observation's bits, so that the sensor is a function: it tells
    nothing about the state, and equal observations have equal noise.
    """

    n_distractors: ClassVar[int] = 8

    def _transform(self, scaled: Floats) -> Floats:
        order, seed = _places(self.number, scaled.shape[-1])
        noise = _hashed_noise(scaled, self.n_distractors, seed)
        return np.concatenate([scaled, noise], axis=1)[:, order]

    def _invert(self, changed: Floats) -> Floats:
        n = changed.shape[-1] - self.n_distractors
        return changed[:, np.argsort(_places(self.number, n)[0])[:n]]

    def _bounds(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        order, ones = _places(self.number, len(low))[0], np.ones(self.n_distractors)
        return np.concatenate([low, -ones])[order], np.concatenate([high, ones])[order]


@lru_cache(maxsize=64)
def _units(number: int, n: int) -> tuple[NDArray[np.intp], Floats]:
    """The dimension and the factor behind each of the n dimensions of `Units`."""
    draws = numbered_draws(number, "Units")
    order = derangement(n, draws) if n > 1 else np.arange(n)
    return order, 10 ** draws.uniform(-1, 1, n) * draws.choice([-1, 1], n)


@lru_cache(maxsize=64)
def _rotation(number: int, n: int) -> Floats:
    """The random orthogonal matrix (n, n) of `Rotated`."""
    return _orthogonal(n, numbered_draws(number, "Rotated"))


def _orthogonal(n: int, draws: np.random.RandomState) -> Floats:
    """A random orthogonal matrix (n, n), uniform over all of them."""
    matrix, upper = np.linalg.qr(draws.standard_normal((n, n)))
    turned: Floats = matrix * np.sign(np.diag(upper))
    return turned


@lru_cache(maxsize=64)
def _mixture(number: int, n: int) -> tuple[Floats, Floats, Floats]:
    """Weights (n, 32), offset (32,) and orthogonal matrix (32, 32) of `Mixed`."""
    draws = numbered_draws(number, "Mixed")
    weights = draws.standard_normal((n, Mixed.width))
    return weights, draws.uniform(-0.5, 0.5, Mixed.width), _orthogonal(Mixed.width, draws)


@lru_cache(maxsize=64)
def _places(number: int, n: int) -> tuple[NDArray[np.intp], int]:
    """The order of the n own dimensions and the noise in `Distractors`, and the noise's seed."""
    draws = numbered_draws(number, "Distractors")
    seed = int(draws.randint(0, 2**63, dtype=np.int64))
    order: NDArray[np.intp] = draws.permutation(n + Distractors.n_distractors)
    return order, seed


def _times(rows: Floats, matrix: Floats) -> Floats:
    """`rows @ matrix`, whose bits do not depend on the number of rows."""
    result: Floats = rows[:, :1] * matrix[0]
    for i in range(1, len(matrix)):
        result += rows[:, i : i + 1] * matrix[i]
    return result


def _bounds_of_product(low: Floats, high: Floats, matrix: Floats) -> tuple[Floats, Floats]:
    """The bounds of `_times` for rows between `low` and `high`."""
    with np.errstate(invalid="ignore"):  # 0 · inf: the dimension does not count
        ends = low[:, np.newaxis] * matrix, high[:, np.newaxis] * matrix
    lows, highs = np.minimum(*ends), np.maximum(*ends)
    absent = np.broadcast_to(matrix == 0, lows.shape)
    return np.where(absent, 0, lows).sum(axis=0), np.where(absent, 0, highs).sum(axis=0)


def _outward(bound: Floats, direction: float) -> NDArray[np.float32]:
    """The bound in float32, moved by three roundings, so that every sum lies within it."""
    rounded = bound.astype(np.float32)
    for _ in range(3):
        rounded = np.nextafter(rounded, np.float32(direction))
    return rounded


def _hashed_noise(rows: Floats, n: int, seed: int) -> Floats:
    """Noise (N, n) in [-1, 1), a hash of the bits of each row (SplitMix64)."""
    bits = (rows.astype(np.float32) + np.float32(0)).view(np.uint32)  # -0 becomes 0
    state = np.full(len(rows), seed, dtype=np.uint64)
    for column in bits.T:
        state = _scramble(state ^ column.astype(np.uint64))
    steps = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    hashed = _scramble(state[:, np.newaxis] + steps)
    return (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


def _scramble(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
