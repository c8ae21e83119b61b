"""The sample of a memory among which hard negatives are searched."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .base import Memory
from .observations import Int64Array

REDRAW_ROWS, REDRAW_DRAWS = 16_384, 256
"""Rows written, and draws made, after which the sample is drawn again."""


SAVED = ("rows", "hashes", "age")
"""Names of the arrays in `state_arrays`."""


class CandidateRows:
    """A uniform sample of a memory's rows: all of them where there are no more.

    To look for hard negatives in the whole of a large memory costs what the memory is long; in a
    sample of it, ranks and proportions are the same but for chance. It is drawn again when the
    keys have changed, when `REDRAW_ROWS` or a quarter of the memory were written, and after
    `REDRAW_DRAWS`. Rows that were overwritten since are left out by their hash.
    """

    def __init__(self, n_searched: int) -> None:
        """
        Args:
            n_searched: rows at most.
        """
        self.n_searched = n_searched
        self._begin()

    def _begin(self) -> None:
        self.rows: Int64Array = np.empty(0, np.int64)
        """(m,)"""
        self.hashes: Int64Array = np.empty(0, np.int64)
        """(m,): of their observations when they were drawn."""
        self._snapshot = self._written_then = self._n_draws = -1

    def renew(
        self, memory: Memory, snapshot: int, generator: np.random.Generator, *, n_draws: int = 1
    ) -> bool:
        """Draw the sample again where it is due, for `n_draws` draws; says whether it was."""
        n_since = memory.n_written - self._written_then
        is_fresh = 0 <= n_since < min(REDRAW_ROWS, max(1, memory.capacity // 4))
        self._n_draws += n_draws
        if snapshot == self._snapshot and is_fresh and self._n_draws < REDRAW_DRAWS:
            return False
        self.rows = memory.sample_rows(self.n_searched, generator)
        self.hashes = memory.hashes(self.rows)
        self._snapshot, self._written_then, self._n_draws = snapshot, memory.n_written, 0
        return True

    def unchanged(self, memory: Memory, places: np.ndarray) -> np.ndarray:
        """(n,) bool: do these of the rows still hold what they held when they were drawn?"""
        rows = self.rows[places]
        same: np.ndarray = memory.stored(rows) & (memory.hashes(rows) == self.hashes[places])
        return same

    def state_arrays(self) -> dict[str, np.ndarray]:
        """Its arrays, for a file."""
        age = np.array([self._snapshot, self._written_then, self._n_draws], np.int64)
        return {"rows": self.rows, "hashes": self.hashes, "age": age}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Put back what `state_arrays` gave, or nothing; ValueError where it contradicts itself."""
        if not arrays:
            self._begin()
            return
        rows, hashes, age = (arrays[key] for key in ("rows", "hashes", "age"))
        if rows.shape != hashes.shape or age.shape != (3,):
            raise ValueError("the stored sample of searched rows is broken: its arrays do not fit")
        self.rows, self.hashes = rows.astype(np.int64), hashes.astype(np.int64)
        self._snapshot, self._written_then, self._n_draws = (int(number) for number in age)
