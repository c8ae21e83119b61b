"""What a learning curve is worth: pure functions of frames and scores.

Definitions follow Agarwal et al. 2021 (arXiv 2108.13264) where they are theirs. Scores are
normalised returns in [0, 1]. Nothing here draws from a global random state.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], float]


def area_under_curve(frames: ArrayLike, scores: ArrayLike) -> float:
    """Area under a learning curve, by trapezoids, divided by its width in frames.

    Args:
        frames: (T,) strictly increasing frame counts of the evaluations.
        scores: (T,) their scores.

    Returns:
        A number in the range of the scores; the score itself where T is 1.

    Raises:
        ValueError: for lengths that differ, no point at all, or frames that do not increase.
    """
    x, y = np.asarray(frames, np.float64), np.asarray(scores, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0:
        raise ValueError(
            f"frames and scores must be equally long and not empty, got {x.shape} and {y.shape}"
        )
    if len(x) == 1:
        return float(y[0])
    if np.any(np.diff(x) <= 0):
        raise ValueError("frames must increase from one evaluation to the next")
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / (x[-1] - x[0]))


def jumpstart(scores: ArrayLike, scratch_scores: ArrayLike) -> float:
    """Score before the first frame on the target, minus that of an agent from scratch.

    Args:
        scores: (T,) scores of the arm; the first is at frame 0.
        scratch_scores: (S,) scores of the scratch arm; the first is at frame 0.
    """
    return float(np.asarray(scores)[0]) - float(np.asarray(scratch_scores)[0])


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all scores (runs × tasks, taken together).

    A quarter of the scores, rounded down to whole scores, is cut from either end.
    """
    flat = np.sort(np.asarray(scores, np.float64), axis=None)
    if len(flat) == 0:
        raise ValueError("there are no scores to average")
    cut = len(flat) // 4
    return float(flat[cut : len(flat) - cut].mean())


def mean(scores: Floats) -> float:
    """Mean over runs × tasks."""
    return float(np.mean(scores))


def bootstrap_interval(
    scores: ArrayLike,
    generator: np.random.Generator,
    *,
    statistic: Statistic = mean,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> tuple[float, float]:
    """Percentile bootstrap interval, stratified by task: runs are resampled within each task.

    Args:
        scores: (R, M) scores of R runs on M tasks; (R,) for one task. R is at least 2.
        generator: where the resampling is drawn from.
        statistic: a function of the (R, M) scores.
        level: coverage asked for, between 0 and 1.
        n_resamples: how many resamples.

    Returns:
        The lower and upper end.

    Raises:
        ValueError: with fewer than two runs, of which no interval can speak.
    """
    table = np.asarray(scores, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    n_runs, n_tasks = table.shape
    if n_runs < 2:
        raise ValueError("an interval needs at least two runs")
    values = np.empty(n_resamples)
    for i in range(n_resamples):
        rows = generator.integers(n_runs, size=(n_runs, n_tasks))
        values[i] = statistic(np.take_along_axis(table, rows, axis=0))
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
