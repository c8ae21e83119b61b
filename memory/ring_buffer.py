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
"""Places in the memory, and which of the rows being written go there."""


class RowLayout(ABC):
    """The places of a memory: which row of which episode lies at each.

    Rows are numbered for life by a *serial*, in the order in which they are written. One step
    writes one row for each environment.
    """

    def __init__(self, *, capacity: int, n_slots: int) -> None:
        self.capacity = capacity
        self.episodes = EpisodeTable(n_slots=n_slots)
        self.slots = np.full(capacity, NONE, dtype=np.int64)
        """Slot of the episode at each place; -1 where it is empty."""
        self.n_written = 0
        self._warned_small = False

    @property
    @abstractmethod
    def end(self) -> int:
        """All places from here on are empty."""

    @property
    @abstractmethod
    def oldest(self) -> int:
        """The least serial that may be stored."""

    @abstractmethod
    def saved_rows(self, tensors: Mapping[str, np.ndarray]) -> int:
        """What `end` was when `tensors()` gave these. ValueError if it cannot have been."""

    @abstractmethod
    def take(self, open_slots: Int64Array) -> Sequence[Part]:
        """RowLayout for the next row of each of n environments, made by forgetting if need be.

        `open_slots` (n,) says which episode each is in; -1, where it begins one, is filled in.
        """

    @abstractmethod
    def admit(self, slots: Int64Array) -> Int64Array:
        """Those of the episodes in `slots` (n,), which are over now, that may stay, in order.

        The others are forgotten here.
        """

    @abstractmethod
    def finish(self, slots: Int64Array, *, tasks: np.ndarray, values: np.ndarray) -> None:
        """Takes note of episodes (n,) that stay; `values`: return of the first row, or NaN."""

    @abstractmethod
    def rows_of(self, slot: int) -> Int64Array:
        """RowLayout of all rows of the episode in `slot`, in order of time."""

    def rows_of_all(self, slots: Int64Array) -> Int64Array:
        """`rows_of` of each of `slots` (n,), one after the other."""
        return np.concatenate([self.rows_of(slot) for slot in slots])

    @abstractmethod
    def index(self, rows: np.ndarray, slots: Int64Array) -> Int64Array:
        """Place of each row (n,) among the stored rows of its episode, in `slots` (n,)."""

    @abstractmethod
    def rows_at(self, rows: np.ndarray, slots: Int64Array, index: Int64Array) -> Int64Array:
        """Rows at `index` (n,) of the episodes of `rows` (n,), which lie in `slots` (n,)."""

    @abstractmethod
    def serials(self, rows: np.ndarray) -> Int64Array:
        """Serials of stored rows (n,)."""

    @abstractmethod
    def tensors(self) -> dict[str, np.ndarray]:
        """Arrays for a file, beside those of the episodes."""

    @abstractmethod
    def restore(
        self,
        slots: Int64Array,
        tensors: Mapping[str, np.ndarray],
        columns: Mapping[str, np.ndarray],
    ) -> None:
        """Lays out the episodes in `slots`, ascending by number, as when the file was written.

        Raises:
            ValueError: two claim one place, or `tensors` contradict the episodes.
        """

    def _extend(self, open_slots: Int64Array, parts: Sequence[Part]) -> None:
        """Gives each environment's episode its next row."""
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
    """The row of serial s lies at `s % capacity`, until one later by `capacity` comes there."""

    def __init__(self, *, capacity: int, whole: bool) -> None:
        """
        Args:
            capacity: rows.
            whole: is an episode forgotten as a whole when its first row must make place?
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
        """Where the next n <= capacity rows go."""
        start = self.n_written % self.capacity
        if start + n <= self.capacity:
            return [(slice(start, start + n), slice(0, n))]
        n_before_end = self.capacity - start
        return [
            (slice(start, self.capacity), slice(0, n_before_end)),
            (slice(0, n - n_before_end), slice(n_before_end, n)),
        ]

    def _held(self, parts: Sequence[Part]) -> Int64Array:
        """Slots of the episodes whose rows lie there."""
        slots = np.concatenate([self.slots[to] for to, _ in parts])
        held: Int64Array = slots[slots != NONE]
        return held

    def _forget(self, slots: Int64Array, n_envs: int) -> None:
        """Makes place where rows of the episodes in `slots` lie, the oldest of the ring.

        Where episodes are kept whole they go whole. Only one that outgrew the ring (it is still
        being written when its first row must go) loses its head alone, and from then on goes row
        by row: to drop it whole would empty the memory at a stroke. What is left of it keeps its
        steps, and its returns-to-go, which depend on later rows only, are still filled exactly.
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
        """Makes no difference: only age does."""

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
