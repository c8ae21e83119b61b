"""The statistics of an experiment: of each arm over all targets, and of each arm on each target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..curves import CurvePoint
from ..intervals import Estimate, Statistic, estimate, improvement, paired_difference
from ..scores import (
    Floats,
    Survival,
    TimeToThreshold,
    asymptote,
    charged,
    forward_transfer,
    interquartile_means,
    kaplan_meier,
    means,
    optimality_gaps,
    time_to_threshold,
    without_gaps,
)
from ..summary import SummaryRow
from .labels import REFERENCE, SCRATCH
from .reading import Experiment

HALF = 0.5
"""The lower of the two scores to which times are told; the other counts as learnt."""


def seeded() -> np.random.Generator:
    """The generator of every interval: a report of the same directory says the same."""
    return np.random.default_rng(0)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one arm: runs × targets, only runs that have all targets."""

    seeds: tuple[int, ...]
    table: Floats
    """(R, M), line by line the seeds."""
    left_out: tuple[int, ...]
    """Seeds that lack a target."""


def scores_of(
    experiment: Experiment, label: str, value: Callable[[SummaryRow], float], targets: Sequence[str]
) -> Scores:
    """The table of an arm; a seed without a finished training on every target is left out."""
    rows = {(r.seed, r.env_id): value(r) for r in experiment.targets if r.arm == label}
    seeds = sorted({seed for seed, _ in rows})
    table = np.array([[rows.get((s, t), np.nan) for t in targets] for s in seeds], np.float64)
    kept, whole = without_gaps(table.reshape(len(seeds), len(targets)))
    return Scores(
        seeds=tuple(s for s, is_whole in zip(seeds, whole, strict=True) if is_whole),
        table=kept,
        left_out=tuple(s for s, is_whole in zip(seeds, whole, strict=True) if not is_whole),
    )


def auc(row: SummaryRow) -> float:
    """Area under the curve."""
    return row.auc


def final(row: SummaryRow) -> float:
    """Score at the end, in the reference environment."""
    return row.final_score


def difference(x: Scores, y: Scores) -> Estimate | None:
    """Mean difference over the seeds that both arms have; None where they share none."""
    shared = [seed for seed in x.seeds if seed in y.seeds]
    if not shared:
        return None
    left, right = (each.table[[each.seeds.index(seed) for seed in shared]] for each in (x, y))
    return paired_difference(left, right, seeded())


def _estimate(scores: Scores, statistic: Statistic) -> Estimate | None:
    return estimate(scores.table, seeded(), statistic=statistic) if scores.seeds else None


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """One arm over all targets; None where there is nothing to tell."""

    label: str
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    auc: Estimate | None
    """Interquartile mean of the areas."""
    final: Estimate | None
    """Interquartile mean of the final scores."""
    gap: Estimate | None
    """Optimality gap of the final scores."""
    difference: Estimate | None
    """Mean area less the reference's, paired over seeds."""
    improvement: Estimate | None
    """Chance that a run beats one of the reference, by its area."""
    over_scratch: Estimate | None
    """Mean area less scratch's, paired over seeds."""
    forward: Estimate | None
    """Mean forward transfer."""
    forward_is_raw: bool
    """Whether that is a plain difference on some target."""
    retention: Estimate | None
    """Score on the sources after the target, less that before it."""
    seconds: Estimate | None
    """Learning on a target took so long, mean."""

    @property
    def is_negative(self) -> bool:
        """Whether it is below scratch, at two digits."""
        return self.over_scratch is not None and round(self.over_scratch.value, 2) < 0


def reference_of(experiment: Experiment) -> str:
    """The arm that others are held against: fine_tune, else scratch, else the first."""
    arms = experiment.arms
    return next((name for name in (REFERENCE, SCRATCH) if name in arms), arms[0])


def summarise_arms(experiment: Experiment) -> list[ArmSummary]:
    """Every arm over all targets; the intervals are those of `intervals`."""
    targets = experiment.target_ids
    areas = {label: scores_of(experiment, label, auc, targets) for label in experiment.arms}
    reference = areas[reference_of(experiment)] if areas else None
    scratch = areas.get(SCRATCH)
    found = []
    for label, area in areas.items():
        ends = scores_of(experiment, label, final, targets)
        is_reference = area is reference
        both = reference is not None and bool(area.seeds and reference.seeds)
        forward = None
        if scratch is not None and scratch.seeds and area.seeds and label != SCRATCH:
            forward = forward_transfer(area.table, scratch.table)
        found.append(
            ArmSummary(
                label=label,
                seeds=area.seeds,
                left_out=area.left_out,
                auc=_estimate(area, interquartile_means),
                final=_estimate(ends, interquartile_means),
                gap=_estimate(ends, optimality_gaps),
                difference=None if is_reference or not reference else difference(area, reference),
                improvement=improvement(area.table, reference.table, seeded())
                if both and reference is not None and not is_reference
                else None,
                over_scratch=difference(area, scratch)
                if scratch is not None and label != SCRATCH
                else None,
                forward=None if forward is None else estimate(forward.values, seeded()),
                forward_is_raw=forward is not None and bool(forward.is_raw.any()),
                retention=_retention(experiment, label),
                seconds=_estimate(scores_of(experiment, label, seconds, targets), means),
            )
        )
    return found


def seconds(row: SummaryRow) -> float:
    """Of learning, evaluation left out."""
    return row.frames / row.frames_per_second if row.frames_per_second > 0 else float("nan")


def source_score(experiment: Experiment, label: str, seed: int) -> float | None:
    """Mean final score of the source that an arm's seed starts from."""
    found = [r.final_score for r in experiment.sources if (r.arm, r.seed) == (label, seed)]
    return float(np.mean(found)) if found else None


def _retention(experiment: Experiment, label: str) -> Estimate | None:
    """After less before, over the seeds and targets for which both are known."""
    by_seed: dict[int, list[float]] = {}
    for row in experiment.targets:
        before = source_score(experiment, label, row.seed)
        if row.arm == label and row.retention is not None and before is not None:
            by_seed.setdefault(row.seed, []).append(row.retention - before)
    if not by_seed:
        return None
    return estimate([float(np.mean(each)) for each in by_seed.values()], seeded())


@dataclass(frozen=True, kw_only=True)
class TargetSummary:
    """One arm on one target, over its seeds."""

    label: str
    env_id: str
    auc: Estimate
    jumpstart: Estimate | None
    asymptote: Estimate | None
    final: Estimate
    over_scratch: Estimate | None
    forward: float | None
    forward_is_raw: bool
    to_half: Survival | None
    to_learnt: Survival | None
    to_half_charged: Survival | None
    """The first with the frames of the sources added."""

    @property
    def is_negative(self) -> bool:
        """Whether it is below scratch, at two digits."""
        return self.over_scratch is not None and round(self.over_scratch.value, 2) < 0


def summarise_target(experiment: Experiment, env_id: str) -> list[TargetSummary]:
    """Every arm on one target."""
    rows = [row for row in experiment.targets if row.env_id == env_id]
    areas = {label: scores_of(experiment, label, auc, [env_id]) for label in experiment.arms}
    scratch = areas.get(SCRATCH)
    found = []
    for label in dict.fromkeys(row.arm for row in rows):
        own = [row for row in rows if row.arm == label]
        curves = curves_of(experiment.points, label, env_id, [row.seed for row in own])
        jumps = [row.jumpstart for row in own if row.jumpstart is not None]
        against = scratch if scratch is not None and scratch.seeds and label != SCRATCH else None
        forward = None if against is None else forward_transfer(areas[label].table, against.table)
        found.append(
            TargetSummary(
                label=label,
                env_id=env_id,
                auc=estimate([row.auc for row in own], seeded()),
                jumpstart=estimate(jumps, seeded()) if jumps and label != SCRATCH else None,
                asymptote=estimate([asymptote([p.score for p in c]) for c in curves], seeded())
                if curves
                else None,
                final=estimate([row.final_score for row in own], seeded()),
                over_scratch=None if against is None else difference(areas[label], against),
                forward=None if forward is None else float(forward.values.mean()),
                forward_is_raw=forward is not None and bool(forward.is_raw.any()),
                to_half=survival(curves, HALF),
                to_learnt=survival(curves, experiment.learnt_score),
                to_half_charged=survival(
                    curves, HALF, {r.seed: float(r.source_frames or 0) for r in own}
                ),
            )
        )
    return found


def curves_of(
    points: Sequence[CurvePoint],
    label: str,
    env_id: str,
    seeds: Sequence[int],
    role: str = "target",
) -> list[list[CurvePoint]]:
    """The learning curves of an arm on an environment, one for each seed that has one."""
    curves = []
    for seed in seeds:
        key = (label, env_id, seed, role)
        own = [p for p in points if (p.arm, p.env_id, p.seed, p.role) == key]
        if own:
            curves.append(sorted(own, key=lambda point: point.frames))
    return curves


def survival(
    curves: Sequence[Sequence[CurvePoint]],
    threshold: float,
    source_frames: dict[int, float] | None = None,
) -> Survival | None:
    """Kaplan and Meier's curve of the times to a score; None without curves."""
    times: list[TimeToThreshold] = []
    for curve in curves:
        time = time_to_threshold([p.frames for p in curve], [p.score for p in curve], threshold)
        extra = 0.0 if source_frames is None else source_frames.get(curve[0].seed, 0.0)
        times.append(charged(time, extra))
    return kaplan_meier(times) if times else None


def estimate_of(values: Sequence[float]) -> Estimate:
    """The mean of one number for each run, with its interval where there are two or more."""
    return estimate(values, seeded())
