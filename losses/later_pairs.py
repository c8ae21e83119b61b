"""Pairs of an observation and a later one of the same episode, for measuring information."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from contrastive_distillation.memory import Memory, Observations, draw_positives

_N_SYMBOLS = 16  # integers below this are treated as symbols


@dataclass(frozen=True)
class LaterPairs:
    """N rows of a memory, each with a later row of the same episode."""

    rows: np.ndarray
    """(N,) int64"""
    later_rows: np.ndarray
    """(N,) int64"""
    episodes: np.ndarray
    """(N,) int64"""
    tasks: np.ndarray
    """(N,) int64, indexes into the memory's `tasks`"""


def draw_later_pairs(
    memory: Memory, n: int, generator: np.random.Generator, *, mean_offset: float = 5.0
) -> LaterPairs:
    """Draw up to n rows, each with a later row, for `mutual_information` about the future.

    Offsets are geometric with a mean of `mean_offset` steps. Pairs that show the same observation
    twice are kept: leaving them out would bias the measurement. With x the features of `rows`,
    let y be `as_vectors(memory.observations(later_rows))` for the future, or the source encoder's
    features of `rows` for the information shared with the source.
    """
    rows = memory.rows()
    rows = rows[memory.remaining(rows) >= 1]
    rows = generator.choice(rows, size=min(n, len(rows)), replace=False, shuffle=False)
    later, valid = draw_positives(memory, rows, generator, mean_offset=mean_offset, distinct=False)
    assert valid.all()
    return LaterPairs(rows, later, memory.episodes(rows), memory.task_ids(rows))


def as_vectors(observations: Observations) -> np.ndarray:
    """Observations as vectors (N, E) float32: symbols one-hot, other numbers unchanged.

    An integer array counts as symbols if all its values lie in [0, 15] (true of MiniGrid's grids,
    not of pictures). The entries of a dict are concatenated in sorted order of their keys.
    """
    if isinstance(observations, dict):
        return np.concatenate(
            [as_vectors(observations[key]) for key in sorted(observations)], axis=1
        )
    array = observations.reshape(len(observations), -1)
    if array.dtype.kind in "biu" and array.size and array.min() >= 0 and array.max() < _N_SYMBOLS:
        one_hot = array.astype(np.uint8)[:, :, None] == np.arange(_N_SYMBOLS, dtype=np.uint8)
        array = one_hot.reshape(len(array), -1)
    vectors: np.ndarray = array.astype(np.float32)
    return vectors
