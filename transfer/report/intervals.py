"""How far a score can be trusted: bootstrap intervals, each drawn from a generator that is given.

Runs are resampled, 2,000 times, and the middle 95 % of what comes out is the interval
(percentiles). With few runs such an interval is too narrow; of one run there is none.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .scores import Floats, as_table, forward_transfer, means, probabilities_of_improvement

Statistic = Callable[[Floats], Floats]
"""From a stack of tables (B, R, M) to (B,) or (B, T)."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number, and where it can be told, the interval it lies in."""

    value: float
    low: float | None = None
    high: float | None = None
    n_runs: int = 1
    """Runs of each arm; with one there is no interval."""

    @property
    def has_interval(self) -> bool:
        """Whether there were runs enough for one."""
        return self.low is not None and self.high is not None

    def excludes(self, number: float) -> bool:
        """Whether the interval lies to one side of a number; never without an interval."""
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

    So it takes a run's tasks for independent. Where they share their luck, as targets do that start
    from one source agent, that interval is too narrow: `whole_runs` keeps them together.

    Args:
        scores: (R, M) scores of R runs on M tasks; (R,) for one task. R is at least 2.
        generator: where the resampling is drawn from.
        statistic: one of `scores`' functions of stacks of tables.
        level: coverage asked for, between 0 and 1.
        n_resamples: how many resamples.
        task_bootstrap: resample the tasks too, for claims about tasks that were not tried.
        whole_runs: draw whole lines of the table, the same ones for every task.

    Returns:
        The lower and upper end.

    Raises:
        ValueError: with fewer than two runs, of which no interval can speak; or for NaN.
    """
    table = _several(scores)
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
    """`bootstrap_interval` of a statistic that is a curve, point by point: two of (T,)."""
    drawn = _resampled(_several(scores), generator, n_resamples, whole_runs=whole_runs)
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
    """A statistic of a table, with its `bootstrap_interval` where there are two runs or more."""
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
    """`statistic(x) − statistic(y)` of arms whose lines are the same seeds.

    Whole seeds are drawn, of both arms together: a seed's runs share their source, on all tasks,
    so that they are lucky or unlucky together. What both arms owe to the seed cancels.

    Args:
        x: (R, M).
        y: (R, M), line by line of the same seeds.
        generator: where the resampling is drawn from.
        statistic: one of `scores`' functions of stacks of tables.
        level: coverage asked for, between 0 and 1.
        n_resamples: how many resamples.
        task_bootstrap: resample the tasks too.

    Returns:
        The difference; without an interval where R is 1.

    Raises:
        ValueError: tables of other shapes, or NaN.
    """
    left, right = as_table(x), as_table(y)
    if left.shape != right.shape:
        raise ValueError(f"paired arms have the same seeds and tasks: {left.shape}, {right.shape}")
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
    """`scores.probabilities_of_improvement`, either arm's runs resampled by itself.

    As published (arXiv 2108.13264): it asks of any run of x and any of y, so it is not paired.
    Runs are resampled within tasks, or with `whole_runs` for all tasks together.
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

    Scratch's area is itself a mean of few runs, and its chance is a part of the number's.
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
    """A statistic of two arms, the runs of either resampled by itself."""
    left, right = as_table(x), as_table(y)
    value, n_runs = float(statistic(left, right)), min(len(left), len(right))
    if n_runs < 2:
        return Estimate(value=value, n_runs=n_runs)
    drawn = [
        _resampled(table, generator, n_resamples, whole_runs=whole_runs) for table in (left, right)
    ]
    low, high = _ends(statistic(*drawn), level)
    return Estimate(value=value, low=float(low), high=float(high), n_runs=n_runs)


def _several(scores: ArrayLike) -> Floats:
    table = as_table(scores)
    if len(table) < 2:
        raise ValueError("an interval needs at least two runs")
    return table


def _resampled(
    table: Floats,
    generator: np.random.Generator,
    n_resamples: int,
    task_bootstrap: bool = False,
    whole_runs: bool = False,
) -> Floats:
    """(B, R, M): in every resample runs drawn with replacement, for each column or for all."""
    n_runs, n_tasks = table.shape
    rows = generator.integers(n_runs, size=(n_resamples, n_runs, 1 if whole_runs else n_tasks))
    drawn: Floats = table[rows, _columns(n_tasks, generator, n_resamples, task_bootstrap)]
    return drawn


def _columns(
    n_tasks: int, generator: np.random.Generator, n_resamples: int, task_bootstrap: bool
) -> NDArray[np.intp]:
    """Which tasks make up each resample: all of them, or as many drawn with replacement."""
    if task_bootstrap:
        return generator.integers(n_tasks, size=(n_resamples, 1, n_tasks))
    return np.arange(n_tasks)[None, None, :]


def _ends(values: Floats, level: float) -> Floats:
    tail = (1 - level) / 2
    return np.quantile(values, [tail, 1 - tail], axis=0)
