"""What learning curves and tables of scores are worth: pure functions, without chance.

A table of scores is (R, M): R runs on M tasks, normalised returns in [0, 1]. Those of one arm stand
in one table, line by line its seeds, so that tables of two arms are paired. Definitions follow
Agarwal et al. 2021 (arXiv 2108.13264) where they are theirs. Intervals: `intervals`.

A run that failed or is not there yet is NaN. No function here lets one pass: `without_gaps` takes
out the runs that lack a task and says which they were, and everything else refuses NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_LEAST_ROOM = 0.05
"""With less than this between scratch's area and 1, a share of that room means nothing."""


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
    x, y = _curve(frames, scores)
    if len(x) == 1:
        return float(y[0])
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / (x[-1] - x[0]))


def _curve(frames: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(frames, np.float64), np.asarray(scores, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0:
        raise ValueError(
            f"frames and scores must be equally long and not empty, got {x.shape} and {y.shape}"
        )
    if np.any(np.diff(x) <= 0):
        raise ValueError("frames must increase from one evaluation to the next")
    if not np.isfinite(y).all():
        raise ValueError(f"the score after {x[~np.isfinite(y)][0]:.0f} frames is no number")
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
    """Mean of the last evaluations of a learning curve, at least one: where it ends.

    Args:
        scores: (T,), T at least 1.
        share: of the evaluations that count, in (0, 1].
    """
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"expected scores (T,) with T of at least 1, got {values.shape}")
    return float(values[-max(1, int(share * len(values))) :].mean())


@dataclass(frozen=True)
class TimeToThreshold:
    """When a learning curve reached a score."""

    frames: float
    """Of the first evaluation that did; where none did, of the last one."""
    reached: bool
    """False: censored. All that is known is that it takes longer than `frames`."""


def time_to_threshold(frames: ArrayLike, scores: ArrayLike, threshold: float) -> TimeToThreshold:
    """The first evaluation with at least this score; censored at the last where there is none.

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
    """The same time with all frames of its source added: what it takes from nothing at all.

    Each target is charged the whole source, although one source may serve many.
    """
    return TimeToThreshold(time.frames + source_frames, time.reached)


@dataclass(frozen=True)
class ForwardTransfer:
    """How much of the room above scratch was gained."""

    values: Floats
    """(..., R, M); 1: all of it, 0: none, below 0: negative transfer."""
    is_raw: Flags
    """(..., M) tasks where it is the plain difference: scratch is at 0, or leaves no room."""


def forward_transfer(
    aucs: ArrayLike, scratch_aucs: ArrayLike, *, is_raw: Flags | None = None
) -> ForwardTransfer:
    """`(AUC − AUC_scratch) / (1 − AUC_scratch)`, Wołczyk et al. 2021 (arXiv 2105.10919).

    AUC_scratch is the mean of the scratch runs of a task: a ratio of single runs would be ruled by
    the luckiest of them. Where it is 0, or above 0.95, the plain difference stands instead.

    Args:
        aucs: (..., R, M) areas of an arm.
        scratch_aucs: (..., S, M) areas of scratch on the same tasks.
        is_raw: (M,) tasks where the plain difference stands, where that is settled already.

    Raises:
        ValueError: other numbers of tasks, or NaN.
    """
    x, y = _pair(aucs, scratch_aucs)
    scratch = y.mean(axis=-2, keepdims=True)
    if is_raw is None:
        is_raw = np.asarray((scratch <= 0.0) | (1.0 - scratch < _LEAST_ROOM))[..., 0, :]
    room = np.maximum(1.0 - scratch, _LEAST_ROOM)  # a resample's scratch may leave less
    return ForwardTransfer((x - scratch) / np.where(is_raw[..., None, :], 1.0, room), is_raw)


def retention(after: ArrayLike, before: ArrayLike) -> float:
    """Score on the sources after training on a target, minus that before it; mean over sources.

    A difference, no ratio: a source that was never learnt has nothing to lose.

    Args:
        after: (S,) scores of the target's agent on the source environments.
        before: (S,) those of the source's agent.
    """
    x, y = np.asarray(after, np.float64), np.asarray(before, np.float64)
    if x.shape != y.shape or x.size == 0:
        raise ValueError(f"after and before must be of the same sources: {x.shape}, {y.shape}")
    return float((x - y).mean())


def as_table(scores: ArrayLike) -> Floats:
    """Scores as (..., R, M); of one task where they are (R,).

    Raises:
        ValueError: there are none, or one is NaN or infinite (the text says of which run).
    """
    table = np.asarray(scores, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim < 2 or table.size == 0:
        raise ValueError(f"there are no scores to average: {table.shape}")
    if not np.isfinite(table).all():
        *_, run, task = np.argwhere(~np.isfinite(table))[0]
        raise ValueError(f"the score of run {run} on task {task} is no number; see without_gaps")
    return table


def without_gaps(scores: ArrayLike) -> tuple[Floats, Flags]:
    """The runs that have a score on every task, and which of all runs these are.

    Args:
        scores: (R, M) or (R,); NaN where a run failed or is not there yet.

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
        raise ValueError(f"of {left.shape[-1]} and of {right.shape[-1]} tasks: cannot be compared")
    return left, right


# What follows takes one table, or a stack of tables (..., R, M), and gives one number for each.


def means(scores: ArrayLike) -> Floats:
    """Mean over runs × tasks: (..., R, M) → (...)."""
    return np.asarray(as_table(scores).mean(axis=(-2, -1)))


def interquartile_means(scores: ArrayLike) -> Floats:
    """Mean of the middle half of all scores, runs × tasks taken together: (..., R, M) → (...).

    A quarter of the scores, rounded down to whole scores, is cut from either end.
    """
    table = as_table(scores)
    flat = np.sort(table.reshape(*table.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


def interquartile_mean(scores: ArrayLike) -> float:
    """`interquartile_means` of one table."""
    return float(interquartile_means(scores))


def optimality_gaps(scores: ArrayLike, *, gamma: float = 1.0) -> Floats:
    """`γ − mean(min(x, γ))`: how much is missing to γ, what exceeds it not counting.

    (..., R, M) → (...); smaller is better.
    """
    return np.asarray(gamma - np.minimum(as_table(scores), gamma).mean(axis=(-2, -1)))


def probabilities_of_improvement(x: ArrayLike, y: ArrayLike) -> Floats:
    """P(X > Y): chance that a run of x beats one of y, mean over tasks; (..., R, M) → (...).

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
    """Kaplan and Meier's curve: the share of runs that has not reached the threshold."""

    times: Floats
    """(K,) at which at least one run reached it, increasing."""
    shares: Floats
    """(K,) that are left from each of these times on; before the first one 1."""

    @property
    def median(self) -> float | None:
        """The first time at which no more than half are left; None where more than half stay."""
        at = np.flatnonzero(self.shares <= 0.5 + 1e-12)
        return float(self.times[at[0]]) if len(at) else None


def kaplan_meier(times: Sequence[TimeToThreshold]) -> Survival:
    """`S(t) = Π_{t_i ≤ t} (1 − d_i / n_i)`, d_i that reach it at t_i of n_i still on their way.

    A run censored at t_i counts among the n_i. Kaplan and Meier 1958, "Nonparametric estimation
    from incomplete observations".

    Raises:
        ValueError: there are no runs.
    """
    if not times:
        raise ValueError("there are no runs to follow")
    frames = np.array([time.frames for time in times])
    reached = np.array([time.reached for time in times])
    events = np.unique(frames[reached])
    at_risk = (frames >= events[:, None]).sum(axis=1)
    n_reached = ((frames == events[:, None]) & reached).sum(axis=1)
    return Survival(events, np.cumprod(1.0 - n_reached / at_risk))
