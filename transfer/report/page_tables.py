"""The tables of a report, as text: arms, targets, sources and diagnostics."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..run_directory.logger import PROGRESS
from ..settings.suite import raw_returns
from .arm_statistics import ArmSummary, Compared, estimate_of, reference_of
from .experiment import Experiment
from .formatting import (
    MISSING,
    NOT_LEARNT,
    WORSE,
    frames,
    number,
    score,
    with_interval,
)
from .labels import readable, short_env
from .scores import Survival
from .summary import SummaryRow
from .target_statistics import HALF, TargetSummary


@dataclass(frozen=True, kw_only=True)
class PageTable:
    """A table; the first column names its rows."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    """Explains the marks in the table."""


def arm_table(experiment: Experiment, arms: Sequence[ArmSummary]) -> PageTable:
    """One row for each arm, over all targets."""
    reference = readable(reference_of(experiment))
    headings = (
        "arm", "area under curve", f"less {reference}", f"beats {reference}", "final score",
        "optimality gap", "forward transfer", "sources kept", "seeds",
    )  # fmt: skip
    rows = tuple(
        (
            _marked(arm),
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
    return PageTable(headings=headings, rows=rows, note=_marks(arms))


def _marked(arm: Compared) -> str:
    return readable(arm.label) + (f" {WORSE}" if arm.is_negative else "")


def _marks(arms: Sequence[Compared]) -> str:
    notes = []
    if any(arm.is_negative for arm in arms):
        notes.append(f"{WORSE} below training from scratch: negative transfer.")
    if any(arm.forward_is_raw for arm in arms):
        notes.append(
            "* where scratch scores 0, or leaves no room, forward transfer is the plain difference."
        )
    return " ".join(notes)


def target_table(experiment: Experiment, arms: Sequence[TargetSummary]) -> PageTable:
    """One row for each arm, on one target."""
    learnt = f"{experiment.learnt_score:.2g}"
    headings = (
        "arm", "area under curve", "jumpstart", "asymptote", "final score", "forward transfer",
        f"frames to {HALF:g}", f"frames to {learnt}", f"to {HALF:g}, sources too",
    )  # fmt: skip
    rows = tuple(
        (
            _marked(arm),
            with_interval(arm.auc),
            with_interval(arm.jumpstart, sign=True),
            with_interval(arm.asymptote),
            with_interval(arm.final),
            _forward(arm),
            median(arm.to_half),
            median(arm.to_learnt),
            median(arm.to_half_charged),
        )
        for arm in arms
    )
    return PageTable(headings=headings, rows=rows, note=_marks(arms))


def _forward(arm: TargetSummary) -> str:
    if arm.forward is None:
        return MISSING
    return f"{arm.forward:+.2f}".replace("-", "−") + ("*" if arm.forward_is_raw else "")


def median(curve: Survival | None) -> str:
    """A median time, or "not reached" if more than half of the runs did not reach the score."""
    if curve is None:
        return MISSING
    return "not reached" if curve.median is None else frames(curve.median)


def source_table(experiment: Experiment) -> PageTable:
    """One row for each source environment and each group of arms that share its agents."""
    groups = defaultdict(list)
    for arm in dict.fromkeys(row.arm for row in experiment.sources):
        agents = frozenset(r.weights_sha256 for r in experiment.sources if r.arm == arm)
        groups[agents].append(arm)
    rows = []
    for arms in groups.values():
        sources = [source for source in experiment.sources if source.arm == arms[0]]
        for env_id in dict.fromkeys(source.env_id for source in sources):
            own = [source for source in sources if source.env_id == env_id]
            missed = [source.seed for source in own if source.learnt is False]
            learnt = MISSING if all(source.learnt is None for source in own) else "all"
            rows.append(
                (
                    short_env(env_id),
                    readable(own[0].source_kind or " ".join(arms)),
                    with_interval(estimate_of([source.final_score for source in own])),
                    ", ".join(frames(source.frames) for source in own),
                    learnt
                    if not missed
                    else f"{NOT_LEARNT} not seed {', '.join(map(str, missed))}",
                )
            )
    headings = ("source", "trained", "final score", "frames, by seed", "learnt")
    any_missed = any(source.learnt is False for source in experiment.sources)
    note = f"{NOT_LEARNT} not learnt within its frames; included in all numbers."
    return PageTable(headings=headings, rows=tuple(rows), note=note if any_missed else "")


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


def diagnostics_table(experiment: Experiment) -> PageTable | None:
    """The last values that trainings on targets logged, averaged over targets and seeds."""
    last = {key: _last_values(path / PROGRESS) for key, path in experiment.specs.items()}
    values = pd.DataFrame([{"arm": key[0], **each} for key, each in last.items() if each])
    if values.empty:
        return None
    by_arm = values.groupby("arm")
    means = by_arm.mean().reindex(columns=[*_DIAGNOSTICS])
    rows = [
        (readable(arm), *(_number(value) for value in means.loc[arm]))
        for arm in experiment.arms
        if arm in means.index
    ]
    return PageTable(
        headings=("arm", *_DIAGNOSTICS.values()),
        rows=tuple(rows),
        note="The last logged values of each training on a target; "
        f"means over at most {number(int(by_arm.size().max()), 'training')}.",
    )


def _number(value: float) -> str:
    return MISSING if np.isnan(value) else f"{value:.3g}".replace("-", "−")


def _last_values(path: Path) -> dict[str, float]:
    """Column → its last number; empty if the file is missing or cannot be read."""
    try:
        log = pd.read_csv(path, usecols=lambda column: column in (*_DIAGNOSTICS, _KEY_AGE))
        logged = log.dropna(axis="columns", how="all").items()
        last = {str(name): float(values.dropna().iloc[-1]) for name, values in logged}
    except (OSError, ValueError):
        return {}
    if _KEY_AGE not in last:  # no keys are kept: the drift is that of the encoder
        last.pop(_KEY_DRIFT, None)
    return last


def train_table(experiment: Experiment) -> PageTable:
    """The results of `train` in each environment."""
    rows = []
    for env_id in dict.fromkeys(row.env_id for row in experiment.rows):
        own = [row for row in experiment.rows if row.env_id == env_id]
        rows.append(
            (
                short_env(env_id),
                with_interval(estimate_of([row.auc for row in own])),
                with_interval(estimate_of([row.final_score for row in own])),
                _success_rate(own),
                ", ".join(frames(row.frames) for row in own),
                f"{sum(row.learnt is True for row in own)} of {len(own)}",
            )
        )
    headings = ("environment", "area under curve", "final score", "success rate", "frames",
                "learnt")  # fmt: skip
    note = raw_returns(experiment.raw_ids) if experiment.raw_ids else ""
    return PageTable(headings=headings, rows=tuple(rows), note=note)


def _success_rate(rows: Sequence[SummaryRow]) -> str:
    rates = [row.final_success_rate for row in rows if row.final_success_rate is not None]
    return score(float(np.mean(rates))) if rates else MISSING
