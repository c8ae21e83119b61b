"""Negative samplers: which rows of a memory serve as negatives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from .base import Memory
from .observations import Int64Array


@dataclass(frozen=True)
class Pool:
    """The negatives of one auxiliary step."""

    rows: np.ndarray
    """(K,) int64, shared by all anchors, or (G, K), K for each of G groups of anchors: anchor b is
    in group `b mod G`. No duplicates within a group."""
    log_weights: np.ndarray | None = None
    """(B, K) float32: log of each anchor's weight for each of its negatives; None: all 1."""

    @property
    def rows_by_group(self) -> np.ndarray:
        """`rows` as (G, K); G = 1 if all anchors share them."""
        return np.atleast_2d(self.rows)

    def thinned(self, n: int, generator: np.random.Generator) -> Pool:
        """The pool with n random columns, without the weights."""
        k = self.rows.shape[-1]
        picked = generator.choice(k, min(n, k), replace=False, shuffle=False)
        return Pool(self.rows[..., picked])


class Insight(Protocol):
    """The learner's keys and errors for rows of one memory."""

    @property
    def snapshot(self) -> int:
        """A number that changes when the keys do."""
        ...

    def keys(self, rows: np.ndarray) -> np.ndarray:
        """(n, D) float32: the teacher's keys, of length 1."""
        ...

    def errors(self, rows: np.ndarray) -> np.ndarray:
        """(n,) float32 >= 0: how far the value function is off."""
        ...


class NegativeSampler(ABC):
    """Base class of negative samplers. They need not mask rows: `negative_mask` does.

    To add a sampler, subclass it and write `draw`. Override `draw_anchors` if anchors should not be
    uniform, and `state_arrays` and `restore` if the sampler keeps state between draws.

    Example:
        >>> class OldestNegatives(NegativeSampler):
        ...     name = "oldest"
        ...     def draw(self, memory, anchors, k, generator, insight):
        ...         rows = memory.rows()
        ...         return Pool(rows[np.argsort(memory.times(rows))[:k]])
        >>> loss = ContrastiveDistillation(negatives=OldestNegatives())
    """

    name: ClassVar[str] = "own"
    """Its name in `NEGATIVES`, in logs and in files."""
    recent: ClassVar[bool] = False
    """Whether anchors and negatives come only from the current rollout."""
    uses_returns: ClassVar[bool] = False
    """Whether it uses returns; otherwise the control `shuffled_values` does not apply."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "look_ahead" in cls.__dict__:
            raise TypeError(f"{cls.__name__}: look_ahead was removed; delete it, `draw` is enough")

    def draw_anchors(
        self, memory: Memory, n: int, generator: np.random.Generator, insight: Insight
    ) -> Int64Array:
        """Up to n rows of `memory` that `draw` is then asked for negatives of: here uniform.

        Args:
            memory: not empty.
            n: how many anchors, >= 1.
            generator: the only source of random numbers.
            insight: keys and errors of the memory's rows.
        """
        return memory.sample_rows(n, generator, recent=self.recent)

    @abstractmethod
    def draw(
        self,
        memory: Memory,
        anchors: np.ndarray,
        k: int,
        generator: np.random.Generator,
        insight: Insight,
    ) -> Pool:
        """Draw up to k negatives for the anchors, see `Pool`.

        Args:
            memory: not empty.
            anchors: (B,) rows of it.
            k: how many negatives, >= 1.
            generator: the only source of random numbers.
            insight: keys and errors of the memory's rows.
        """

    def state_arrays(self) -> dict[str, np.ndarray]:
        """The state that is kept between draws, for a file."""
        return {}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:  # noqa: B027
        """Restore the state from `state_arrays`; ValueError if it does not fit."""


class InBatchNegatives(NegativeSampler):
    """The control without a memory: rows of the current rollout only.

    For an off-policy agent (nothing calls `begin_rollout`) it is one draw from all rows.
    """

    name = "in_batch"
    recent = True

    def draw(
        self,
        memory: Memory,
        anchors: np.ndarray,
        k: int,
        generator: np.random.Generator,
        insight: Insight,
    ) -> Pool:
        return Pool(memory.sample_rows(k, generator, recent=True))


class UniformNegatives(NegativeSampler):
    """Uniform over the whole memory: the control for hardness."""

    name = "uniform"

    def draw(
        self,
        memory: Memory,
        anchors: np.ndarray,
        k: int,
        generator: np.random.Generator,
        insight: Insight,
    ) -> Pool:
        return Pool(memory.sample_rows(k, generator))


def check_pool(pool: Pool, sampler: NegativeSampler, memory: Memory, anchors: np.ndarray) -> None:
    """Check the pool that a sampler drew for the anchors (B,).

    Raises:
        ValueError: a shape is wrong, a row is not stored or appears twice for one group, or a
            weight is NaN or +inf.
    """
    name = type(sampler).__name__
    if not isinstance(pool, Pool):
        raise ValueError(f"{name}.draw gave a {type(pool).__name__}; expected a memory.Pool")
    rows, weights = pool.rows, pool.log_weights
    if rows.ndim not in (1, 2) or not len(pool.rows_by_group):
        raise ValueError(
            f"{name}.draw gave rows of shape {rows.shape}; expected (K,), shared by all anchors, "
            "or (G, K) for G groups of anchors, of which anchor b is in group b mod G"
        )
    ascending = np.sort(pool.rows_by_group, axis=1)
    inside = not rows.size or (ascending.min() >= 0 and ascending.max() < memory.capacity)
    twice = (ascending[:, 1:] == ascending[:, :-1]).any()
    if twice or not (inside and memory.stored(rows).all()):
        raise ValueError(
            f"{name}.draw gave rows that are not stored, or one of them twice; draw different "
            "rows from memory.rows(), for example with memory.sample_rows(k, generator)"
        )
    shape = (len(anchors), rows.shape[-1])
    if weights is not None and (weights.shape != shape or not (weights < np.inf).all()):
        raise ValueError(
            f"{name}.draw gave log_weights of shape {weights.shape}; expected {shape}, a row for "
            "each anchor, without NaN or +inf"
        )


def n_hard(k: int, uniform_share: float) -> int:
    """How many of k negatives are drawn by hardness; at least `uniform_share` of k are not."""
    return k - math.ceil(k * uniform_share)


def with_uniform(
    hard: Int64Array, memory: Memory, k: int, generator: np.random.Generator
) -> Int64Array:
    """The distinct rows among `hard`, and uniform others up to k rows in all, ascending."""
    hard = np.unique(hard)
    others = memory.sample_rows(k, generator)
    others = others[~np.isin(others, hard)]
    n = min(k - len(hard), len(others))
    others = generator.choice(others, n, replace=False, shuffle=False)
    rows: Int64Array = np.sort(np.concatenate([hard, others]))
    return rows


def check_share(uniform_share: float) -> None:
    """ValueError unless at least half of the negatives, and at most all, are uniform."""
    if not 0.5 <= uniform_share <= 1.0:
        raise ValueError(
            f"uniform_share is {uniform_share}; it must lie in [0.5, 1]: hard negatives alone "
            "hold too many false ones"
        )


def check_searched(n_searched: int) -> None:
    """ValueError unless there is something to search."""
    if n_searched < 2:
        raise ValueError(f"n_searched is {n_searched} rows; it must be 2 or more")
