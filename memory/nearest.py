"""Hard negatives: near in teacher space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import faiss
import numpy as np

from .base import Memory
from .candidates import SAVED, CandidateRows
from .negatives import (
    Insight,
    NegativeSampler,
    Pool,
    check_searched,
    check_share,
    n_hard,
)
from .observations import Int64Array

INDEXES = ("auto", "flat")
"""Settings of `index`; both are the exact search."""

N_GROUPS = 8
"""Neighbourhoods that the anchors of one auxiliary step come from."""


class _Nearest(NamedTuple):
    """The observations nearest to Q queries."""

    rows: Int64Array
    """(Q, k): rows of distinct observations, the nearest first."""
    n_usable: Int64Array
    """(Q,): only the first so many of a query's rows may be used."""
    n_ranked: int
    """Distinct observations that were ranked."""


class NearestNegatives(NegativeSampler):
    """Rows from a band of ranks around an anchor; at least half stay uniform.

    The B anchors come in G = 8 neighbourhoods, so that few negatives are near to all of them: G
    queries are drawn uniformly from the memory, and the anchors of a group are its query and the
    observations nearest to it. Anchor b is of group `b mod G`, and the first G are the queries.

    Near is what has keys of a large cosine. The *distinct* observations of a sample of the memory
    (`n_searched` rows; all of a smaller one), those still stored, are ranked by it, the query's
    own left out; the near negatives of a group are different ranks r drawn uniformly from
    `floor(low · m) <= r < ceil(high · m)`, m the number of those observations and r = 0 the
    nearest. They are `k · (1 - uniform_share)` of a group's k, or the whole band where it is
    smaller; the others are uniform, and shared by the groups as far as possible.

    The very nearest are skipped: the hardest 5 % are necessary and sufficient, the hardest 0.1 %
    often hurt (Cai et al. 2020, https://arxiv.org/abs/2010.06682).
    """

    name = "nearest"

    def __init__(
        self,
        *,
        band: tuple[float, float] = (0.001, 0.05),
        uniform_share: float = 0.5,
        n_searched: int = 4096,
        index: str = "auto",
    ) -> None:
        """
        Args:
            band: (low, high), shares of the ranks, 0 <= low < high <= 1.
            uniform_share: of the negatives, in [0.5, 1].
            n_searched: rows of the memory that are searched, >= 2.
            index: "auto" or "flat": the exact search, the only one.
        """
        low, high = band
        if not 0.0 <= low < high <= 1.0:
            raise ValueError(f"band is ({low}, {high}); expected 0 <= low < high <= 1")
        check_index(index)
        check_share(uniform_share)
        check_searched(n_searched)
        self.band = (float(low), float(high))
        self.uniform_share = uniform_share
        self._candidates = CandidateRows(n_searched)
        self._distinct: Int64Array = np.empty(0, np.int64)  # places among the searched rows
        self._keys: np.ndarray | None = None  # of the distinct observations

    def draw_anchors(
        self, memory: Memory, n: int, generator: np.random.Generator, insight: Insight
    ) -> Int64Array:
        """Up to n rows, in neighbourhoods; see the class. Fewer where there is less to search."""
        self._renew(memory, insight, generator, n_draws=1)
        queries = memory.sample_rows(min(N_GROUPS, n), generator)
        n_others = math.ceil(n / len(queries)) - 1
        nearest = self._nearest(memory, queries, n_others, insight)
        others = nearest.rows[:, : min(n_others, int(nearest.n_usable.min()))]
        return np.concatenate([queries, others.T.ravel()])[:n]

    def draw(
        self,
        memory: Memory,
        anchors: np.ndarray,
        k: int,
        generator: np.random.Generator,
        insight: Insight,
    ) -> Pool:
        n = n_hard(k, self.uniform_share)
        hard = self.near(memory, anchors[:N_GROUPS], n, generator, insight)
        uniform = generator.permutation(memory.sample_rows(k, generator))
        both = np.concatenate([hard, np.tile(uniform, (len(hard), 1))], axis=1)
        left_out = both < 0
        ascending = np.argsort(uniform)
        found = np.searchsorted(uniform, hard, sorter=ascending)
        found = ascending[np.minimum(found, len(uniform) - 1)]
        group, column = np.nonzero(uniform[found] == hard)  # a uniform one is among the near, too
        left_out[group, hard.shape[1] + found[group, column]] = True
        n_columns = min(k, both.shape[1] - int(left_out.sum(axis=1).max()))
        order = np.argsort(left_out, axis=1, kind="stable")[:, :n_columns]
        return Pool(np.take_along_axis(both, order, axis=1))

    def _renew(
        self, memory: Memory, insight: Insight, generator: np.random.Generator, *, n_draws: int
    ) -> bool:
        renewed = self._candidates.renew(memory, insight.snapshot, generator, n_draws=n_draws)
        if renewed or self._keys is None:
            _, self._distinct = np.unique(self._candidates.hashes, return_index=True)
            self._keys = insight.keys(self._candidates.rows[self._distinct])
            if not np.isfinite(self._keys).all():
                raise ValueError("the teacher's keys have numbers that are not finite")
        return renewed

    def near(
        self,
        memory: Memory,
        queries: np.ndarray,
        n: int,
        generator: np.random.Generator,
        insight: Insight,
    ) -> Int64Array:
        """For each of the rows `queries` (Q,) different rows from its band; see the class.

        Returns:
            (Q, n') int64, n' <= n; -1 in place of a row that is not to be used.
        """
        self._renew(memory, insight, generator, n_draws=0)
        nearest = self._nearest(memory, queries, 0, insight)
        first, last = self._ranks(nearest.n_ranked)
        last = min(last, nearest.rows.shape[1])
        if n == 0 or last <= first:
            return np.empty((len(queries), 0), np.int64)
        n_drawn = min(n, last - first)
        ranks = first + _distinct_numbers(generator, len(queries), n_drawn, last - first)
        rows = np.take_along_axis(nearest.rows, ranks, axis=1)
        found: Int64Array = np.where(ranks < nearest.n_usable[:, None], rows, -1)
        return found

    def _nearest(self, memory: Memory, queries: np.ndarray, k: int, insight: Insight) -> _Nearest:
        """Rank observations for the rows `queries` (Q,): the whole band, and at least the first k.

        The query's own observation and those overwritten since the sample was drawn are left out.
        """
        assert self._keys is not None
        live = self._candidates.unchanged(memory, self._distinct)
        m = int(live.sum())
        k = max(k, self._ranks(m)[1])
        n_skipped = 1 + len(live) - m  # the query's own, and those overwritten
        found = nearest_keys(self._keys, insight.keys(queries), k + n_skipped)
        own = self._candidates.hashes[self._distinct[found]] == memory.hashes(queries)[:, None]
        usable = live[found] & ~own & (found >= 0)
        order = np.argsort(~usable, axis=1, kind="stable")[:, :k]  # usable ones to the front
        places = np.take_along_axis(found, order, axis=1)
        rows = self._candidates.rows[self._distinct[places]]
        return _Nearest(rows, np.minimum(usable.sum(axis=1), k), m)

    def _ranks(self, m: int) -> tuple[int, int]:
        """First and one past the last of m ranks in the band: at least one, unless m is 0."""
        if m == 0:
            return 0, 0
        first = min(math.floor(self.band[0] * m), m - 1)
        return first, max(math.ceil(self.band[1] * m), first + 1)

    def state_arrays(self) -> dict[str, np.ndarray]:
        if self._keys is None:
            return {}
        return {
            **self._candidates.state_arrays(),
            "distinct": self._distinct,
            "keys": self._keys,
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._candidates.restore({key: arrays[key] for key in arrays if key in SAVED})
        if not arrays:
            self._keys = None
            return
        self._distinct = arrays["distinct"].astype(np.int64)
        self._keys = arrays["keys"].astype(np.float32)


def nearest_keys(keys: np.ndarray, queries: np.ndarray, k: int) -> Int64Array:
    """(Q, min(k, N)): places among `keys` (N, D) of those nearest to each query (Q, D).

    Near is what has a large inner product, for keys of length 1 the cosine. The nearest come first.
    """
    keys, queries = (np.ascontiguousarray(each, np.float32) for each in (keys, queries))
    metric = faiss.METRIC_INNER_PRODUCT
    _, places = faiss.knn(queries, keys, min(k, len(keys)), metric=metric)
    found: Int64Array = places
    return found


def check_index(index: str) -> None:
    """ValueError unless `index` is one of `INDEXES`."""
    if index == "ivf":
        raise ValueError(
            "index 'ivf' was removed, because it was never faster than the exact search; "
            "use index 'flat', or leave index out"
        )
    if index not in INDEXES:
        raise ValueError(f"index is {index!r}; expected one of {', '.join(INDEXES)}")


def _distinct_numbers(
    generator: np.random.Generator, n_rows: int, n_drawn: int, below: int
) -> Int64Array:
    """(n_rows, n_drawn) integers, uniform in [0, below), without duplicates within a row."""
    numbers: Int64Array = generator.random((n_rows, below)).argpartition(n_drawn - 1, axis=1)
    return numbers[:, :n_drawn]
