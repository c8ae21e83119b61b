"""Where the rows of episodes are stored: the interface, and a ring buffer."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from .episode_table import NONE, EpisodeTable
from .observations import Int64Array

_log = logging.getLogger(__name__)

Part = tuple[slice | Int64Array, slice]
"""Rows of the memory, and which of the n rows of a step are written there."""


class RowLayout(ABC):
    """Which row of which episode is stored in each row of the memory.

    Each row that is written gets a *serial*, its number in the order of writing, and keeps it. One
    step writes one row for each environment.
    """

    def __init__(self, *, capacity: int, n_slots: int) -> None:
        self.capacity = capacity
        self.episodes = EpisodeTable(n_slots=n_slots)
        self.slots = np.full(capacity, NONE, dtype=np.int64)
        """(capacity,): slot of the episode in each row; -1 where the row is empty."""
        self.n_written = 0
        self._warned_small = False

    @property
    @abstractmethod
    def end(self) -> int:
        """All rows from this one on are empty."""

    @property
    @abstractmethod
    def oldest(self) -> int:
        """The smallest serial that may be stored."""

    @abstractmethod
    def saved_rows(self, tensors: Mapping[str, np.ndarray]) -> int:
        """`end` of the layout that returned `tensors`; ValueError if they are not valid."""

    @abstractmethod
    def take(self, open_slots: Int64Array) -> Sequence[Part]:
        """Make room for the next row of each of n environments; evict episodes if necessary.

        `open_slots` (n,) are the slots of their episodes; -1 begins an episode, and is replaced by
        its slot.
        """

    @abstractmethod
    def admit(self, slots: Int64Array) -> Int64Array:
        """Decide which of the episodes in `slots` (n,), which have just ended, stay in memory.

        Return their slots, in the given order. The other episodes are removed.
        """

    @abstractmethod
    def finish(self, slots: Int64Array, *, tasks: np.ndarray, values: np.ndarray) -> None:
        """Register ended episodes (n,) that stay; `values`: return of the first row, or NaN."""

    @abstractmethod
    def rows_of(self, slot: int) -> Int64Array:
        """All rows of the episode in `slot`, in order of time."""

    def rows_of_all(self, slots: Int64Array) -> Int64Array:
        """`rows_of` each of the `slots` (n,), concatenated."""
        return np.concatenate([self.rows_of(slot) for slot in slots])

    @abstractmethod
    def index(self, rows: np.ndarray, slots: Int64Array) -> Int64Array:
        """Index of each row (n,) in the stored rows of its episode; `slots` (n,) of the latter."""

    @abstractmethod
    def rows_at(self, rows: np.ndarray, slots: Int64Array, index: Int64Array) -> Int64Array:
        """The rows at `index` (n,) of the episodes of `rows` (n,); `slots` (n,) of the latter."""

    @abstractmethod
    def serials(self, rows: np.ndarray) -> Int64Array:
        """Serials of stored rows (n,)."""

    @abstractmethod
    def tensors(self) -> dict[str, np.ndarray]:
        """Arrays for a file, in addition to those of the episodes."""

    @abstractmethod
    def restore(
        self,
        slots: Int64Array,
        tensors: Mapping[str, np.ndarray],
        columns: Mapping[str, np.ndarray],
    ) -> None:
        """Restore the rows of the episodes in `slots`, ascending by number, from a file.

        Raises:
            ValueError: two episodes claim one row, or `tensors` contradict the episodes.
        """

    def _extend(self, open_slots: Int64Array, parts: Sequence[Part]) -> None:
        """Add a row to the episode of each environment."""
        self.episodes.extend(open_slots)
        for to, of in parts:
            self.slots[to] = open_slots[of]
        self.n_written += len(open_slots)

    def _begin(self, open_slots: Int64Array) -> None:
        is_fresh = open_slots == NONE
        if not np.count_nonzero(is_fresh):
            return
        fresh = np.flatnonzero(is_fresh)
        open_slots[fresh] = self.episodes.open(self.n_written + fresh, stride=len(open_slots))

    def _warn_small(self, n_envs: int) -> None:
        if self._warned_small:
            return
        self._warned_small = True
        _log.warning(
            "a memory of %d rows holds %d steps of each of %d environments, and an episode has "
            "outgrown it: only the later part of such episodes is kept. A capacity above n_envs "
            "times the longest episode keeps them whole.",
            self.capacity,
            self.capacity // n_envs,
            n_envs,
        )


class RingBuffer(RowLayout):
    """Serial s is stored in row `s % capacity`, until serial `s + capacity` replaces it."""

    def __init__(self, *, capacity: int, whole: bool) -> None:
        """
        Args:
            capacity: rows.
            whole: whether the whole episode is removed when its first row is overwritten.
        """
        super().__init__(capacity=capacity, n_slots=capacity)
        self._whole = whole

    @property
    def end(self) -> int:
        return min(self.n_written, self.capacity)

    @property
    def oldest(self) -> int:
        return max(0, self.n_written - self.capacity)

    def saved_rows(self, tensors: Mapping[str, np.ndarray]) -> int:
        return self.end

    def take(self, open_slots: Int64Array) -> Sequence[Part]:
        n = len(open_slots)
        parts = self._next_parts(n)
        self._forget(self._held(parts), n)
        self._begin(open_slots)
        self._extend(open_slots, parts)
        return parts

    def _next_parts(self, n: int) -> list[tuple[slice, slice]]:
        """Where the next n <= capacity rows are written."""
        start = self.n_written % self.capacity
        if start + n <= self.capacity:
            return [(slice(start, start + n), slice(0, n))]
        n_before_end = self.capacity - start
        return [
            (slice(start, self.capacity), slice(0, n_before_end)),
            (slice(0, n - n_before_end), slice(n_before_end, n)),
        ]

    def _held(self, parts: Sequence[Part]) -> Int64Array:
        """Slots of the episodes with rows there, once per row."""
        slots = np.concatenate([self.slots[to] for to, _ in parts])
        held: Int64Array = slots[slots != NONE]
        return held

    def _forget(self, slots: Int64Array, n_envs: int) -> None:
        """Free the rows that are written next; `slots` are their episodes, one entry per row.

        With `whole`, an episode is removed as a whole. An exception is an episode that is longer
        than the ring: its first row must be overwritten while it is still being written. It loses
        its first rows one by one, as removing all of it would empty the memory. The remaining rows
        keep their steps, and their returns-to-go, which depend on later rows only, stay exact.
        """
        if not len(slots):
            return
        slots, n_rows = np.unique(slots, return_counts=True)
        episodes = self.episodes
        whole = ~episodes.is_open[slots] & (episodes.first_step[slots] == 0)
        if not self._whole:
            whole[:] = False
        elif not whole.all():
            self._warn_small(n_envs)
        gone, cut = slots[whole], slots[~whole]
        self.slots[episodes.serials(gone) % self.capacity] = NONE
        episodes.drop_head(cut, n_rows[~whole])
        emptied = cut[(episodes.length[cut] == 0) & ~episodes.is_open[cut]]
        episodes.free(np.concatenate([gone, emptied]))

    def admit(self, slots: Int64Array) -> Int64Array:
        return slots

    def finish(self, slots: Int64Array, *, tasks: np.ndarray, values: np.ndarray) -> None:
        """Do nothing: a ring evicts by age only."""

    def rows_of(self, slot: int) -> Int64Array:
        rows: Int64Array = self.episodes.serials_of(slot) % self.capacity
        return rows

    def rows_of_all(self, slots: Int64Array) -> Int64Array:
        rows: Int64Array = self.episodes.serials(slots) % self.capacity
        return rows

    def index(self, rows: np.ndarray, slots: Int64Array) -> Int64Array:
        first, stride = self.episodes.first[slots], self.episodes.stride[slots]
        index: Int64Array = (self.serials(rows) - first) // stride
        return index

    def rows_at(self, rows: np.ndarray, slots: Int64Array, index: Int64Array) -> Int64Array:
        serials = self.episodes.first[slots] + index * self.episodes.stride[slots]
        at: Int64Array = serials % self.capacity
        return at

    def serials(self, rows: np.ndarray) -> Int64Array:
        newest = self.n_written - 1
        serials: Int64Array = newest - (newest - rows) % self.capacity
        return serials

    def tensors(self) -> dict[str, np.ndarray]:
        return {}

    def restore(
        self,
        slots: Int64Array,
        tensors: Mapping[str, np.ndarray],
        columns: Mapping[str, np.ndarray],
    ) -> None:
        rows = self.episodes.serials(slots) % self.capacity
        if len(np.unique(rows)) < len(rows):
            raise ValueError("two episodes claim one row")
        self.slots[rows] = np.repeat(slots, self.episodes.length[slots])
