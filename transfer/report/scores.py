"""Metrics of learning curves and tables of scores, as pure functions.

A table of scores is (R, M): normalised returns in [0, 1] of R runs on M tasks. The runs of an arm
are in the order of their seeds, so that tables of two arms are paired. Aggregates follow Agarwal et
al. 2021 (arXiv 2108.13264). See `intervals` for confidence intervals.

The score of a run that failed or has not finished is NaN. `without_gaps` removes such runs and says
which they were; all other functions raise for NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_LEAST_ROOM = 0.05
"""If scratch's area is closer to 1 than this, the ratio means nothing."""


def area_under_curve(frames: ArrayLike, scores: ArrayLike) -> float:
    """Area under a learning curve by the trapezoidal rule, divided by its width in frames.

    Args:
        frames: (T,) strictly increasing frame counts of the evaluations.
        scores: (T,) their scores.

    Returns:
        A number in the range of the scores; the score itself where T is 1.

    Raises:
        ValueError: the lengths differ, there are no points, or frames do not increase.
    """
    x, y = _curve(frames, scores)
    if len(x) == 1:
        return float(y[0])
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def _curve(frames: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(frames, np.float64), np.asarray(scores, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0:
        raise ValueError(
            f"frames and scores must be equally long and not empty, got {x.shape} and {y.shape}"
        )
    if np.any(np.diff(x) <= 0):
        raise ValueError("frames must increase from one evaluation to the next")
    if not np.isfinite(y).all():
        raise ValueError(f"the score after {x[~np.isfinite(y)][0]:.0f} frames is not a number")
    return x, y


def jumpstart(scores: ArrayLike, scratch_scores: ArrayLike) -> float:
    """Score before the first frame on the target, minus that of an agent from scratch.

    Taylor and Stone 2009, "Transfer learning for reinforcement learning domains".

    Args:
        scores: (T,) scores of the arm; the first is at frame 0.
        scratch_scores: (S,) scores of the scratch arm; the first is at frame 0.
    """
    return float(np.asarray(scores)[0]) - float(np.asarray(scratch_scores)[0])


def asymptote(scores: ArrayLike, *, share: float = 0.25) -> float:
    """Mean of the last evaluations of a learning curve, at least one.

    Args:
        scores: (T,), T at least 1.
        share: fraction of the evaluations to average, in (0, 1].
    """
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"expected scores (T,) with T of at least 1, got {values.shape}")
    return float(values[-max(1, int(share * len(values))) :].mean())


@dataclass(frozen=True)
class TimeToThreshold:
    """When a learning curve reached a score."""

    frames: float
    """Of the first evaluation that reached it; if none did, of the last evaluation."""
    reached: bool
    """False if censored: the curve needs more than `frames`, but how many is unknown."""


def time_to_threshold(frames: ArrayLike, scores: ArrayLike, threshold: float) -> TimeToThreshold:
    """The first evaluation with at least this score; censored at the last if there is none.

    Args:
        frames: (T,) strictly increasing frame counts of the evaluations.
        scores: (T,) their scores.
        threshold: the score to reach.

    Raises:
        ValueError: as `area_under_curve`.
    """
    x, y = _curve(frames, scores)
    at = np.flatnonzero(y >= threshold)
    return TimeToThreshold(float(x[at[0] if len(at) else -1]), bool(len(at)))


def charged(time: TimeToThreshold, source_frames: float) -> TimeToThreshold:
    """The same time plus the frames of the source.

    Each target is charged the whole source, although a source may serve several targets.
    """
    return TimeToThreshold(time.frames + source_frames, time.reached)


@dataclass(frozen=True)
class ForwardTransfer:
    """Gain over scratch, as a fraction of the largest possible gain."""

    values: Floats
    """(..., R, M); 1: largest gain, 0: none, below 0: negative transfer."""
    is_raw: Flags
    """(..., M) tasks with the plain difference instead: scratch scores 0, or is close to 1."""


def forward_transfer(
    aucs: ArrayLike, scratch_aucs: ArrayLike, *, is_raw: Flags | None = None
) -> ForwardTransfer:
    """`(AUC − AUC_scratch) / (1 − AUC_scratch)`, Wołczyk et al. 2021 (arXiv 2105.10919).

    AUC_scratch is the mean of the scratch runs of a task: ratios of single runs would depend on the
    luckiest of them. If it is 0 or above 0.95, the plain difference is returned instead.

    Args:
        aucs: (..., R, M) areas of an arm.
        scratch_aucs: (..., S, M) areas of scratch on the same tasks.
        is_raw: (M,) tasks to return the plain difference for; by default chosen as above.

    Raises:
        ValueError: the numbers of tasks differ, or a score is NaN.
    """
    x, y = _pair(aucs, scratch_aucs)
    scratch = y.mean(axis=-2, keepdims=True)
    if is_raw is None:
        is_raw = np.asarray((scratch <= 0.0) | (1.0 - scratch < _LEAST_ROOM))[..., 0, :]
    room = np.maximum(1.0 - scratch, _LEAST_ROOM)  # a resample's scratch may leave less
    return ForwardTransfer((x - scratch) / np.where(is_raw[..., None, :], 1.0, room), is_raw)


def as_table(scores: ArrayLike) -> Floats:
    """Scores as (..., R, M); of one task where they are (R,).

    Raises:
        ValueError: there are none, or one is NaN or infinite; the text names the run.
    """
    table = np.asarray(scores, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim < 2 or table.size == 0:
        raise ValueError(f"there are no scores to average: {table.shape}")
    if not np.isfinite(table).all():
        *_, run, task = np.argwhere(~np.isfinite(table))[0]
        raise ValueError(f"the score of run {run} on task {task} is not a number; see without_gaps")
    return table


def without_gaps(scores: ArrayLike) -> tuple[Floats, Flags]:
    """The runs that have a score on every task, and a mask of these runs.

    Args:
        scores: (R, M) or (R,); NaN for a run that failed or has not finished.

    Returns:
        (R', M) scores and (R,) bool.
    """
    table = np.asarray(scores, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    whole = np.asarray(np.isfinite(table).all(axis=1), np.bool_)
    return table[whole], whole


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    left, right = as_table(x), as_table(y)
    if left.shape[-1] != right.shape[-1]:
        raise ValueError(
            f"arms must have the same tasks, got {left.shape[-1]} and {right.shape[-1]} tasks"
        )
    return left, right


# The functions below take a table or a stack of tables (..., R, M) and return a number for each.


def means(scores: ArrayLike) -> Floats:
    """Mean over runs × tasks: (..., R, M) → (...)."""
    return np.asarray(as_table(scores).mean(axis=(-2, -1)))


def interquartile_means(scores: ArrayLike) -> Floats:
    """Mean of the middle half of all scores, over runs × tasks: (..., R, M) → (...).

    A quarter of the scores, rounded down, is cut from each end.
    """
    table = as_table(scores)
    from scipy import stats  # slow to import, and used only when results are reported

    return np.asarray(stats.trim_mean(table.reshape(*table.shape[:-2], -1), 0.25, axis=-1))


def interquartile_mean(scores: ArrayLike) -> float:
    """`interquartile_means` of one table."""
    return float(interquartile_means(scores))


def optimality_gaps(scores: ArrayLike, *, gamma: float = 1.0) -> Floats:
    """`γ − mean(min(x, γ))`: mean distance to γ; scores above γ count as γ.

    (..., R, M) → (...); smaller is better.
    """
    return np.asarray(gamma - np.minimum(as_table(scores), gamma).mean(axis=(-2, -1)))


def probabilities_of_improvement(x: ArrayLike, y: ArrayLike) -> Floats:
    """P(X > Y): probability that a run of x beats one of y, mean over tasks; (..., R, M) → (...).

    For each task Mann and Whitney's `U / (R · S)`, ties counting one half.

    Args:
        x: (..., R, M).
        y: (..., S, M), of the same tasks.
    """
    left, right = _pair(x, y)
    difference = left[..., :, None, :] - right[..., None, :, :]
    wins = (difference > 0) + 0.5 * (difference == 0)
    return np.asarray(wins.mean(axis=(-3, -2, -1)))


def performance_profiles(scores: ArrayLike, *, thresholds: ArrayLike) -> Floats:
    """Share of runs × tasks that score above each threshold: (..., R, M) → (..., T)."""
    table, levels = as_table(scores), np.asarray(thresholds, np.float64)
    return np.asarray((table[..., None] > levels).mean(axis=(-3, -2)))


@dataclass(frozen=True)
class Survival:
    """Kaplan–Meier estimate of the share of runs that have not reached the threshold."""

    times: Floats
    """(K,) increasing times at which at least one run reached it."""
    shares: Floats
    """(K,) shares from each of these times on; 1 before the first."""

    @property
    def median(self) -> float | None:
        """The first time with a share of at most one half; None if there is none."""
        at = np.flatnonzero(self.shares <= 0.5 + 1e-12)
        return float(self.times[at[0]]) if len(at) else None


def kaplan_meier(times: Sequence[TimeToThreshold]) -> Survival:
    """`S(t) = Π_{t_i ≤ t} (1 − d_i / n_i)`, with d_i of n_i runs at risk reaching it at t_i.

    A run censored at t_i is at risk at t_i. Kaplan and Meier 1958, "Nonparametric estimation
    from incomplete observations".

    Raises:
        ValueError: there are no runs.
    """
    if not times:
        raise ValueError("kaplan_meier needs at least one run, got none")
    frames = np.array([time.frames for time in times])
    reached = np.array([time.reached for time in times])
    events = np.unique(frames[reached])
    at_risk = (frames >= events[:, None]).sum(axis=1)
    n_reached = ((frames == events[:, None]) & reached).sum(axis=1)
    return Survival(events, np.cumprod(1.0 - n_reached / at_risk))
