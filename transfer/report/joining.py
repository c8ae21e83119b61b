"""Joins the slices of a study: runs that differ in nothing but their seeds."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from ..evaluation.curves import CurvePoint, InformationPoint, read_points
from ..run_directory.directory import differences, settings_hash, versions_text
from .experiment import (
    Experiment,
    from_counted,
    in_order_of_arms,
    progress_of,
    read_experiment,
    without_nan,
)
from .summary import SummaryRow, read_summary

_SEEDS = ("seed", "seeds")
_Line = SummaryRow | CurvePoint | InformationPoint


@dataclass(frozen=True, kw_only=True)
class _Slice:
    """A part of a study: a run directory, or one table."""

    name: str
    settings: str
    versions: str
    config: Mapping[str, Any]
    """Empty for a table."""
    lines: Sequence[_Line]


def read_experiments(paths: Sequence[Path]) -> Experiment:
    """Read a run, or join several that differ in nothing but their seeds.

    Args:
        paths: directories of runs, or their tables (``curves.csv``, ``summary.csv`` and
            ``information.csv``).

    Raises:
        SettingsError: there is nothing to read, settings or versions differ, a table carries no
            hash of its settings, or two of them hold the same seed.
        ValueError: a table cannot be read.
    """
    if not paths:
        raise SettingsError("report: name the directory of a run, DIR, or several to join them")
    tables = [path for path in paths if path.suffix == ".csv"]
    runs = [read_experiment(path) for path in paths if path not in tables]
    if len(runs) == 1 and not tables:
        return runs[0]
    slices = [_slice_of_run(run) for run in runs] + [_slice_of_table(path) for path in tables]
    for other in slices[1:]:
        _check_alike(slices[0], other)
    _check_seeds(slices)
    if tables:
        runs.append(_of_tables(slices[len(runs) :], tables[0].parent))
    return _joined(runs, [each.name for each in slices])


def _slice_of_run(run: Experiment) -> _Slice:
    lines: list[_Line] = [*run.rows, *run.points, *run.information]
    if run.config:
        settings = settings_hash(run.config)
        versions = versions_text(run.manifest.get("versions") or {})
        return _Slice(
            name=str(run.directory), settings=settings, versions=versions,
            config=run.config, lines=lines,
        )  # fmt: skip
    return _of_lines(str(run.directory), lines)


def _slice_of_table(path: Path) -> _Slice:
    """A table, whose kind its columns tell."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            columns = next(csv.reader(file), [])
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    lines: Sequence[_Line]
    if "auc" in columns:
        lines = read_summary(path)
    elif "nats" in columns:
        lines = read_points(path, InformationPoint)
    elif "score" in columns:
        lines = read_points(path, CurvePoint)
    else:
        raise SettingsError(
            f"{path}: is not a table of a run; expected a curves.csv, summary.csv or "
            "information.csv"
        )
    return _of_lines(str(path), lines)


def _of_lines(name: str, lines: Sequence[_Line]) -> _Slice:
    """A slice whose lines carry their settings and versions."""
    found = {(line.settings, line.versions) for line in lines}
    if len(found) != 1 or ("", "") in found:
        raise SettingsError(
            f"{name}: does not carry one hash of its settings, so that it cannot be joined; only "
            "tables of whole runs do, of this version on: give the run's directory instead"
        )
    ((settings, versions),) = found
    return _Slice(name=name, settings=settings, versions=versions, config={}, lines=lines)


def _check_alike(one: _Slice, other: _Slice) -> None:
    """Refuse slices whose settings or versions differ."""
    both = f"{one.name} and {other.name} cannot be joined"
    if one.settings != other.settings:
        found = f"hashes {one.settings} and {other.settings}"
        if one.config and other.config:
            left, right = (
                {k: v for k, v in each.config.items() if k not in _SEEDS} for each in (one, other)
            )
            listed = [f"{key}: {a} and {b}" for key, a, b in differences(left, right)]
            found = "; ".join(listed) or "arms or vary, which a slice may not change"
        raise SettingsError(
            f"{both}: their settings differ ({found}); only their seeds may: give the same command "
            "with another --seed"
        )
    if one.versions != other.versions:
        before, after = (set(each.versions.split("; ")) for each in (one, other))
        raise SettingsError(
            f"{both}: they were made with other versions "
            f"({', '.join(sorted(before - after))} and {', '.join(sorted(after - before))})"
        )


def _check_seeds(slices: Sequence[_Slice]) -> None:
    """Refuse slices that hold the same training."""
    known: dict[tuple[Any, ...], str] = {}
    for each in slices:
        keys = {(type(line), line.arm, line.role, line.env_id, line.seed) for line in each.lines}
        for key in sorted(keys, key=str):
            if key in known:
                _, arm, _, env_id, seed = key
                raise SettingsError(
                    f"{known[key]} and {each.name} cannot be joined: both hold seed {seed} of "
                    f"{arm} on {env_id}"
                )
        known |= dict.fromkeys(keys, each.name)


def _of_tables(slices: Sequence[_Slice], directory: Path) -> Experiment:
    """The experiment in some tables."""
    lines = [line for each in slices for line in each.lines]
    notes: list[str] = []
    rows = without_nan([line for line in lines if isinstance(line, SummaryRow)], notes)
    points = from_counted([line for line in lines if isinstance(line, CurvePoint)], rows)
    information = [line for line in lines if isinstance(line, InformationPoint)]
    return Experiment(
        directory=directory,
        config={},
        manifest={},
        rows=tuple(rows),
        points=tuple(points),
        information=tuple(from_counted(information, rows)),
        progress=tuple(progress_of({}, rows, points)),
        notes=tuple(notes),
    )


def _joined(runs: Sequence[Experiment], names: Sequence[str]) -> Experiment:
    """One experiment of several that are slices of one study."""
    first = runs[0]
    rows = [row for run in runs for row in run.rows]
    points = [point for run in runs for point in run.points]
    if not points:
        raise SettingsError(f"{', '.join(names)}: no learning curves; give their curves.csv, too")
    seeds = sorted({point.seed for point in points})
    config: dict[str, Any] = dict(first.config)
    if config:
        config |= {"seed": seeds[0], "seeds": len(seeds)}
    return replace(
        first,
        config=config,
        manifest={**first.manifest, "joined": list(names)},
        rows=tuple(in_order_of_arms(config, rows)),
        points=tuple(in_order_of_arms(config, points)),
        information=tuple(p for run in runs for p in run.information),
        specs={key: path for run in runs for key, path in run.specs.items()},
        progress=tuple(line for run in runs for line in run.progress),
        notes=tuple(dict.fromkeys(note for run in runs for note in run.notes)),
    )
