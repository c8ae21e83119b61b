"""The results of a run's specs put together: its own curves, summary and result."""

import hashlib
import time
from typing import Any

from ..evaluation.curves import CurvePoint, InformationPoint, write_points
from ..report.summary import (
    FinishedTraining,
    SummaryRow,
    all_points,
    read_finished,
    summarise,
    write_summary,
)
from ..run_directory.directory import CURVES, INFORMATION, RESULT, SUMMARY, write_json
from .plan import Plan

_SECONDS_BETWEEN_TABLES = 60.0
_POINTS: dict[str, Any] = {CURVES: CurvePoint, INFORMATION: InformationPoint}


def _finished(plan: Plan) -> list[FinishedTraining]:
    found = [read_finished(spec, plan.directory_of(spec)) for spec in plan.specs]
    return [each for each in found if each is not None]


def summary_rows(plan: Plan) -> list[SummaryRow]:
    """What the finished specs of a plan came to."""
    return summarise(_finished(plan), given_source=plan.given_source)


class Tables:
    """The run's tables, written anew now and then while it works."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._last = time.monotonic()

    def gather_now_and_then(self) -> None:
        """Write them where the last time is long ago, by what it cost."""
        started = time.monotonic()
        if started - self._last > _SECONDS_BETWEEN_TABLES and not self._plan.is_one_training:
            gather(self._plan, whole=False)
            self._last = time.monotonic() + 20 * (time.monotonic() - started)


def gather(plan: Plan, *, whole: bool) -> None:
    """Write the run's own tables from those of its specs, and its result where it is whole."""
    directories = [plan.directory_of(spec) for spec in plan.specs]
    for name, kind in _POINTS.items():
        write_points(plan.directory / name, kind, all_points(plan.specs, directories, name, kind))
    write_summary(plan.directory / SUMMARY, summary_rows(plan))
    if not whole or plan.is_one_training:
        return
    results = {each.spec.name: each.result for each in _finished(plan)}
    hashes = {name: str(result["weights_sha256"]) for name, result in results.items()}
    frames = sum(int(result["frames"]) for result in results.values())
    seconds = sum(float(result["seconds"]) for result in results.values())
    evaluation = sum(float(result["evaluation_seconds"]) for result in results.values())
    write_json(
        plan.directory / RESULT,
        {
            "weights_sha256": hashlib.sha256(repr(sorted(hashes.items())).encode()).hexdigest(),
            "frames": frames,
            "frames_per_second": round(frames / (seconds - evaluation), 1),
            "seconds": round(seconds, 3),
            "evaluation_seconds": round(evaluation, 3),
            "cells": results,
        },
    )
