"""The tables of a report, as text: what is told of arms, targets, sources and encoders."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..run_directory.logger import PROGRESS
from .arm_statistics import ArmSummary, estimate_of, reference_of
from .experiment import Experiment
from .formatting import MISSING, frames, number, score, with_interval
from .labels import readable, short_env
from .scores import Survival
from .target_statistics import HALF, TargetSummary

WORSE = "▼"
NOT_LEARNT = "✗"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table: the first column names its lines."""

    headings: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    note: str = ""
    """What its marks mean."""


def arm_grid(experiment: Experiment, arms: Sequence[ArmSummary]) -> Grid:
    """Every arm over all targets."""
    reference = readable(reference_of(experiment))
    headings = (
        "arm", "area under curve", f"less {reference}", f"beats {reference}", "final score",
        "optimality gap", "forward transfer", "sources kept", "seeds",
    )  # fmt: skip
    lines = tuple(
        (
            f"{readable(arm.label)}{f' {WORSE}' if arm.is_negative else ''}",
            with_interval(arm.auc),
            with_interval(arm.difference, sign=True),
            with_interval(arm.improvement),
            with_interval(arm.final),
            with_interval(arm.gap),
            with_interval(arm.forward, sign=True) + ("*" if arm.forward_is_raw else ""),
            with_interval(arm.retention, sign=True),
            f"{len(arm.seeds)}" + (f" (+{len(arm.left_out)} unfinished)" if arm.left_out else ""),
        )
        for arm in arms
    )
    return Grid(headings=headings, lines=lines, note=_marks(arms))


def _marks(arms: Sequence[ArmSummary] | Sequence[TargetSummary]) -> str:
    notes = []
    if any(arm.is_negative for arm in arms):
        notes.append(f"{WORSE} below training from scratch: negative transfer.")
    if any(arm.forward_is_raw for arm in arms):
        notes.append(
            "* where scratch scores 0, or leaves no room, forward transfer is the plain difference."
        )
    return " ".join(notes)


def target_grid(experiment: Experiment, arms: Sequence[TargetSummary]) -> Grid:
    """Every arm on one target."""
    learnt = f"{experiment.learnt_score:.2g}"
    headings = (
        "arm", "area under curve", "jumpstart", "asymptote", "final score", "forward transfer",
        f"frames to {HALF:g}", f"frames to {learnt}", f"to {HALF:g}, sources too",
    )  # fmt: skip
    lines = tuple(
        (
            f"{readable(arm.label)}{f' {WORSE}' if arm.is_negative else ''}",
            with_interval(arm.auc),
            with_interval(arm.jumpstart, sign=True),
            with_interval(arm.asymptote),
            with_interval(arm.final),
            MISSING
            if arm.forward is None
            else f"{arm.forward:+.2f}".replace("-", "−") + ("*" if arm.forward_is_raw else ""),
            median(arm.to_half),
            median(arm.to_learnt),
            median(arm.to_half_charged),
        )
        for arm in arms
    )
    return Grid(headings=headings, lines=lines, note=_marks(arms))


def median(curve: Survival | None) -> str:
    """A median time, or that more than half of the runs never got there."""
    if curve is None:
        return MISSING
    return "not reached" if curve.median is None else frames(curve.median)


def source_grid(experiment: Experiment) -> Grid:
    """Every source environment, by the arms that share the agents trained on it."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for arm in dict.fromkeys(row.arm for row in experiment.sources):
        own = tuple(sorted({r.weights_sha256 for r in experiment.sources if r.arm == arm}))
        groups.setdefault(own, []).append(arm)
    lines = []
    for members in groups.values():
        rows = [row for row in experiment.sources if row.arm == members[0]]
        for env_id in dict.fromkeys(row.env_id for row in rows):
            own_rows = [row for row in rows if row.env_id == env_id]
            missed = [row.seed for row in own_rows if not row.learnt]
            lines.append(
                (
                    short_env(env_id),
                    readable(rows[0].source_kind or " ".join(members)),
                    with_interval(estimate_of([row.final_score for row in own_rows])),
                    ", ".join(frames(row.frames) for row in own_rows),
                    "all" if not missed else f"{NOT_LEARNT} not seed {', '.join(map(str, missed))}",
                )
            )
    headings = ("source", "trained", "final score", "frames, by seed", "learnt")
    any_missed = any(not row.learnt for row in experiment.sources)
    note = f"{NOT_LEARNT} not learnt within its frames; counted all the same." if any_missed else ""
    return Grid(headings=headings, lines=tuple(lines), note=note)


_KEY_AGE, _KEY_DRIFT = "memory/key_age", "memory/key_drift"
_DIAGNOSTICS = {
    "aux/entropy": "policy entropy",
    "aux/effective_rank": "effective rank",
    "aux/gradient_cosine": "gradient cosine",
    "aux/gradient_ratio": "gradient ratio",
    "aux/accuracy": "accuracy",
    "memory/masked_fraction": "masked",
    _KEY_DRIFT: "key drift",
}


def diagnostics_grid(experiment: Experiment) -> Grid | None:
    """The last values that trainings on targets logged, means over targets and seeds."""
    by_arm: dict[str, list[dict[str, float]]] = {}
    for (arm, _, _), directory in experiment.specs.items():
        last = _last_values(directory / PROGRESS)
        if last:
            by_arm.setdefault(arm, []).append(last)
    if not by_arm:
        return None
    lines = []
    for arm in (arm for arm in experiment.arms if arm in by_arm):
        values = [arm]
        for column in _DIAGNOSTICS:
            found = [last[column] for last in by_arm[arm] if column in last]
            values.append(f"{np.mean(found):.3g}".replace("-", "−") if found else MISSING)
        lines.append((readable(arm), *values[1:]))
    return Grid(
        headings=("arm", *_DIAGNOSTICS.values()),
        lines=tuple(lines),
        note="The last logged values of each training on a target; "
        f"means over {number(max(map(len, by_arm.values())), 'training')} at most.",
    )


def _last_values(path: Path) -> dict[str, float]:
    """Column → its last number; nothing where the file is not there or cannot be read."""
    last: dict[str, float] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for column, text in row.items():
                    if column in (*_DIAGNOSTICS, _KEY_AGE) and text:
                        last[column] = float(text)
    except (OSError, ValueError, csv.Error):
        return {}
    if _KEY_AGE not in last:  # it keeps no keys, and what it logs is how its encoder drifts
        last.pop(_KEY_DRIFT, None)
    return last


def train_grid(experiment: Experiment) -> Grid:
    """What `train` came to in each environment."""
    lines = []
    for env_id in dict.fromkeys(row.env_id for row in experiment.rows):
        own = [row for row in experiment.rows if row.env_id == env_id]
        lines.append(
            (
                short_env(env_id),
                with_interval(estimate_of([row.auc for row in own])),
                with_interval(estimate_of([row.final_score for row in own])),
                score(float(np.mean([row.final_success_rate for row in own]))),
                ", ".join(frames(row.frames) for row in own),
                f"{sum(row.learnt for row in own)} of {len(own)}",
            )
        )
    headings = ("environment", "area under curve", "final score", "success rate", "frames",
                "learnt")  # fmt: skip
    return Grid(headings=headings, lines=tuple(lines))
