"""What an agent sees, as arrays: one array `(N, ...)`, or a dict of them (a Dict space)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Observations = np.ndarray | dict[str, np.ndarray]
"""`(N, ...)`, or `{key: (N, ...)}` with the same N for every key."""

Int64Array = NDArray[np.int64]

_HASH_SEED = 20_221_211  # fixed: hashes are compared across processes and saved files
_multipliers = np.zeros(0, dtype=np.uint64)
_limbs = np.zeros((0, 3))  # of each multiplier, from its lowest bits up
_LIMB_BITS, _UNITS_AT_ONCE = 22, 2**15  # 16 + 22 + 15 bits: sums of so many are exact in float64
_FEWEST = 8, 32, 16_384  # rows, units of each, and of all: for fewer a plain product takes less


def named_arrays(observations: Observations) -> Iterator[tuple[str, np.ndarray]]:
    """`(key, array)` in sorted order of the keys; the key of a plain array is `""`."""
    if isinstance(observations, dict):
        for key in sorted(observations):
            yield key, observations[key]
    else:
        yield "", observations


def layout(observations: Observations) -> object:
    """Keys, shapes and dtypes; equal for observations that fit into the same arrays."""
    if isinstance(observations, dict):
        return {key: (array.shape, array.dtype) for key, array in observations.items()}
    return observations.shape, observations.dtype


def n_observations(observations: Observations) -> int:
    """N, the length of the first axis."""
    return len(next(named_arrays(observations))[1])


def take(observations: Observations, rows: np.ndarray | slice) -> Observations:
    """The observations of `rows`, (n,) or a slice, with first axis n."""
    if isinstance(observations, dict):
        return {key: array[rows] for key, array in observations.items()}
    picked: np.ndarray = observations[rows]
    return picked


def concatenate(parts: list[Observations]) -> Observations:
    """Joins observations of one space along the first axis."""
    first = parts[0]
    if isinstance(first, dict):
        dicts = [part for part in parts if isinstance(part, dict)]
        if len(dicts) < len(parts) or any(part.keys() != first.keys() for part in dicts):
            raise ValueError("cannot join observations with different keys")
        return {key: np.concatenate([part[key] for part in dicts]) for key in first}
    return np.concatenate([np.asarray(part) for part in parts])


def hash_observations(observations: Observations) -> Int64Array:
    """A 64-bit hash of each observation's every byte, all keys of a dict included.

    Equal observations (same dtypes, same bytes) hash equal. Two given different ones collide
    with probability at most 2^-48: the hash is linear, `Σ_i c_i x_i mod 2^64` with fixed random
    odd 64-bit c_i, and it is taken over 16-bit units x_i, because a difference that sits in the
    top bits of a wide unit would leave only few of c_i's bits in play.

    Floats are hashed by their bytes, so that nearly equal ones differ (and -0.0 differs from 0).

    Returns:
        (N,) int64.
    """
    total: np.ndarray | None = None
    used = 0
    for _, array in named_arrays(observations):
        units = _units(array)
        part = _weighted_sums(units, used)
        used += units.shape[1]
        total = part if total is None else total + part
    if total is None:
        raise ValueError("cannot hash an observation without keys")
    return total.view(np.int64)


def _units(array: np.ndarray) -> np.ndarray:
    """`(N, ...)` as `(N, n_units)` unsigned integers of 16 bits, or of 8 where bytes are odd."""
    array = np.ascontiguousarray(array)
    if array.dtype == object:
        raise ValueError("observations of dtype object cannot be stored; use arrays of numbers")
    flat = array.reshape(len(array), -1)
    even = flat.shape[1] * flat.itemsize % 2 == 0
    return flat.view(np.uint16 if even else np.uint8)


def _weighted_sums(units: np.ndarray, n_before: int) -> np.ndarray:
    """`Σ_i c_i x_i mod 2^64` of each line of units (N, n), (N,) uint64; c from `n_before` on.

    A product of whole numbers of 64 bits is slow. That of units with three limbs of c, 22 bits
    each, is one of floats, and as exact: no sum reaches 2^53.
    """
    n_rows, n_units = units.shape
    multipliers = _first_multipliers(n_before + n_units)[n_before:]
    if any(n < few for n, few in zip((*units.shape, units.size), _FEWEST, strict=True)):
        few: np.ndarray = units.astype(np.uint64) @ multipliers
        return few
    limbs = _limbs[n_before : n_before + n_units]
    totals = np.zeros(n_rows, np.uint64)
    for column in range(0, n_units, _UNITS_AT_ONCE):
        columns = slice(column, column + _UNITS_AT_ONCE)
        n_at_once = max(1, 2 * _UNITS_AT_ONCE // min(n_units, _UNITS_AT_ONCE))  # of half a megabyte
        for row in range(0, n_rows, n_at_once):
            rows = slice(row, row + n_at_once)
            sums = (units[rows, columns].astype(np.float64) @ limbs[columns]).astype(np.uint64)
            for k in range(3):
                totals[rows] += sums[:, k] << np.uint64(k * _LIMB_BITS)
    return totals


def _first_multipliers(n: int) -> np.ndarray:
    """The first n of one fixed sequence of random odd numbers, (n,) uint64."""
    global _multipliers, _limbs
    if len(_multipliers) < n:
        generator = np.random.Generator(np.random.PCG64(_HASH_SEED))
        size = max(1024, 2 * n)
        _multipliers = generator.integers(0, 2**64, size=size, dtype=np.uint64) | np.uint64(1)
        parts = [_multipliers >> np.uint64(k * _LIMB_BITS) for k in range(3)]
        _limbs = (np.stack(parts, axis=1) % np.uint64(2**_LIMB_BITS)).astype(np.float64)
    return _multipliers[:n]
