"""The table of stored episodes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .observations import Int64Array
from .storage import require, tensor_of, within

NONE = -1


FIELDS = ("ids", "first", "stride", "length", "first_step", "is_open")
_FEWEST_SLOTS = 256


class EpisodeTable:
    """The stored episodes, one per slot; every field is an array with one entry per slot.

    The number of slots grows with the number of stored episodes, up to `n_slots`.

    Each row that is written gets a *serial*: the i-th row ever written has serial i, and keeps it.
    One step writes one row for each environment, so the rows of an episode have the serials
    `first + stride * index`, wherever they are stored.
    """

    def __init__(self, *, n_slots: int) -> None:
        self.n_slots = n_slots
        n = min(n_slots, _FEWEST_SLOTS)
        self.ids = np.full(n, NONE, dtype=np.int64)
        """Number of the episode, in the order in which episodes began; -1 marks a free slot."""
        self.first = np.zeros(n, dtype=np.int64)
        """Serial of its first stored row."""
        self.stride = np.ones(n, dtype=np.int64)
        """Difference of serials between two steps: the number of environments that wrote it."""
        self.length = np.zeros(n, dtype=np.int64)
        """How many of its rows are stored."""
        self.first_step = np.zeros(n, dtype=np.int64)
        """Step of its first stored row; above 0 once its head has been overwritten."""
        self.is_open = np.zeros(n, dtype=np.bool_)
        """Whether it is still being written."""
        self.next_id = 0
        self.n_rows = 0
        """Number of stored rows of all episodes."""
        self._free = np.arange(n - 1, -1, -1, dtype=np.int64)  # a stack of `_n_free` entries
        self._n_free = n

    def open(self, first: Int64Array, stride: int) -> Int64Array:
        """Begin one episode for each serial in `first` (n,); return their slots (n,)."""
        n = len(first)
        if n > self._n_free:
            self._grow(n - self._n_free)
        slots = self._free[self._n_free - n : self._n_free][::-1].copy()
        self._n_free -= n
        self.ids[slots] = self.next_id + np.arange(n)
        self.next_id += n
        self.first[slots] = first
        self.stride[slots] = stride
        self.length[slots] = 0
        self.first_step[slots] = 0
        self.is_open[slots] = True
        return slots

    def _grow(self, n_lacking: int) -> None:
        """Add at least `n_lacking` free slots."""
        n_now = len(self.ids)
        n = min(max(2 * n_now, n_now + n_lacking), self.n_slots)
        for name in FIELDS:
            field = getattr(self, name)
            grown = np.full(n, NONE if name == "ids" else name == "stride", dtype=field.dtype)
            grown[:n_now] = field
            setattr(self, name, grown)
        free = np.zeros(n, dtype=np.int64)
        free[: n - n_now] = np.arange(n - 1, n_now - 1, -1)
        free[n - n_now : n - n_now + self._n_free] = self._free[: self._n_free]
        self._free, self._n_free = free, n - n_now + self._n_free

    def extend(self, slots: Int64Array) -> None:
        """Add one row to an episode for each time it occurs in `slots` (n,)."""
        np.add.at(self.length, slots, 1)
        self.n_rows += len(slots)

    def free(self, slots: Int64Array) -> None:
        """Remove the episodes in `slots` (n,), which has no duplicates."""
        self.n_rows -= int(self.length[slots].sum())
        self.ids[slots] = NONE
        self.length[slots] = 0
        self.is_open[slots] = False
        self._free[self._n_free : self._n_free + len(slots)] = slots
        self._n_free += len(slots)

    def drop_head(self, slots: Int64Array, n_rows: Int64Array) -> None:
        """Remove the first `n_rows` (n,) rows of the episodes in `slots` (n,)."""
        self.first[slots] += n_rows * self.stride[slots]
        self.first_step[slots] += n_rows
        self.length[slots] -= n_rows
        self.n_rows -= int(n_rows.sum())

    def alive(self) -> Int64Array:
        """Slots in use, in the order in which their episodes began."""
        slots = np.flatnonzero(self.ids != NONE)
        return slots[np.argsort(self.ids[slots])]

    def serials(self, slots: Int64Array) -> Int64Array:
        """Serials of all rows of the episodes in `slots`, one episode after the other."""
        lengths = self.length[slots]
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        index = np.arange(total) - np.repeat(ends - lengths, lengths)
        serials: Int64Array = np.repeat(self.first[slots], lengths) + index * np.repeat(
            self.stride[slots], lengths
        )
        return serials

    def serials_of(self, slot: int) -> Int64Array:
        """Serials of all rows of the episode in `slot`, in order of time."""
        first, stride = self.first[slot], self.stride[slot]
        serials: Int64Array = first + stride * np.arange(self.length[slot])
        return serials

    def state(self) -> dict[str, np.ndarray]:
        """Every field of the stored episodes, in the order in which they began."""
        slots = self.alive()
        return {f"episodes/{name}": getattr(self, name)[slots] for name in FIELDS}

    def restore(
        self,
        tensors: Mapping[str, np.ndarray],
        *,
        next_id: int,
        serials: tuple[int, int],
        capacity: int,
    ) -> Int64Array:
        """Fill an empty table from a `state`; return the slots (n,) of its episodes.

        Args:
            tensors: named as in `state`.
            next_id: number of the next episode.
            serials: the smallest serial that a stored row may have, and one past the largest.
            capacity: rows of the memory.

        Raises:
            ValueError: a field is missing, or out of range.
        """
        saved = {
            name: tensor_of(tensors, f"episodes/{name}", getattr(self, name).dtype.type)
            for name in FIELDS
        }
        n = len(saved["ids"])
        require(all(a.shape == (n,) for a in saved.values()), "episode fields differ in length")
        require(n <= self.n_slots, f"{n} episodes cannot lie in {capacity} rows")
        require(within(saved["ids"], 0, next_id), "episode numbers are out of range")
        require(bool((np.diff(saved["ids"]) > 0).all()), "episode numbers are not ascending")
        require(within(saved["first"], *serials), "an episode begins outside the memory")
        require(within(saved["stride"], 1, capacity + 1), "an episode's stride is wrong")
        require(within(saved["length"], 1, capacity + 1), "an episode's length is wrong")
        require(bool((saved["first_step"] >= 0).all()), "an episode's first step is below 0")
        last = saved["first"] + saved["stride"] * (saved["length"] - 1)
        require(within(last, *serials), "an episode ends outside the memory")
        slots = self.open(saved["first"], stride=1)
        for name in FIELDS:
            getattr(self, name)[slots] = saved[name]
        self.next_id, self.n_rows = next_id, int(saved["length"].sum())
        return slots

    def open_slots(
        self, tensors: Mapping[str, np.ndarray], n_envs: int, n_written: int
    ) -> Int64Array:
        """(n_envs,): slot of the open episode of each environment; -1 where it has none.

        Raises:
            ValueError: the row that an environment writes next would not continue its episode.
        """
        open_ids = tensor_of(tensors, "open_episodes", np.int64)
        require(open_ids.shape == (n_envs,), f"open_episodes is not of shape ({n_envs},)")
        alive = self.alive()
        envs = np.flatnonzero(open_ids != NONE)
        of_envs = alive[np.isin(self.ids[alive], open_ids)]
        require(
            sorted(open_ids[envs].tolist()) == self.ids[alive[self.is_open[alive]]].tolist(),
            "the open episodes are not those of the environments",
        )
        of_envs = of_envs[np.searchsorted(self.ids[of_envs], open_ids[envs])]
        following = self.first[of_envs] + self.stride[of_envs] * self.length[of_envs]
        require(
            bool((self.stride[of_envs] == n_envs).all())
            and bool((following == n_written + envs).all()),
            "an open episode does not end with its environment's last row",
        )
        slots = np.full(n_envs, NONE, dtype=np.int64)
        slots[envs] = of_envs
        return slots
