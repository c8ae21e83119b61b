"""Hard negatives: near in teacher space, those of them after which something else followed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .base import Memory
from .nearest import NearestNegatives
from .negatives import Insight, Pool
from .rows import by_anchor, by_group

_SMALLEST_SCALE = 1e-6  # returns of a task that vary less do not vary


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

    def _renew(
        self, memory: Memory, insight: Insight, generator: np.random.Generator, *, n_draws: int
    ) -> bool:
        renewed = super()._renew(memory, insight, generator, n_draws=n_draws)
        if renewed:
            self._scales = return_scales(memory, self._candidates.rows)
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
        negatives: (K,) rows, shared by all anchors, or (G, K); anchor b is in group `b mod G`.
        scales: (n_tasks,) s of each task; the weight is 1 where it is next to 0.
    """
    tasks = memory.task_ids(anchors)
    scale = np.zeros(len(memory.tasks))
    scale[: len(scales)] = scales  # a task that came since varies not yet
    own = scale[tasks]
    varies = memory.return_known(anchors) & (own > _SMALLEST_SCALE)
    divisor = np.maximum(own, _SMALLEST_SCALE).astype(np.float32)
    known, their_tasks = memory.return_known(negatives), memory.task_ids(negatives)
    applies = by_group(varies, known) & known & (by_group(tasks, known) == their_tasks)
    distances = np.abs(by_group(memory.returns(anchors), known) - memory.returns(negatives))
    distances /= by_group(divisor, known)
    with np.errstate(divide="ignore"):
        weights = np.log(-np.expm1(-distances))
    return by_anchor(np.where(applies, weights, np.float32(0.0)), len(anchors))
