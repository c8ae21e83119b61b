"""Collects the results of a run's specs into the run's own tables and result."""

import hashlib
import time
from dataclasses import replace
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
from ..run_directory.atomic_files import write_json
from ..run_directory.directory import (
    CURVES,
    INFORMATION,
    PACKAGES,
    RESULT,
    SUMMARY,
    installed_versions,
    settings_hash,
    versions_text,
)
from .plan import Plan

_SECONDS_BETWEEN_TABLES = 60.0
_POINTS: dict[str, Any] = {CURVES: CurvePoint, INFORMATION: InformationPoint}


def _finished(plan: Plan) -> list[FinishedTraining]:
    found = [read_finished(spec, plan.directory_of(spec)) for spec in plan.specs]
    return [each for each in found if each is not None]


def summary_rows(plan: Plan) -> list[SummaryRow]:
    """The summary of a plan's finished specs."""
    return summarise(_finished(plan), given_source=plan.given_source)


class ResultsWriter:
    """Writes a run's tables, from time to time while it runs and at its end."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._last = time.monotonic()

    def write_now_and_then(self) -> None:
        """Write the tables if the last time is long ago, compared with the time it took."""
        started = time.monotonic()
        if started - self._last > _SECONDS_BETWEEN_TABLES and not self._plan.is_one_training:
            self.write(complete=False)
            self._last = time.monotonic() + 20 * (time.monotonic() - started)

    def write(self, *, complete: bool) -> None:
        """Write the run's tables from those of its specs; the result too if it is complete."""
        plan = self._plan
        of_run: dict[str, Any] = {
            "settings": settings_hash(plan.config),
            "versions": versions_text(installed_versions(PACKAGES)),
        }
        for name, kind in _POINTS.items():
            points = all_points(plan.specs, plan.directory, name, kind)
            write_points(plan.directory / name, kind, [replace(p, **of_run) for p in points])
        write_summary(
            plan.directory / SUMMARY, [replace(row, **of_run) for row in summary_rows(plan)]
        )
        if complete and not plan.is_one_training:
            write_json(plan.directory / RESULT, self._result())

    def _result(self) -> dict[str, object]:
        results = {each.spec.name: each.result for each in _finished(self._plan)}
        hashes = {name: str(result["weights_sha256"]) for name, result in results.items()}
        frames = sum(int(result["frames"]) for result in results.values())
        seconds = sum(float(result["seconds"]) for result in results.values())
        evaluation = sum(float(result["evaluation_seconds"]) for result in results.values())
        return {
            "weights_sha256": hashlib.sha256(repr(sorted(hashes.items())).encode()).hexdigest(),
            "frames": frames,
            "frames_per_second": round(frames / (seconds - evaluation), 1),
            "seconds": round(seconds, 3),
            "evaluation_seconds": round(evaluation, 3),
            "cells": results,
        }
