"""Statistics of each arm over all targets."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..settings.arms import arm_of, is_part_of
from .experiment import Experiment
from .intervals import (
    Estimate,
    Statistic,
    estimate,
    improvement,
    mean_forward_transfer,
    paired_difference,
)
from .labels import CANDIDATE, REFERENCE, SCRATCH
from .scores import (
    Floats,
    forward_transfer,
    interquartile_means,
    optimality_gaps,
    without_gaps,
)
from .summary import SummaryRow


def seeded() -> np.random.Generator:
    """A new generator with a fixed seed, so that reports of a directory are equal."""
    return np.random.default_rng(0)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one arm on all targets, without the seeds that lack a target."""

    seeds: tuple[int, ...]
    table: Floats
    """(R, M): a row for each seed."""
    left_out: tuple[int, ...]
    """Seeds that lack a target."""


def scores_of(
    experiment: Experiment, label: str, value: Callable[[SummaryRow], float], targets: Sequence[str]
) -> Scores:
    """Scores of an arm; a seed without a finished training on every target is left out."""
    rows = {(r.seed, r.env_id): value(r) for r in experiment.targets if r.arm == label}
    seeds = sorted({seed for seed, _ in rows})
    table = np.array([[rows.get((s, t), np.nan) for t in targets] for s in seeds], np.float64)
    complete, mask = without_gaps(table.reshape(len(seeds), len(targets)))
    return Scores(
        seeds=tuple(s for s, is_complete in zip(seeds, mask, strict=True) if is_complete),
        table=complete,
        left_out=tuple(s for s, is_complete in zip(seeds, mask, strict=True) if not is_complete),
    )


def auc(row: SummaryRow) -> float:
    """Area under the curve."""
    return row.auc


def final(row: SummaryRow) -> float:
    """Final score in the reference environment."""
    return row.final_score


def difference(x: Scores, y: Scores) -> Estimate | None:
    """Mean difference over the seeds that both arms have; None if they share none."""
    shared = [seed for seed in x.seeds if seed in y.seeds]
    if not shared:
        return None
    left, right = (each.table[[each.seeds.index(seed) for seed in shared]] for each in (x, y))
    return paired_difference(left, right, seeded())


def _estimate(scores: Scores, statistic: Statistic) -> Estimate | None:
    if not scores.seeds:
        return None
    return estimate(scores.table, seeded(), statistic=statistic, whole_runs=True)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """An arm beside scratch; a value is None if it is unknown."""

    label: str
    over_scratch: Estimate | None
    """Mean area less scratch's, paired over seeds."""
    forward_is_raw: bool
    """Whether forward transfer is a plain difference on some target."""

    @property
    def is_negative(self) -> bool:
        """Whether it is below scratch when rounded to two decimals."""
        return self.over_scratch is not None and round(self.over_scratch.value, 2) < 0


@dataclass(frozen=True, kw_only=True)
class ArmSummary(Compared):
    """One arm over all targets; a value is None if it is unknown."""

    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    reference: str | None
    """Label of the arm it is compared with; None for the reference itself."""
    auc: Estimate | None
    """Interquartile mean of the areas."""
    final: Estimate | None
    """Interquartile mean of the final scores."""
    gap: Estimate | None
    """Optimality gap of the final scores; None if scores are raw returns."""
    difference: Estimate | None
    """Mean area less the reference's, paired over seeds."""
    improvement: Estimate | None
    """Probability that a run has a larger area than a run of the reference."""
    forward: Estimate | None
    """Mean forward transfer; None likewise."""
    retention: Estimate | None
    """Score on the sources after training on the target, less that before."""
    seconds: Estimate | None
    """Seconds of learning on a target; the interquartile mean leaves out interrupted trainings."""


def reference_of(experiment: Experiment) -> str:
    """The arm that others are compared with: fine_tune, else scratch, else a baseline."""
    arms = [arm_of(label) for label in experiment.arms]
    others = [arm for arm in arms if arm != CANDIDATE]
    return next((name for name in (REFERENCE, SCRATCH) if name in arms), (others or arms)[0])


def counterpart(experiment: Experiment, label: str, arm: str) -> str | None:
    """The label of another arm with the same values of the settings that vary in both.

    ``contrastive_distillation+gamma=0.9+n_negatives=8`` is compared with ``fine_tune+gamma=0.9``.
    None if there is none, and for the arm itself.
    """
    if arm_of(label) == arm:
        return None
    labels = [each for each in experiment.arms if arm_of(each) == arm and is_part_of(each, label)]
    return max(labels, key=lambda each: each.count("+")) if labels else None


def scores_beside(
    experiment: Experiment, label: str, arm: str, areas: Mapping[str, Scores]
) -> Scores | None:
    """The areas of an arm's `counterpart`; None if it has no complete seed."""
    found = areas.get(counterpart(experiment, label, arm) or "")
    return found if found is not None and found.seeds else None


def summarise_arms(experiment: Experiment) -> list[ArmSummary]:
    """A summary of each arm over all targets."""
    targets = experiment.target_ids
    areas = {label: scores_of(experiment, label, auc, targets) for label in experiment.arms}
    return [_summarise_arm(experiment, label, areas) for label in areas]


def _summarise_arm(experiment: Experiment, label: str, areas: Mapping[str, Scores]) -> ArmSummary:
    targets, area = experiment.target_ids, areas[label]
    ends = scores_of(experiment, label, final, targets)
    main = reference_of(experiment)
    reference = scores_beside(experiment, label, main, areas)
    scratch = scores_beside(experiment, label, SCRATCH, areas)
    forward, is_raw = None, False
    has_raw = not set(targets).isdisjoint(experiment.raw_ids)
    if not has_raw and scratch is not None and area.seeds:
        forward = mean_forward_transfer(area.table, scratch.table, seeded())
        is_raw = bool(forward_transfer(area.table, scratch.table).is_raw.any())
    return ArmSummary(
        label=label,
        seeds=area.seeds,
        left_out=area.left_out,
        reference=counterpart(experiment, label, main),
        auc=_estimate(area, interquartile_means),
        final=_estimate(ends, interquartile_means),
        gap=None if has_raw else _estimate(ends, optimality_gaps),
        difference=None if reference is None else difference(area, reference),
        improvement=improvement(area.table, reference.table, seeded(), whole_runs=True)
        if reference is not None and area.seeds
        else None,
        over_scratch=None if scratch is None else difference(area, scratch),
        forward=forward,
        forward_is_raw=is_raw,
        retention=_retention(experiment, label),
        seconds=_estimate(scores_of(experiment, label, seconds, targets), interquartile_means),
    )


def seconds(row: SummaryRow) -> float:
    """Seconds of learning, without evaluation."""
    return row.frames / row.frames_per_second if row.frames_per_second > 0 else float("nan")


def _retention(experiment: Experiment, label: str) -> Estimate | None:
    """Score after less score before, over the seeds and targets for which both are known."""
    before, kept = defaultdict(list), defaultdict(list)
    for row in experiment.sources:
        if row.arm == label:
            before[row.seed].append(row.final_score)
    for row in experiment.targets:
        if row.arm == label and row.retention is not None and row.seed in before:
            kept[row.seed].append(row.retention - float(np.mean(before[row.seed])))
    return estimate_of([float(np.mean(each)) for each in kept.values()]) if kept else None


def estimate_of(values: Sequence[float]) -> Estimate:
    """Mean of one number per run, with an interval if there are two or more runs."""
    return estimate(values, seeded())
