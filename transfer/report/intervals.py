"""Percentile bootstrap confidence intervals, drawn from a given generator.

By default runs are resampled 2,000 times, and the interval holds the middle 95 % of the resampled
statistics. With few runs such an interval is too narrow; for one run there is none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike

from .scores import Floats, as_table, forward_transfer, means, probabilities_of_improvement

Statistic = Callable[[Floats], Floats]
"""Maps a stack of tables (B, R, M) to (B,) or (B, T)."""

_LEVEL = 0.95
_N_RESAMPLES = 2000


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


class Resampling(TypedDict, total=False):
    """Keywords of every interval."""

    level: float
    """Coverage of the interval, between 0 and 1; default .95."""
    n_resamples: int
    """Number of resamples; default 2,000."""
    task_bootstrap: bool
    """Also resample the tasks, for claims about other tasks; default False."""


def bootstrap_interval(
    scores: ArrayLike,
    generator: np.random.Generator,
    *,
    statistic: Statistic = means,
    whole_runs: bool = False,
    **resampling: Unpack[Resampling],
) -> tuple[float, float]:
    """Percentile bootstrap interval, stratified by task: runs are resampled within each task.

    This treats the tasks of a run as independent. If they are not, as targets that start from the
    same source agent, the interval is too narrow; `whole_runs` keeps the tasks of a run together.

    Args:
        scores: (R, M) scores of R runs on M tasks; (R,) for one task. R is at least 2.
        generator: random numbers for the resampling.
        statistic: one of `scores`' functions of stacks of tables.
        whole_runs: resample whole rows of the table, the same for every task.
        **resampling: see `Resampling`.

    Returns:
        The lower and upper end.

    Raises:
        ValueError: there are fewer than two runs, or a score is NaN.
    """
    low, high = _interval(statistic, [_table_of_runs(scores)], generator, whole_runs, **resampling)
    return float(low), float(high)


def bootstrap_band(
    scores: ArrayLike,
    generator: np.random.Generator,
    *,
    statistic: Statistic,
    whole_runs: bool = False,
    **resampling: Unpack[Resampling],
) -> Floats:
    """Pointwise `bootstrap_interval` of a statistic that is a curve: (2, T), lower and upper."""
    return _interval(statistic, [_table_of_runs(scores)], generator, whole_runs, **resampling)


def estimate(
    scores: ArrayLike,
    generator: np.random.Generator,
    *,
    statistic: Statistic = means,
    whole_runs: bool = False,
    **resampling: Unpack[Resampling],
) -> Estimate:
    """A statistic of a table, with its `bootstrap_interval` if there are two or more runs."""
    return _estimate(statistic, [as_table(scores)], generator, whole_runs, **resampling)


def paired_difference(
    x: ArrayLike,
    y: ArrayLike,
    generator: np.random.Generator,
    *,
    statistic: Statistic = means,
    **resampling: Unpack[Resampling],
) -> Estimate:
    """`statistic(x) − statistic(y)` of arms whose rows are the same seeds.

    Whole seeds are resampled, for both arms together, since all runs of a seed share its source.
    The effect of the seed on both arms cancels.

    Args:
        x: (R, M).
        y: (R, M), with the seeds of x in the same order.
        generator: random numbers for the resampling.
        statistic: one of `scores`' functions of stacks of tables.
        **resampling: see `Resampling`.

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

    def difference(both: Floats) -> Floats:
        return statistic(both[..., 0]) - statistic(both[..., 1])

    both = np.stack([left, right], axis=-1)
    return _estimate(difference, [both], generator, whole_runs=True, **resampling)


def improvement(
    x: ArrayLike,
    y: ArrayLike,
    generator: np.random.Generator,
    *,
    whole_runs: bool = False,
    level: float = _LEVEL,
    n_resamples: int = _N_RESAMPLES,
) -> Estimate:
    """`scores.probabilities_of_improvement`, with the runs of each arm resampled separately.

    As published (arXiv 2108.13264), it compares any run of x with any run of y: it is not paired.
    Runs are resampled within tasks, or for all tasks together with `whole_runs`.
    """
    tables = [as_table(x), as_table(y)]
    return _estimate(
        probabilities_of_improvement,
        tables,
        generator,
        whole_runs,
        level=level,
        n_resamples=n_resamples,
    )


def mean_forward_transfer(
    aucs: ArrayLike,
    scratch_aucs: ArrayLike,
    generator: np.random.Generator,
    *,
    level: float = _LEVEL,
    n_resamples: int = _N_RESAMPLES,
) -> Estimate:
    """Mean of `scores.forward_transfer`; whole runs of the arm and of scratch are resampled.

    The interval includes the uncertainty of scratch, whose area is a mean of few runs too.
    """
    is_raw = forward_transfer(aucs, scratch_aucs).is_raw

    def mean(left: Floats, right: Floats) -> Floats:
        return means(forward_transfer(left, right, is_raw=is_raw).values)

    tables = [as_table(aucs), as_table(scratch_aucs)]
    return _estimate(mean, tables, generator, True, level=level, n_resamples=n_resamples)


def _estimate(
    statistic: Callable[..., Floats],
    tables: Sequence[Floats],
    generator: np.random.Generator,
    whole_runs: bool,
    **resampling: Unpack[Resampling],
) -> Estimate:
    """A statistic of some tables, with the runs of each resampled separately."""
    value, n_runs = float(statistic(*tables)), min(map(len, tables))
    if n_runs < 2:
        return Estimate(value=value, n_runs=n_runs)
    low, high = _interval(statistic, tables, generator, whole_runs, **resampling)
    return Estimate(value=value, low=float(low), high=float(high), n_runs=n_runs)


def _interval(
    statistic: Callable[..., Floats],
    tables: Sequence[Floats],
    generator: np.random.Generator,
    whole_runs: bool,
    *,
    level: float = _LEVEL,
    n_resamples: int = _N_RESAMPLES,
    task_bootstrap: bool = False,
) -> Floats:
    """The lower and upper ends (2, ...) of a statistic of resampled tables."""
    drawn = [_resampled(t, generator, whole_runs, n_resamples, task_bootstrap) for t in tables]
    tail = (1 - level) / 2
    return np.quantile(statistic(*drawn), [tail, 1 - tail], axis=0)


def _table_of_runs(scores: ArrayLike) -> Floats:
    table = as_table(scores)
    if len(table) < 2:
        raise ValueError(f"an interval needs at least two runs, got {len(table)}")
    return table


def _resampled(
    table: Floats,
    generator: np.random.Generator,
    whole_runs: bool,
    n_resamples: int,
    task_bootstrap: bool,
) -> Floats:
    """(B, R, M, ...): runs drawn with replacement, for each task or for all tasks together."""
    n_runs, n_tasks = table.shape[:2]
    rows = generator.integers(n_runs, size=(n_resamples, n_runs, 1 if whole_runs else n_tasks))
    columns = np.arange(n_tasks)[None, None, :]
    if task_bootstrap:
        columns = generator.integers(n_tasks, size=(n_resamples, 1, n_tasks))
    drawn: Floats = table[rows, columns]
    return drawn
