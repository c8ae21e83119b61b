"""The part of a memory that hard negatives are looked for in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .base import Memory
from .observations import Int64Array

REDRAW_FRAMES = 8192
"""A sample older than this, in the agent's frames, is drawn again."""


class SearchedRows:
    """A uniform sample of a memory's rows: all of them where there are no more.

    To look for hard negatives in the whole of a large memory costs what the memory is long; in a
    sample of it, ranks and proportions are the same but for chance. It is drawn again when the
    keys have changed, and when `REDRAW_FRAMES` are over. Rows that were overwritten since are left
    out by their hash.
    """

    def __init__(self, n_searched: int) -> None:
        """
        Args:
            n_searched: rows at most.
        """
        self.n_searched = n_searched
        self.rows: Int64Array = np.empty(0, np.int64)
        """(m,)"""
        self.hashes: Int64Array = np.empty(0, np.int64)
        """(m,): of their observations when they were drawn."""
        self._snapshot = -1
        self._frame = -1

    def renew(self, memory: Memory, snapshot: int, generator: np.random.Generator) -> bool:
        """Draw the sample again where it is due; says whether it was."""
        frame = memory.frame
        fresh = snapshot == self._snapshot and 0 <= frame - self._frame < REDRAW_FRAMES
        if len(self.rows) and fresh:
            return False
        self.rows = memory.sample_rows(self.n_searched, generator)
        self.hashes = memory.hashes(self.rows)
        self._snapshot, self._frame = snapshot, frame
        return True

    def unchanged(self, memory: Memory, places: np.ndarray) -> np.ndarray:
        """(n,) bool: do these of the rows still hold what they held when they were drawn?"""
        rows = self.rows[places]
        same: np.ndarray = memory.stored(rows) & (memory.hashes(rows) == self.hashes[places])
        return same

    def state_arrays(self) -> dict[str, np.ndarray]:
        """Its arrays, for a file."""
        age = np.array([self._snapshot, self._frame], np.int64)
        return {"rows": self.rows, "hashes": self.hashes, "age": age}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Put back what `state_arrays` gave; ValueError where it contradicts itself."""
        rows, hashes, age = (arrays[key] for key in ("rows", "hashes", "age"))
        if rows.shape != hashes.shape or age.shape != (2,):
            raise ValueError("the stored sample of searched rows is broken: its arrays do not fit")
        self.rows, self.hashes = rows.astype(np.int64), hashes.astype(np.int64)
        self._snapshot, self._frame = (int(number) for number in age)
