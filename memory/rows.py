"""Rows as they leave a memory: what a loss learns from, and what masks are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .observations import Observations

_MEMORY_SHIFT = 48  # row and episode numbers of one memory stay far below 2^48


@dataclass(frozen=True)
class RowInfo:
    """Which observation, row and step of an episode each of N rows is: all that masks need."""

    rows: np.ndarray
    """(N,) int64: row number in its memory; -1 where it comes from none. All may be (G, K), too."""
    hashes: np.ndarray
    """(N,) int64: hash of the encoder's whole input."""
    episodes: np.ndarray
    """(N,) int64: number of its episode; -1 where it has none."""
    steps: np.ndarray
    """(N,) int64: step within its episode."""
    valid: np.ndarray
    """(N,) bool: False for a placeholder that must not be used."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | np.ndarray) -> RowInfo:
        """The rows selected by a slice, a mask or an index array."""
        return RowInfo(
            self.rows[index],
            self.hashes[index],
            self.episodes[index],
            self.steps[index],
            self.valid[index],
        )

    def where(self, valid: np.ndarray) -> RowInfo:
        """The same rows, of which only those stay valid that are so in `valid` (N,) bool too."""
        return replace(self, valid=self.valid & valid)

    @staticmethod
    def concatenate(infos: Sequence[RowInfo]) -> RowInfo:
        """Joins rows of *different* memories, the i-th part being of the i-th memory.

        Row and episode numbers of part i are moved by `i * 2^48`, so that numbers of different
        memories never meet. The move depends on the position alone: joins that list the memories
        in the same order (give an empty slice where one has no rows) can be compared. Rows of
        groups (G, K) are joined group by group.
        """
        if not infos:
            raise ValueError("concatenate needs at least one RowInfo")
        return RowInfo(
            rows=np.concatenate([_moved(info.rows, i) for i, info in enumerate(infos)], axis=-1),
            hashes=np.concatenate([info.hashes for info in infos], axis=-1),
            episodes=np.concatenate(
                [_moved(info.episodes, i) for i, info in enumerate(infos)], axis=-1
            ),
            steps=np.concatenate([info.steps for info in infos], axis=-1),
            valid=np.concatenate([info.valid for info in infos], axis=-1),
        )


@dataclass(frozen=True)
class MemoryBatch:
    """B rows of a memory, with everything that is known of them. All arrays are copies."""

    rows: np.ndarray
    """(B,) int64: row numbers; they hold this only until the memory is next added to."""
    observations: Observations
    """(B, ...), or a dict of such: what the agent saw."""
    next_observations: Observations
    """As `observations`, one step later; where `has_next` is False, the row's own again."""
    has_next: np.ndarray
    """(B,) bool: is the next observation of the same episode stored?"""
    actions: np.ndarray
    """(B, ...): what it did there."""
    rewards: np.ndarray
    """(B,) float32: what it got for it."""
    returns: np.ndarray
    """(B,) float32: discounted return-to-go from this row on; 0 where it is not known."""
    return_known: np.ndarray
    """(B,) bool."""
    tasks: np.ndarray
    """(B,) int64: index into the memory's `tasks`."""
    episodes: np.ndarray
    """(B,) int64."""
    steps: np.ndarray
    """(B,) int64: step within the episode, from 0."""
    times: np.ndarray
    """(B,) int64: the agent's frame count when the row was written."""
    hashes: np.ndarray
    """(B,) int64: hash of the whole observation."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def info(self) -> RowInfo:
        """The `RowInfo` of these rows, for masks."""
        valid = np.ones(len(self.rows), dtype=np.bool_)
        return RowInfo(self.rows, self.hashes, self.episodes, self.steps, valid)


def _moved(numbers: np.ndarray, memory_index: int) -> np.ndarray:
    return np.where(numbers >= 0, numbers + (memory_index << _MEMORY_SHIFT), -1)


def by_group(of_anchors: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Numbers (B,) of anchors, in the shape that broadcasts against those of their negatives.

    Args:
        of_anchors: (B,).
        negatives: (K,), shared by all anchors, or (G, K); anchor b is in group `b mod G`.

    Returns:
        (ceil(B / G), G, 1), anchor b at `[b // G, b % G]`; the last places repeat the first anchors
        if G does not divide B.
    """
    n_groups = 1 if negatives.ndim == 1 else len(negatives)
    if len(of_anchors) % n_groups == 0:
        return of_anchors.reshape(-1, n_groups, 1)
    return np.resize(of_anchors, (-(-len(of_anchors) // n_groups), n_groups, 1))


def by_anchor(table: np.ndarray, n_anchors: int) -> np.ndarray:
    """(B, K) of a table (ceil(B / G), G, K) that was computed from `by_group`."""
    n, n_groups, n_columns = table.shape
    return table.reshape(n * n_groups, n_columns)[:n_anchors]
