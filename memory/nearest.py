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
    with_uniform,
)
from .observations import Int64Array
from .searched import KEPT, SearchedRows

_DRAWS_PER_QUERY = 8  # near negatives taken from around one anchor
_SMALLEST_SCALE = 1e-6  # returns of a task that vary less do not vary


class NearestNegatives(NegativeSampler):
    """Rows from a band of ranks around some of the anchors; at least half stay uniform.

    For every 8 near negatives one anchor is picked at random; the *distinct* observations of a
    sample of the memory (`n_searched` rows; all of a smaller one) are ranked by the cosine of
    their keys to that anchor's, its own observation left out; and 8 different ranks r are drawn
    uniformly from `floor(low · m) <= r < ceil(high · m)`, m the number of those observations and
    r = 0 the nearest.

    The very nearest are skipped: the hardest 5 % are necessary and sufficient, the hardest 0.1 %
    often hurt (Cai et al. 2020, https://arxiv.org/abs/2010.06682).
    """

    name = "nearest"

    def __init__(
        self,
        *,
        band: tuple[float, float] = (0.001, 0.05),
        uniform_share: float = 0.5,
        n_searched: int = 2048,
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

    def draw(
        self,
        memory: Memory,
        anchors: np.ndarray,
        k: int,
        generator: np.random.Generator,
        insight: Insight,
    ) -> Pool:
        hard = n_hard(k, self.uniform_share)
        near = self.near(memory, anchors, hard, generator, insight)
        return Pool(with_uniform(near, memory, k, generator))

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
        anchors: np.ndarray,
        n: int,
        generator: np.random.Generator,
        insight: Insight,
    ) -> Int64Array:
        """Up to n rows from the bands around some anchors; see the class."""
        self._renew(memory, insight, generator)
        assert self._keys is not None
        if n == 0:
            return np.empty(0, np.int64)
        n_queries = min(math.ceil(n / _DRAWS_PER_QUERY), len(anchors))
        queries = generator.choice(anchors, n_queries, replace=False, shuffle=False)
        first, last = self._ranks(len(self._keys))
        found, _ = self._keys.search(insight.keys(queries), last + 1)  # one may be its own
        own = self._searched.hashes[self._distinct[found]] == memory.hashes(queries)[:, None]
        order = np.argsort(own | (found < 0), axis=1, kind="stable")  # usable ones to the front
        ranked = np.take_along_axis(found, order, axis=1)
        usable = np.take_along_axis(~own & (found >= 0), order, axis=1)
        last = min(last, ranked.shape[1])
        n_drawn = min(_DRAWS_PER_QUERY, last - first)
        drawn = first + _distinct_numbers(generator, n_queries, n_drawn, last - first)
        places = np.take_along_axis(ranked, drawn, axis=1)[np.take_along_axis(usable, drawn, 1)]
        places = self._distinct[places]
        rows: Int64Array = self._searched.rows[places[self._searched.unchanged(memory, places)]]
        return rows[:n]

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
        return Pool(pool.rows, value_log_weights(memory, anchors, pool.rows, self._scales))

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
        negatives: (K,) rows.
        scales: (n_tasks,) s of each task; the weight is 1 where it is next to 0.
    """
    tasks = memory.task_ids(anchors)
    scale = np.zeros(len(memory.tasks))
    scale[: len(scales)] = scales  # a task that came since varies not yet
    own = scale[tasks]
    applies = (memory.return_known(anchors) & (own > _SMALLEST_SCALE))[:, None]
    applies = (
        applies & memory.return_known(negatives) & (tasks[:, None] == memory.task_ids(negatives))
    )
    divisor = np.maximum(own, _SMALLEST_SCALE).astype(np.float32)[:, None]
    distances = np.abs(memory.returns(anchors)[:, None] - memory.returns(negatives)) / divisor
    with np.errstate(divide="ignore"):
        weights = np.log(-np.expm1(-distances))
    return np.where(applies, weights, np.float32(0.0))


def _distinct_numbers(
    generator: np.random.Generator, n_lines: int, n_drawn: int, below: int
) -> Int64Array:
    """(n_lines, n_drawn) whole numbers in [0, below), different within a line, uniformly."""
    numbers: Int64Array = generator.random((n_lines, below)).argpartition(n_drawn - 1, axis=1)
    return numbers[:, :n_drawn]
