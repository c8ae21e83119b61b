"""Percentile bootstrap confidence intervals, drawn from a given generator.

By default runs are resampled 2,000 times, and the interval holds the middle 95 % of the resampled
statistics. With few runs such an interval is too narrow; for one run there is none.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .scores import Floats, as_table, forward_transfer, means, probabilities_of_improvement

Statistic = Callable[[Floats], Floats]
"""Maps a stack of tables (B, R, M) to (B,) or (B, T)."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A statistic, with its confidence interval if there is one."""

    value: float
    low: float | None = None
    high: float | None = None
    n_runs: int = 1
    """Number of runs of each arm; with one there is no interval."""

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None and self.high is not None

    def excludes(self, number: float) -> bool:
        """Whether the interval does not contain a number; False without an interval."""
        if self.low is None or self.high is None:
            return False
        return not self.low <= number <= self.high


def bootstrap_interval(
    scores: ArrayLike,
    generator: np.random.Generator,
    *,
    statistic: Statistic = means,
    level: float = 0.95,
    n_resamples: int = 2000,
    task_bootstrap: bool = False,
    whole_runs: bool = False,
) -> tuple[float, float]:
    """Percentile bootstrap interval, stratified by task: runs are resampled within each task.

    This treats the tasks of a run as independent. If they are not, as targets that start from the
    same source agent, the interval is too narrow; `whole_runs` keeps the tasks of a run together.

    Args:
        scores: (R, M) scores of R runs on M tasks; (R,) for one task. R is at least 2.
        generator: random numbers for the resampling.
        statistic: one of `scores`' functions of stacks of tables.
        level: coverage of the interval, between 0 and 1.
        n_resamples: number of resamples.
        task_bootstrap: also resample the tasks, for claims about other tasks.
        whole_runs: resample whole rows of the table, the same for every task.

    Returns:
        The lower and upper end.

    Raises:
        ValueError: there are fewer than two runs, or a score is NaN.
    """
    table = _table_of_runs(scores)
    drawn = _resampled(table, generator, n_resamples, task_bootstrap, whole_runs)
    low, high = _ends(statistic(drawn), level)
    return float(low), float(high)


def bootstrap_band(
    scores: ArrayLike,
    generator: np.random.Generator,
    *,
    statistic: Statistic,
    level: float = 0.95,
    n_resamples: int = 2000,
    whole_runs: bool = False,
) -> tuple[Floats, Floats]:
    """Pointwise `bootstrap_interval` of a statistic that is a curve: lower and upper end, (T,)."""
    drawn = _resampled(_table_of_runs(scores), generator, n_resamples, whole_runs=whole_runs)
    low, high = _ends(statistic(drawn), level)
    return np.asarray(low), np.asarray(high)


def estimate(
    scores: ArrayLike,
    generator: np.random.Generator,
    *,
    statistic: Statistic = means,
    task_bootstrap: bool = False,
    whole_runs: bool = False,
) -> Estimate:
    """A statistic of a table, with its `bootstrap_interval` if there are two or more runs."""
    table = as_table(scores)
    value, n_runs = float(statistic(table)), len(table)
    if n_runs < 2:
        return Estimate(value=value, n_runs=n_runs)
    low, high = bootstrap_interval(
        table, generator, statistic=statistic, task_bootstrap=task_bootstrap,
        whole_runs=whole_runs,
    )  # fmt: skip
    return Estimate(value=value, low=low, high=high, n_runs=n_runs)


def paired_difference(
    x: ArrayLike,
    y: ArrayLike,
    generator: np.random.Generator,
    *,
    statistic: Statistic = means,
    level: float = 0.95,
    n_resamples: int = 2000,
    task_bootstrap: bool = False,
) -> Estimate:
    """`statistic(x) − statistic(y)` of arms whose rows are the same seeds.

    Whole seeds are resampled, for both arms together, since all runs of a seed share its source.
    The effect of the seed on both arms cancels.

    Args:
        x: (R, M).
        y: (R, M), with the seeds of x in the same order.
        generator: random numbers for the resampling.
        statistic: one of `scores`' functions of stacks of tables.
        level: coverage of the interval, between 0 and 1.
        n_resamples: number of resamples.
        task_bootstrap: also resample the tasks.

    Returns:
        The difference; without an interval if R is 1.

    Raises:
        ValueError: the shapes of the tables differ, or a score is NaN.
    """
    left, right = as_table(x), as_table(y)
    if left.shape != right.shape:
        raise ValueError(
            f"paired arms must have the same seeds and tasks, got {left.shape} and {right.shape}"
        )
    value, (n_runs, n_tasks) = float(statistic(left) - statistic(right)), left.shape
    if n_runs < 2:
        return Estimate(value=value, n_runs=n_runs)
    rows = generator.integers(n_runs, size=(n_resamples, n_runs, 1))
    columns = _columns(n_tasks, generator, n_resamples, task_bootstrap)
    low, high = _ends(statistic(left[rows, columns]) - statistic(right[rows, columns]), level)
    return Estimate(value=value, low=float(low), high=float(high), n_runs=n_runs)


def improvement(
    x: ArrayLike,
    y: ArrayLike,
    generator: np.random.Generator,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    whole_runs: bool = False,
) -> Estimate:
    """`scores.probabilities_of_improvement`, with the runs of each arm resampled separately.

    As published (arXiv 2108.13264), it compares any run of x with any run of y: it is not paired.
    Runs are resampled within tasks, or for all tasks together with `whole_runs`.
    """
    return _unpaired(
        x, y, probabilities_of_improvement, generator, level, n_resamples, whole_runs=whole_runs
    )


def mean_forward_transfer(
    aucs: ArrayLike,
    scratch_aucs: ArrayLike,
    generator: np.random.Generator,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Estimate:
    """Mean of `scores.forward_transfer`; whole runs of the arm and of scratch are resampled.

    The interval includes the uncertainty of scratch, whose area is a mean of few runs too.
    """
    is_raw = forward_transfer(aucs, scratch_aucs).is_raw

    def mean(left: Floats, right: Floats) -> Floats:
        return means(forward_transfer(left, right, is_raw=is_raw).values)

    return _unpaired(aucs, scratch_aucs, mean, generator, level, n_resamples, whole_runs=True)


def _unpaired(
    x: ArrayLike,
    y: ArrayLike,
    statistic: Callable[[Floats, Floats], Floats],
    generator: np.random.Generator,
    level: float,
    n_resamples: int,
    *,
    whole_runs: bool,
) -> Estimate:
    """A statistic of two arms, with the runs of each resampled separately."""
    left, right = as_table(x), as_table(y)
    value, n_runs = float(statistic(left, right)), min(len(left), len(right))
    if n_runs < 2:
        return Estimate(value=value, n_runs=n_runs)
    drawn = [
        _resampled(table, generator, n_resamples, whole_runs=whole_runs) for table in (left, right)
    ]
    low, high = _ends(statistic(*drawn), level)
    return Estimate(value=value, low=float(low), high=float(high), n_runs=n_runs)


def _table_of_runs(scores: ArrayLike) -> Floats:
    table = as_table(scores)
    if len(table) < 2:
        raise ValueError(f"an interval needs at least two runs, got {len(table)}")
    return table


def _resampled(
    table: Floats,
    generator: np.random.Generator,
    n_resamples: int,
    task_bootstrap: bool = False,
    whole_runs: bool = False,
) -> Floats:
    """(B, R, M): runs drawn with replacement, for each task or for all tasks together."""
    n_runs, n_tasks = table.shape
    rows = generator.integers(n_runs, size=(n_resamples, n_runs, 1 if whole_runs else n_tasks))
    drawn: Floats = table[rows, _columns(n_tasks, generator, n_resamples, task_bootstrap)]
    return drawn


def _columns(
    n_tasks: int, generator: np.random.Generator, n_resamples: int, task_bootstrap: bool
) -> NDArray[np.intp]:
    """Indexes of the tasks of each resample: all, or as many drawn with replacement."""
    if task_bootstrap:
        return generator.integers(n_tasks, size=(n_resamples, 1, n_tasks))
    return np.arange(n_tasks)[None, None, :]


def _ends(values: Floats, level: float) -> Floats:
    tail = (1 - level) / 2
    return np.quantile(values, [tail, 1 - tail], axis=0)
