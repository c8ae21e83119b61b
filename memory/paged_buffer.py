"""A buffer of chained pages, from which any episode can be evicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .episode_table import NONE
from .eviction import PAGE, EvictionPolicy, FinishedEpisodes
from .observations import Int64Array
from .ring_buffer import Part, RowLayout

_IN_PAGE = np.arange(PAGE)
_FINISHED = [("slot", "i8"), ("number", "i8"), ("length", "i8"), ("task", "i8"), ("value", "f8")]


class PagedBuffer(RowLayout):
    """The memory is divided into pages of 8 rows; each episode fills a chain of pages in order.

    An environment that needs a page gets the first free one. If there are too few, `keep` chooses
    finished episodes, which are evicted as a whole, until there are enough. An open episode never
    has more than its environment's share of the pages, `n_pages // n_envs`: at that length its
    first page is reused as its last. So there is always a finished episode to evict.

    The last page of an episode is half empty on average: T rows occupy about T + 3.5.
    """

    def __init__(self, *, capacity: int, keep: EvictionPolicy) -> None:
        n = capacity // PAGE
        super().__init__(capacity=capacity, n_slots=n)
        self.keep = keep
        self.n_pages = n
        self._slots_in = self.slots[: n * PAGE].reshape(n, PAGE)  # a view: of each page
        self._slot_of = np.full(n, NONE, dtype=np.int64)  # of each page; NONE: free
        self._ordinal = np.zeros(n, dtype=np.int64)  # of each page: ascending along a chain
        self._next = np.full(n, NONE, dtype=np.int64)  # of each page; NONE: the last
        self._head = np.full(n, NONE, dtype=np.int64)  # of each slot; NONE: it has no page
        self._tail = np.full(n, NONE, dtype=np.int64)
        self._finished = np.zeros(n, dtype=_FINISHED)  # the first `_n_finished` entries, unordered
        self._n_finished = 0

    @property
    def end(self) -> int:
        used = np.flatnonzero(self._slot_of != NONE)
        return int(used[-1] + 1) * PAGE if len(used) else 0

    @property
    def oldest(self) -> int:
        return 0

    def saved_rows(self, tensors: Mapping[str, np.ndarray]) -> int:
        owners = tensors.get("pages/episodes")
        if owners is None or owners.ndim != 1 or owners.dtype != np.int64:
            raise ValueError("pages/episodes is missing, or not int64 of one axis")
        if len(owners) > self.n_pages:
            raise ValueError(f"pages/episodes has {len(owners)} pages, not up to {self.n_pages}")
        return len(owners) * PAGE

    def take(self, open_slots: Int64Array) -> Sequence[Part]:
        lengths = np.where(open_slots == NONE, 0, self.episodes.length[open_slots])
        in_page = lengths % PAGE
        starved = (in_page == 0).nonzero()[0]
        if len(starved):
            self._drop_heads(open_slots[lengths == self.n_pages // len(open_slots) * PAGE])
            pages = self._free_pages(len(starved))
            self._begin(open_slots)
            self._append(open_slots[starved], pages)
        parts = [(self._tail[open_slots] * PAGE + in_page, slice(None))]
        self._extend(open_slots, parts)
        return parts

    def admit(self, slots: Int64Array) -> Int64Array:
        admitted = [self.keep.admits(number) for number in self.episodes.ids[slots].tolist()]
        for slot in slots[np.logical_not(admitted)]:
            self._forget(int(slot))
        return slots[admitted]

    def finish(self, slots: Int64Array, *, tasks: np.ndarray, values: np.ndarray) -> None:
        n = self._n_finished
        table = self._finished[n : n + len(slots)]
        table["slot"], table["number"] = slots, self.episodes.ids[slots]
        table["length"], table["task"] = self.episodes.length[slots], tasks
        table["value"] = values
        self._n_finished = n + len(slots)

    def rows_of(self, slot: int) -> Int64Array:
        pages = self._pages_of(slot)
        pages = pages[self._ordinal[pages].argsort()]
        return _rows(pages).reshape(-1)[: self.episodes.length[slot]]

    def index(self, rows: np.ndarray, slots: Int64Array) -> Int64Array:
        n_before = self._ordinal[rows // PAGE] - self._ordinal[self._head[slots]]
        index: Int64Array = n_before * PAGE + rows % PAGE
        return index

    def rows_at(self, rows: np.ndarray, slots: Int64Array, index: Int64Array) -> Int64Array:
        heads = self._head[slots]
        wanted = self._ordinal[heads] + index // PAGE
        pages = rows // PAGE
        pages = np.where(self._ordinal[pages] <= wanted, pages, heads)
        before = (self._ordinal[pages] < wanted).nonzero()[0]
        while len(before):  # follow the chain, one page per pass
            pages[before] = self._next[pages[before]]
            before = before[self._ordinal[pages[before]] < wanted[before]]
        at: Int64Array = pages * PAGE + index % PAGE
        return at

    def serials(self, rows: np.ndarray) -> Int64Array:
        slots = self.slots[rows]
        first, stride = self.episodes.first[slots], self.episodes.stride[slots]
        serials: Int64Array = first + stride * self.index(rows, slots)
        return serials

    # ---------------------------------------------------------------- making room

    def _free_pages(self, n: int) -> Int64Array:
        """The first n free pages, (n,); evicts finished episodes until there are enough."""
        free = self._pages_of(NONE)
        if len(free) < n:
            while len(free) < n:
                free = np.concatenate([free, self._forget(self._choose())])
            free.sort()
        return free[:n]

    def _pages_of(self, slot: int) -> Int64Array:
        """Pages of the episode in `slot`, or the free pages if it is NONE; in ascending order."""
        pages: Int64Array = (self._slot_of == slot).nonzero()[0]
        return pages

    def _choose(self) -> int:
        """Choose the finished episode to evict, and take it off the list; return its slot."""
        n = self._n_finished
        table = self._finished[:n]
        leaving = self.keep.victim(
            FinishedEpisodes(table["number"], table["length"], table["task"], table["value"])
        )
        slot = int(table["slot"][leaving])
        table[leaving] = table[n - 1]
        self._n_finished = n - 1
        return slot

    def _forget(self, slot: int) -> Int64Array:
        """Remove the episode in `slot`; return the pages it had."""
        pages = self._pages_of(slot)
        self._empty(pages)
        self._head[slot] = self._tail[slot] = NONE
        self.episodes.free(np.array([slot]))
        return pages

    def _drop_heads(self, slots: Int64Array) -> None:
        """Free the first page of each open episode in `slots`."""
        if not len(slots):
            return
        self._warn_small(int(self.episodes.stride[slots[0]]))
        pages = self._head[slots]
        self._head[slots] = self._next[pages]
        self._tail[slots[self._head[slots] == NONE]] = NONE
        self._empty(pages)
        self.episodes.drop_head(slots, np.full(len(slots), PAGE))

    def _empty(self, pages: Int64Array) -> None:
        self._slot_of[pages] = NONE
        self._slots_in[pages] = NONE

    def _append(self, slots: Int64Array, pages: Int64Array) -> None:
        """Append one of the `pages` (n,) to each of the episodes in `slots` (n,)."""
        last = self._tail[slots]
        has_pages = last != NONE
        self._next[last[has_pages]] = pages[has_pages]
        self._head[slots[~has_pages]] = pages[~has_pages]
        self._tail[slots] = pages
        self._next[pages] = NONE
        self._ordinal[pages] = np.where(has_pages, self._ordinal[last] + 1, 0)
        self._slot_of[pages] = slots

    # ---------------------------------------------------------------- files

    def tensors(self) -> dict[str, np.ndarray]:
        n_used = self.end // PAGE
        slots = self._slot_of[:n_used]
        index = self._ordinal[:n_used] - self._ordinal[self._head[slots]]
        return {
            "pages/episodes": np.where(slots == NONE, NONE, self.episodes.ids[slots]),
            "pages/index": np.where(slots == NONE, 0, index),
        }

    def restore(
        self,
        slots: Int64Array,
        tensors: Mapping[str, np.ndarray],
        columns: Mapping[str, np.ndarray],
    ) -> None:
        owners, index = tensors["pages/episodes"], tensors.get("pages/index")
        if index is None or index.shape != owners.shape or index.dtype != np.int64:
            raise ValueError("pages/index is missing, or not int64 and as long as pages/episodes")
        pages = np.flatnonzero(owners != NONE)
        pages = pages[np.lexsort((index[pages], owners[pages]))]
        ids, lengths = self.episodes.ids[slots], self.episodes.length[slots]
        n_pages = -(-lengths // PAGE)
        ends = n_pages.cumsum()
        expected = np.arange(n_pages.sum()) - np.repeat(ends - n_pages, n_pages)
        if not np.array_equal(owners[pages], np.repeat(ids, n_pages)) or not np.array_equal(
            index[pages], expected
        ):
            raise ValueError("the pages are not those of the episodes")
        self._slot_of[pages] = np.repeat(slots, n_pages)
        self._ordinal[pages] = expected
        self._next[pages[:-1]] = pages[1:]
        self._next[pages[ends - 1]] = NONE
        self._head[slots], self._tail[slots] = pages[ends - n_pages], pages[ends - 1]
        places = _rows(pages).reshape(-1)
        filled = np.arange(PAGE * len(pages)) - PAGE * np.repeat(ends - n_pages, PAGE * n_pages)
        places = places[filled < np.repeat(lengths, PAGE * n_pages)]
        self.slots[places] = np.repeat(slots, lengths)
        over = slots[~self.episodes.is_open[slots]]
        first = self._head[over] * PAGE
        if len(over):
            values = np.where(columns["return_known"][first], columns["returns"][first], np.nan)
            self.finish(over, tasks=columns["task_ids"][first], values=values)


def _rows(pages: Int64Array) -> Int64Array:
    """(n, 8): the rows of each of the pages (n,)."""
    rows: Int64Array = pages[:, None] * PAGE + _IN_PAGE
    return rows
