"""The stored rows of a memory, to read and to sample from."""

from __future__ import annotations

import copy
from typing import Self

import numpy as np

from .episode_table import NONE, EpisodeTable
from .observations import Int64Array, Observations
from .ring_buffer import RowLayout
from .row_store import RowStore
from .rows import MemoryBatch, RowInfo


class StoredRows:
    """The reading half of a memory; it writes nothing.

    A row is one step of one environment. Rows are known by their place in the memory, (n,) int64
    in `[0, capacity)`; a place holds the same row until the memory is next added to.
    """

    def __init__(self, *, layout: RowLayout) -> None:
        """
        Args:
            layout: which row of which episode lies where; empty yet.
        """
        self.capacity = layout.capacity
        self.tasks: tuple[str, ...] = ()
        """Names of all tasks ever started; `task_ids` are indexes into it."""
        self._store = RowStore(capacity=self.capacity)
        self._layout = layout
        self._recent_from = 0
        self._rows: Int64Array | None = None
        self._recent_rows: Int64Array | None = None

    @property
    def _episodes(self) -> EpisodeTable:
        return self._layout.episodes

    @property
    def _slots(self) -> Int64Array:
        """(capacity,): slot of the episode at each place; -1 where it is empty."""
        return self._layout.slots

    def __len__(self) -> int:
        """Rows stored."""
        return self._episodes.n_rows

    def rows(self) -> Int64Array:
        """All stored rows, (n,) int64, ascending; read-only, and kept between `add`s."""
        if self._rows is None:
            self._rows = np.flatnonzero(self._slots != NONE)
            self._rows.flags.writeable = False
        return self._rows

    def recent_rows(self) -> Int64Array:
        """As `rows`, but only those written since `begin_rollout`; all if it was not called."""
        if self._recent_rows is None:
            rows = self.rows()
            self._recent_rows = rows[self._layout.serials(rows) >= self._recent_from]
            self._recent_rows.flags.writeable = False
        return self._recent_rows

    def stored(self, rows: np.ndarray) -> np.ndarray:
        """(n,) bool: do these places hold a row?"""
        held: np.ndarray = self._slots[rows] != NONE
        return held

    def observations(self, rows: np.ndarray) -> Observations:
        """(n, ...) or a dict of such."""
        return self._store.take_observations(rows)

    def actions(self, rows: np.ndarray) -> np.ndarray:
        """(n, ...), in the dtype in which they came."""
        return self._store.take("actions", rows)

    def rewards(self, rows: np.ndarray) -> np.ndarray:
        """(n,) float32."""
        return self._store.take("rewards", rows)

    def returns(self, rows: np.ndarray) -> np.ndarray:
        """(n,) float32: discounted return-to-go; 0 where it is not known."""
        return self._store.take("returns", rows)

    def with_returns(self, rows: np.ndarray, returns: np.ndarray) -> Self:
        """A view of the memory in which `rows` (N,) have other `returns` (N,) float32.

        It shares all other arrays with the memory. Read it only until the memory is next added to.
        """
        view = copy.copy(self)
        view._store = copy.copy(self._store)
        if len(rows):
            changed = self._store.columns["returns"].copy()
            changed[rows] = returns
            view._store.columns = {**self._store.columns, "returns": changed}
        return view

    def return_known(self, rows: np.ndarray) -> np.ndarray:
        """(n,) bool."""
        return self._store.take("return_known", rows)

    def task_ids(self, rows: np.ndarray) -> Int64Array:
        """(n,) int64: indexes into `tasks`."""
        return self._store.take("task_ids", rows).astype(np.int64)

    def times(self, rows: np.ndarray) -> Int64Array:
        """(n,) int64: the agent's frame count when they were written."""
        return self._store.take("times", rows)

    def hashes(self, rows: np.ndarray) -> Int64Array:
        """(n,) int64: `hash_observations` of their observations."""
        return self._store.take("hashes", rows)

    def episodes(self, rows: np.ndarray) -> Int64Array:
        """(n,) int64: numbers of their episodes, in the order in which these began."""
        numbers: Int64Array = self._episodes.ids[self._slots_of(rows)]
        return numbers

    def steps(self, rows: np.ndarray) -> Int64Array:
        """(n,) int64: step within the episode, from 0."""
        slots = self._slots_of(rows)
        steps: Int64Array = self._episodes.first_step[slots] + self._layout.index(rows, slots)
        return steps

    def remaining(self, rows: np.ndarray) -> Int64Array:
        """(n,) int64: how many later rows of the same episode are stored."""
        slots = self._slots_of(rows)
        index = self._layout.index(rows, slots)
        remaining: Int64Array = self._episodes.length[slots] - 1 - index
        return remaining

    def later_rows(self, rows: np.ndarray, offsets: np.ndarray) -> tuple[Int64Array, np.ndarray]:
        """The rows of the same episodes `offsets` (n,) steps later (below 0: earlier).

        Returns:
            rows (n,) int64, inside (n,) bool: False, with the row itself in place, where the
            episode has no such row stored.
        """
        slots = self._slots_of(rows)
        index = self._layout.index(rows, slots)
        later = index + offsets
        inside = (later >= 0) & (later < self._episodes.length[slots])
        return self._layout.rows_at(rows, slots, np.where(inside, later, index)), inside

    def sample_rows(
        self, n: int, generator: np.random.Generator, recent: bool = False
    ) -> Int64Array:
        """min(n, stored) different rows, uniformly; only recent ones if `recent`."""
        all_alike = not recent or self._recent_from == 0
        if all_alike and len(self) >= max(2 * n, self._layout.end // 2):
            return self._picked(n, generator)
        rows = self.rows() if all_alike else self.recent_rows()
        picked: Int64Array = generator.choice(
            rows, size=min(n, len(rows)), replace=False, shuffle=False
        )
        return picked

    def _picked(self, n: int, generator: np.random.Generator) -> Int64Array:
        """n stored rows by rejection, without listing all rows after each `add`."""
        rows, end = np.empty(0, dtype=np.int64), self._layout.end
        while len(rows) < n:  # half of the places hold a row, and most are not drawn yet
            places = generator.integers(0, end, size=3 * (n - len(rows)))
            drawn = np.concatenate([rows, places[self.stored(places)]])
            _, first = np.unique(drawn, return_index=True)
            rows = drawn[np.sort(first)][:n]
        return rows

    def sample(self, n: int, generator: np.random.Generator, recent: bool = False) -> MemoryBatch:
        """The batch of `sample_rows`."""
        return self.batch(self.sample_rows(n, generator, recent=recent))

    def batch(self, rows: np.ndarray) -> MemoryBatch:
        """Everything known of `rows` (B,)."""
        following, has_next = self.later_rows(rows, np.ones(len(rows), dtype=np.int64))
        return MemoryBatch(
            rows=rows,
            observations=self.observations(rows),
            next_observations=self.observations(following),
            has_next=has_next,
            actions=self.actions(rows),
            rewards=self.rewards(rows),
            returns=self.returns(rows),
            return_known=self.return_known(rows),
            tasks=self.task_ids(rows),
            episodes=self.episodes(rows),
            steps=self.steps(rows),
            times=self.times(rows),
            hashes=self.hashes(rows),
        )

    def info(self, rows: np.ndarray) -> RowInfo:
        """The `RowInfo` of `rows` (n,), for masks; rows that are no longer stored are invalid."""
        valid = self._slots[rows] != NONE
        slots = np.where(valid, self._slots[rows], 0)
        steps = self._episodes.first_step[slots] + self._layout.index(rows, slots)
        return RowInfo(
            rows=np.where(valid, rows, -1),
            hashes=self.hashes(rows),
            episodes=np.where(valid, self._episodes.ids[slots], -1),
            steps=np.where(valid, steps, 0),
            valid=valid,
        )

    def finished_returns(self, n: int) -> np.ndarray:
        """(<= n,) float64: sums of the rewards of the last n finished episodes stored whole.

        Undiscounted, in the order in which the episodes began; also of those that were truncated
        or cut, whose discounted returns may be unknown.
        """
        slots = self._episodes.alive()
        whole = ~self._episodes.is_open[slots] & (self._episodes.first_step[slots] == 0)
        slots = slots[whole][-n:]
        return np.array(
            [self.rewards(self._layout.rows_of(slot)).sum(dtype=np.float64) for slot in slots]
        )

    def known_fraction(self) -> float:
        """Share of the stored rows whose return is known; 0 for an empty memory."""
        if not len(self):
            return 0.0
        end = self._layout.end
        known = self._store.columns["return_known"][:end] & (self._slots[:end] != NONE)
        return float(np.count_nonzero(known) / len(self))

    @property
    def nbytes(self) -> int:
        """Bytes of the rows' arrays, which are allocated at the first `add`."""
        return self._store.nbytes

    def _slots_of(self, rows: np.ndarray) -> Int64Array:
        slots: Int64Array = self._slots[rows]
        if (slots == NONE).any():
            row = int(np.asarray(rows)[slots == NONE][0])
            raise IndexError(f"row {row} is not stored; rows() lists those which are")
        return slots
