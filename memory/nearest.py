"""Hard negatives: near in teacher space, and those of them after which something else followed."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .base import Memory
from .nearest_keys import Index, NearestKeys
from .negatives import (
    Insight,
    NegativeSampler,
    Pool,
    check_searched,
    check_share,
    n_hard,
)
from .observations import Int64Array
from .rows import beside_lines, line_of_each
from .searched import KEPT, SearchedRows

N_GROUPS = 8
"""Neighbourhoods that the anchors of one auxiliary step come from."""
_SMALLEST_SCALE = 1e-6  # returns of a task that vary less do not vary


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
        index: Index = "auto",
    ) -> None:
        """
        Args:
            band: (low, high), shares of the ranks, 0 <= low < high <= 1.
            uniform_share: of the negatives, in [0.5, 1].
            n_searched: rows of the memory that are searched, >= 2.
            index: how, see `NearestKeys`.
        """
        low, high = band
        if not 0.0 <= low < high <= 1.0:
            raise ValueError(f"band is ({low}, {high}); expected 0 <= low < high <= 1")
        check_share(uniform_share)
        check_searched(n_searched)
        self.band = (float(low), float(high))
        self.uniform_share = uniform_share
        self._index = index
        self._searched = SearchedRows(n_searched)
        self._distinct: Int64Array = np.empty(0, np.int64)  # places among the searched rows
        self._keys: NearestKeys | None = None

    def draw_anchors(
        self, memory: Memory, n: int, generator: np.random.Generator, insight: Insight
    ) -> Int64Array:
        """Up to n rows, in neighbourhoods; see the class. Fewer where there is less to search."""
        self._renew(memory, insight, generator)
        queries = memory.sample_rows(min(N_GROUPS, n), generator)
        n_others = math.ceil(n / len(queries)) - 1
        ranked, n_usable = self._ranked(memory, queries, n_others, insight, self._live(memory))
        others = ranked[:, : min(n_others, int(n_usable.min()))]
        rows = np.concatenate([queries, self._rows(others).T.ravel()])
        return rows[:n]

    def draw(
        self,
        memory: Memory,
        anchors: np.ndarray,
        k: int,
        generator: np.random.Generator,
        insight: Insight,
    ) -> Pool:
        near = self.near(
            memory, anchors[:N_GROUPS], n_hard(k, self.uniform_share), generator, insight
        )
        uniform = generator.permutation(memory.sample_rows(k, generator))
        lines = [
            np.concatenate([rows, uniform[~np.isin(uniform, rows)][: k - len(rows)]])
            for rows in near
        ]
        return Pool(np.stack(lines))

    def _renew(self, memory: Memory, insight: Insight, generator: np.random.Generator) -> bool:
        renewed = self._searched.renew(memory, insight.snapshot, generator)
        if renewed or self._keys is None:
            _, self._distinct = np.unique(self._searched.hashes, return_index=True)
            keys = insight.keys(self._searched.rows[self._distinct])
            self._keys = NearestKeys(keys, index=self._index)
        return renewed

    def near(
        self,
        memory: Memory,
        queries: np.ndarray,
        n: int,
        generator: np.random.Generator,
        insight: Insight,
    ) -> list[Int64Array]:
        """For each of the rows `queries` up to n different rows from its band; see the class."""
        self._renew(memory, insight, generator)
        live = self._live(memory)
        m = int(live.sum())
        if n == 0 or m == 0:
            return [np.empty(0, np.int64) for _ in queries]
        first, last = self._ranks(m)
        ranked, n_usable = self._ranked(memory, queries, last, insight, live)
        last = min(last, ranked.shape[1])
        if last <= first:
            return [np.empty(0, np.int64) for _ in queries]
        n_drawn = min(n, last - first)
        drawn = first + _distinct_numbers(generator, len(queries), n_drawn, last - first)
        places = np.take_along_axis(ranked, drawn, axis=1)
        return [
            self._rows(line[ranks < found])
            for line, ranks, found in zip(places, drawn, n_usable, strict=True)
        ]

    def _live(self, memory: Memory) -> np.ndarray:
        """(m,) bool: which of the distinct observations searched are still stored."""
        return self._searched.unchanged(memory, self._distinct)

    def _rows(self, places: np.ndarray) -> Int64Array:
        """Rows of the memory that hold the distinct observations at `places`."""
        rows: Int64Array = self._searched.rows[self._distinct[places]]
        return rows

    def _ranked(
        self, memory: Memory, queries: np.ndarray, k: int, insight: Insight, live: np.ndarray
    ) -> tuple[Int64Array, Int64Array]:
        """The k distinct observations nearest to each of Q rows, but its own and those overwritten.

        Returns:
            places (Q, k') int64, the nearest first, and (Q,) how many of a line are to be used.
        """
        assert self._keys is not None
        n_skipped = 1 + int((~live).sum())  # the own, and those overwritten
        found, _ = self._keys.search(insight.keys(queries), k + n_skipped)
        own = self._searched.hashes[self._distinct[found]] == memory.hashes(queries)[:, None]
        usable = live[found] & ~own & (found >= 0)
        order = np.argsort(~usable, axis=1, kind="stable")[:, :k]  # usable ones to the front
        return np.take_along_axis(found, order, axis=1), np.minimum(usable.sum(axis=1), k)

    def _ranks(self, m: int) -> tuple[int, int]:
        """First and one past the last of m ranks in the band; at least one."""
        first = min(math.floor(self.band[0] * m), m - 1)
        return first, max(math.ceil(self.band[1] * m), first + 1)

    def state_arrays(self) -> dict[str, np.ndarray]:
        if self._keys is None:
            return {}
        return {
            **self._searched.state_arrays(),
            "distinct": self._distinct,
            "keys": self._keys.keys,
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._searched.restore({key: arrays[key] for key in arrays if key in KEPT})
        if not arrays:
            self._keys = None
            return
        self._distinct = arrays["distinct"].astype(np.int64)
        self._keys = NearestKeys(arrays["keys"], index=self._index)


class ValueContrastNegatives(NearestNegatives):
    """Near in teacher space, different in what followed.

    Drawn as `NearestNegatives`, and weighed: `w_bj = 1 - exp(-|G_j - G_b| / s)`, G the discounted
    return-to-go and s the standard deviation of the task's known returns among the rows searched.
    w = 1 where one of the returns is not known yet, for rows of another task, and where the
    task's returns do not vary yet. That softly removes false negatives: rows after which the same
    followed (compare policy similarity, Agarwal et al. 2021, https://arxiv.org/abs/2101.05265).
    """

    name = "value_contrast"
    uses_returns = True

    _scales: np.ndarray = np.empty(0)

    def draw(
        self,
        memory: Memory,
        anchors: np.ndarray,
        k: int,
        generator: np.random.Generator,
        insight: Insight,
    ) -> Pool:
        pool = super().draw(memory, anchors, k, generator, insight)
        weights = value_log_weights(memory, anchors, pool.rows, self._scales)
        return Pool(pool.rows, weights)

    def _renew(self, memory: Memory, insight: Insight, generator: np.random.Generator) -> bool:
        renewed = super()._renew(memory, insight, generator)
        if renewed:
            self._scales = return_scales(memory, self._searched.rows)
        return renewed

    def state_arrays(self) -> dict[str, np.ndarray]:
        state = super().state_arrays()
        return {**state, "scales": self._scales} if state else {}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().restore(arrays)
        if arrays:
            self._scales = arrays["scales"].astype(np.float64)


def return_scales(memory: Memory, rows: np.ndarray) -> np.ndarray:
    """(n_tasks,): standard deviation of each task's known returns among `rows`; 0 without any."""
    known = memory.return_known(rows)
    returns, tasks = memory.returns(rows)[known].astype(np.float64), memory.task_ids(rows)[known]
    n_tasks = len(memory.tasks)
    counts = np.maximum(np.bincount(tasks, minlength=n_tasks), 1)
    means = np.bincount(tasks, returns, n_tasks) / counts
    variances = np.bincount(tasks, (returns - means[tasks]) ** 2, n_tasks) / counts
    return np.sqrt(variances)


def value_log_weights(
    memory: Memory, anchors: np.ndarray, negatives: np.ndarray, scales: np.ndarray
) -> np.ndarray:
    """(B, K) float32: `log(1 - exp(-|G_j - G_b| / s))`, or 0 where that does not apply.

    Args:
        memory: of both.
        anchors: (B,) rows.
        negatives: (K,) rows, or (G, K), of which anchor b has line `b mod G`.
        scales: (n_tasks,) s of each task; the weight is 1 where it is next to 0.
    """
    tasks = memory.task_ids(anchors)
    scale = np.zeros(len(memory.tasks))
    scale[: len(scales)] = scales  # a task that came since varies not yet
    own = scale[tasks]
    varies = memory.return_known(anchors) & (own > _SMALLEST_SCALE)
    divisor = np.maximum(own, _SMALLEST_SCALE).astype(np.float32)
    known, their_tasks = memory.return_known(negatives), memory.task_ids(negatives)
    applies = beside_lines(varies, known) & known & (beside_lines(tasks, known) == their_tasks)
    distances = np.abs(beside_lines(memory.returns(anchors), known) - memory.returns(negatives))
    distances /= beside_lines(divisor, known)
    with np.errstate(divide="ignore"):
        weights = np.log(-np.expm1(-distances))
    return line_of_each(np.where(applies, weights, np.float32(0.0)), len(anchors))


def _distinct_numbers(
    generator: np.random.Generator, n_lines: int, n_drawn: int, below: int
) -> Int64Array:
    """(n_lines, n_drawn) whole numbers in [0, below), different within a line, uniformly."""
    numbers: Int64Array = generator.random((n_lines, below)).argpartition(n_drawn - 1, axis=1)
    return numbers[:, :n_drawn]
