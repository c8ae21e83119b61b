"""Reads the results of a run, finished or not, from its directory."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from ..errors import SettingsError
from ..evaluation.curves import AnyPoint, CurvePoint, InformationPoint, read_points
from ..run_directory.directory import (
    CONFIG,
    CURVES,
    INFORMATION,
    MANIFEST,
    RESOLVED,
    SUMMARY,
    RunDirectoryError,
    read_config,
    read_result,
)
from ..settings.arms import arm_of
from ..settings.spec import TrainingSpec
from .summary import (
    FinishedTraining,
    SummaryRow,
    all_points,
    read_finished,
    read_summary,
    summarise,
)

_EXPECTED = (
    "expected the directory of a transfer, ablate or train, or one that holds its "
    f"{CURVES} and {SUMMARY}"
)
_DEFAULT_LEARNT_SCORE = 0.9
_Line = TypeVar("_Line", bound=SummaryRow | CurvePoint)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The results of a run."""

    directory: Path
    config: Mapping[str, Any]
    """Empty if there is no ``config.yaml``."""
    manifest: Mapping[str, Any]
    """Empty if there is no ``manifest.json``."""
    rows: tuple[SummaryRow, ...]
    """Summaries of the finished trainings, in the order of arms."""
    points: tuple[CurvePoint, ...]
    """Points of all learning curves, also of unfinished trainings."""
    information: tuple[InformationPoint, ...]
    specs: Mapping[tuple[str, str, int], Path] = field(default_factory=dict)
    """(arm, target, seed) → directory of a finished training on a target."""
    progress: tuple[str, ...] = ()
    """Sentences on how much of the run is finished; empty if all of it is."""
    notes: tuple[str, ...] = ()
    """Sentences on files that could not be read."""

    @property
    def targets(self) -> list[SummaryRow]:
        """The rows of trainings on targets."""
        return [row for row in self.rows if row.role == "target"]

    @property
    def sources(self) -> list[SummaryRow]:
        """The rows of trainings on sources, repeated for each arm that used them."""
        return [row for row in self.rows if row.role == "source"]

    @property
    def arms(self) -> list[str]:
        """Arms with a finished training on a target, in order."""
        return list(dict.fromkeys(row.arm for row in self.targets))

    @property
    def target_ids(self) -> list[str]:
        """Targets on which a training is finished, in the order of the command."""
        return _in_order(self.config.get("target"), (row.env_id for row in self.targets))

    @property
    def curve_ids(self) -> list[str]:
        """Targets with a learning curve, finished or not, in the order of the command."""
        ids = (point.env_id for point in self.points if point.role == "target")
        return _in_order(self.config.get("target"), ids)

    @property
    def raw_ids(self) -> list[str]:
        """Environments whose scores are raw returns, because the range of returns is unknown."""
        return list(dict.fromkeys(row.env_id for row in self.rows if row.is_raw))

    @property
    def seeds(self) -> list[int]:
        """Seeds of the trainings on targets, or of all trainings if there are none."""
        return sorted({row.seed for row in self.targets or self.rows})

    @property
    def learnt_score(self) -> float:
        """The score that counts as learnt."""
        suite = (self.config.get(RESOLVED) or {}).get("suite") or {}
        return float(suite.get("learnt_score", _DEFAULT_LEARNT_SCORE))


def read_experiment(directory: Path) -> Experiment:
    """Read a run from the directories of its trainings or, if these are missing, from its tables.

    Raises:
        SettingsError: the directory does not exist or has nothing to report.
        ValueError: a table cannot be read.
    """
    _check(directory)
    config = read_config(directory) if (directory / CONFIG).is_file() else {}
    notes: list[str] = []
    found = _find_specs(directory, config, notes)
    whole = _finished(found, directory, notes)
    fresh = summarise(whole, given_source=_given_source(config, notes))
    rows = without_nan(_merged(directory, fresh), notes)
    points = _all(directory, CURVES, CurvePoint, found)
    if not points:
        raise SettingsError(
            f"{directory}: has nothing to report yet: no training was evaluated; let it run first"
        )
    specs = {
        (spec.arms[0], spec.task.env_ids[0], spec.seed): directory / spec.name
        for spec in (each.spec for each in whole)
        if spec.role == "target"
    }
    points = from_counted(points, rows)
    information = _all(directory, INFORMATION, InformationPoint, found)
    return Experiment(
        directory=directory,
        config=config,
        manifest=_manifest(directory),
        rows=tuple(in_order_of_arms(config, rows)),
        points=tuple(in_order_of_arms(config, points)),
        information=tuple(from_counted(information, rows)),
        specs=specs,
        progress=tuple(progress_of(config, rows, points)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _in_order(order: Sequence[str] | None, names: Iterable[str]) -> list[str]:
    """Each name once: first those in `order`, then the others."""
    found = dict.fromkeys(names)
    return list(dict.fromkeys([*(name for name in order or () if name in found), *found]))


def _check(directory: Path) -> None:
    if not directory.exists():
        raise SettingsError(f"{directory}: does not exist; {_EXPECTED}")
    if not directory.is_dir():
        raise SettingsError(f"{directory}: is a file; {_EXPECTED}")
    if any((directory / name).is_file() for name in (CONFIG, CURVES)):
        return
    inside = sorted(str(path.parent) for path in directory.glob(f"*/{CONFIG}"))
    near = f"; choose one in it: {', '.join(inside[:4])}" if inside else ""
    raise SettingsError(f"{directory}: is not a run's directory; {_EXPECTED}{near}")


def _find_specs(directory: Path, config: Mapping[str, Any], notes: list[str]) -> list[TrainingSpec]:
    """Specs of the trainings that have started in a run; unreadable ones are noted."""
    configs: dict[str, Mapping[str, Any]] = {}
    for pattern in ("sources/*", "targets/*/*/seed*", "seed*"):
        for path in sorted(directory.glob(f"{pattern}/{CONFIG}")):
            try:
                configs[path.parent.relative_to(directory).as_posix()] = read_config(path.parent)
            except RunDirectoryError as error:
                notes.append(f"Left out: {error}.")
    if "role" in config.get(RESOLVED, {}) and "seeds" not in config:
        configs[""] = config  # the run is one training
    needs = {name: _needed(name, each, directory) for name, each in configs.items()}
    arm_of_name = {name: _arm(name, directory) for name in configs}
    specs = []
    for name, each in configs.items():
        arms: tuple[str, ...] = (arm_of_name[name],)
        if name.startswith("sources/"):  # those that start from it
            arms = tuple(dict.fromkeys(arm_of_name[n] for n in configs if needs[n] == name))
        try:
            specs.append(TrainingSpec.from_config(each, name=name, arms=arms, needs=needs[name]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            notes.append(f"Left out: {name or directory}/{CONFIG} cannot be read ({error!r}).")
    return specs


def _arm(name: str, directory: Path) -> str:
    """The arm of a training: from its directory, ``targets/ARM/ENV/seedS``, or from its curve."""
    parts = name.split("/")
    if parts[0] == "targets":
        return parts[1]
    path = directory / name / CURVES
    points = read_points(path, CurvePoint) if path.is_file() else []
    return points[0].arm if points else "train"


def _needed(name: str, config: Mapping[str, Any], directory: Path) -> str | None:
    """Name of the spec that a training starts from; None if there is none in this run."""
    source = (config.get(RESOLVED) or {}).get("source")
    if not isinstance(source, str) or not name:
        return None
    needed = Path(os.path.normpath(Path(name) / source)).as_posix()
    return needed if (directory / needed / CONFIG).is_file() else None


def _finished(
    specs: Sequence[TrainingSpec], directory: Path, notes: list[str]
) -> list[FinishedTraining]:
    """The finished trainings that can be read together with their sources."""
    found = {}
    for spec in specs:
        try:
            found[spec.name] = read_finished(spec, directory / spec.name)
        except (RunDirectoryError, OSError, ValueError) as error:
            notes.append(f"Left out: {error}.")
    whole = []
    for each in filter(None, found.values()):
        needed = each.spec.needs
        if needed is None or found.get(needed) is not None:
            whole.append(each)
        else:
            name = each.spec.name
            notes.append(f"Left out: {name}, because its source, {needed}, cannot be read.")
    return whole


def _given_source(config: Mapping[str, Any], notes: list[str]) -> Mapping[str, Any] | None:
    """The result of the run given by ``--from``, if it still exists."""
    if not config.get("from"):
        return None
    try:
        return read_result(Path(config["from"]))
    except RunDirectoryError as error:
        notes.append(f"The source is unknown: {error}.")
        return None


def _merged(directory: Path, fresh: Iterable[SummaryRow]) -> list[SummaryRow]:
    """Rows of the run's table, replaced by those of its specs, which are newer."""
    kept = read_summary(directory / SUMMARY) if (directory / SUMMARY).is_file() else []
    return list({(r.arm, r.seed, r.role, r.env_id): r for r in (*kept, *fresh)}.values())


def _all(
    directory: Path, name: str, kind: type[AnyPoint], specs: Sequence[TrainingSpec]
) -> list[AnyPoint]:
    """Points of the run's file, replaced by those of its specs, which are newer."""
    kept = read_points(directory / name, kind) if (directory / name).is_file() else []
    fresh = all_points(specs, directory, name, kind)
    seen = {(point.arm, point.seed, point.role, point.env_id) for point in fresh}
    return [p for p in kept if (p.arm, p.seed, p.role, p.env_id) not in seen] + fresh


def from_counted(points: Sequence[AnyPoint], rows: Sequence[SummaryRow]) -> list[AnyPoint]:
    """Drop the points before `SummaryRow.counted_from` and count frames from there.

    It is above 0 for scratch with the frames of the source added. It is known only for finished
    trainings; the points of the unfinished ones of such an arm are left out.
    """
    start = {(row.arm, row.env_id, row.seed, row.role): row.counted_from for row in rows}
    late = {key[0] for key, frames in start.items() if frames}
    counted = []
    for point in points:
        key = (point.arm, point.env_id, point.seed, point.role)
        if point.arm not in late:
            counted.append(point)
        elif key in start and point.frames >= start[key]:
            counted.append(replace(point, frames=point.frames - start[key]))
    return counted


def without_nan(rows: Sequence[SummaryRow], notes: list[str]) -> list[SummaryRow]:
    """Leave out rows with a score that is not a number, and note them."""
    good = []
    for row in rows:
        if math.isfinite(row.auc) and math.isfinite(row.final_score):
            good.append(row)
        else:
            place = f"{row.arm}, {row.env_id}, seed {row.seed}"
            notes.append(f"Left out: {place}: its score is not a number.")
    return good


def _manifest(directory: Path) -> dict[str, Any]:
    try:
        found = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def in_order_of_arms(config: Mapping[str, Any], lines: Sequence[_Line]) -> list[_Line]:
    """Lines in the order of the command's arms, the variants of an arm together; then others."""
    asked = [str(arm) for arm in config.get("arms") or ()]
    arms = list(dict.fromkeys(line.arm for line in lines))
    arms.sort(key=lambda arm: [*asked, arm_of(arm)].index(arm_of(arm)))
    return sorted(lines, key=lambda line: arms.index(line.arm))


def progress_of(
    config: Mapping[str, Any], rows: Sequence[SummaryRow], points: Sequence[CurvePoint]
) -> list[str]:
    """Sentences on how much of a study is finished; empty if all of it is."""
    done = {(row.arm, row.env_id, row.seed) for row in rows if row.role == "target"}
    begun = {(p.arm, p.env_id, p.seed) for p in points if p.role == "target"}
    arms = {arm for arm, _, _ in begun}
    started = {arm_of(arm) for arm in arms}
    waiting = [arm for arm in config.get("arms") or () if arm not in started]
    notes = [f"Not started on any target: {', '.join(waiting)}."] if waiting else []
    seeds = range(config.get("seed", 0), config.get("seed", 0) + config.get("seeds", 1))
    targets = config.get("target") or ()
    planned = {(arm, t, s) for arm in arms | set(waiting) for t in targets for s in seeds} | begun
    if config.get("command") != "train" and len(done) < len(planned):
        text = f"{len(done)} of {len(planned)} trainings on targets are finished"
        notes.insert(0, f"Unfinished: {text}; means are over these.")
    return notes
