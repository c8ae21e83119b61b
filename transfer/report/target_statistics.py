"""Statistics of each arm on each target."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..evaluation.curves import CurvePoint
from ..settings.arms import arm_of
from .arm_statistics import Compared, auc, difference, estimate_of, scores_beside, scores_of
from .experiment import Experiment
from .intervals import Estimate
from .labels import SCRATCH
from .scores import (
    Survival,
    TimeToThreshold,
    asymptote,
    charged,
    forward_transfer,
    kaplan_meier,
    time_to_threshold,
)

HALF = 0.5
"""The lower of the two thresholds for times; the other is the score that counts as learnt."""


@dataclass(frozen=True, kw_only=True)
class TargetSummary(Compared):
    """One arm on one target, over its seeds."""

    env_id: str
    auc: Estimate
    jumpstart: Estimate | None
    asymptote: Estimate | None
    final: Estimate
    forward: float | None
    to_half: Survival | None
    to_learnt: Survival | None
    to_half_charged: Survival | None
    """`to_half` with the frames of the source added."""


def summarise_target(experiment: Experiment, env_id: str) -> list[TargetSummary]:
    """A summary of each arm on one target."""
    rows = [row for row in experiment.targets if row.env_id == env_id]
    is_raw = env_id in experiment.raw_ids
    areas = {label: scores_of(experiment, label, auc, [env_id]) for label in experiment.arms}
    found = []
    for label in dict.fromkeys(row.arm for row in rows):
        own = [row for row in rows if row.arm == label]
        curves = curves_of(experiment.points, label, env_id, [row.seed for row in own])
        ends = [asymptote([point.score for point in curve]) for curve in curves]
        jumps = [row.jumpstart for row in own if row.jumpstart is not None]
        against = scores_beside(experiment, label, SCRATCH, areas)
        forward = None
        if against is not None and not is_raw:
            forward = forward_transfer(areas[label].table, against.table)
        found.append(
            TargetSummary(
                label=label,
                env_id=env_id,
                auc=estimate_of([row.auc for row in own]),
                jumpstart=estimate_of(jumps) if jumps and arm_of(label) != SCRATCH else None,
                asymptote=estimate_of(ends) if ends else None,
                final=estimate_of([row.final_score for row in own]),
                over_scratch=None if against is None else difference(areas[label], against),
                forward=None if forward is None else float(forward.values.mean()),
                forward_is_raw=forward is not None and bool(forward.is_raw.any()),
                to_half=None if is_raw else survival(curves, HALF),
                to_learnt=None if is_raw else survival(curves, experiment.learnt_score),
                to_half_charged=None
                if is_raw
                else survival(
                    curves, HALF, {r.seed: float(r.source_frames or r.counted_from) for r in own}
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
    """Learning curves of an arm in an environment, in the order of seeds; seeds may lack one."""
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
    """Kaplan–Meier estimate of the times to a score; None without curves."""
    times: list[TimeToThreshold] = []
    for curve in curves:
        time = time_to_threshold([p.frames for p in curve], [p.score for p in curve], threshold)
        extra = 0.0 if source_frames is None else source_frames.get(curve[0].seed, 0.0)
        times.append(charged(time, extra))
    return kaplan_meier(times) if times else None
