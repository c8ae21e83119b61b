"""Summaries of finished trainings: one row for each arm, seed and environment."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, Self, get_args, get_type_hints

from ..evaluation.curves import (
    AnyPoint,
    CurvePoint,
    read_points,
    under_arm,
    write_table,
)
from ..run_directory.directory import CURVES, RESULT, read_result
from ..settings.arms import arm_of, is_part_of
from ..settings.spec import TrainingSpec
from .scores import area_under_curve, jumpstart


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """Summary of one learning curve: a line of ``summary.csv``."""

    suite: str
    agent: str
    arm: str
    seed: int
    role: str
    env_id: str
    auc: float
    """Area under the score curve from `counted_from` on, divided by its frames there."""
    jumpstart: float | None
    """`zero_shot`, minus scratch's; None without scratch or on a source."""
    last_score: float
    """At the last checkpoint, on the training backend."""
    final_score: float
    """In the reference environment, at the end."""
    final_return_mean: float
    final_return_std: float
    final_success_rate: float | None
    """None if the return of a success is unknown."""
    final_episodes: int
    final_backend: str
    frames: int
    learnt: bool | None
    """None if nothing says when the environment is learnt."""
    source_frames: int | None
    """Frames its source took; None without a source."""
    source_learnt: bool | None
    frames_per_second: float
    seconds: float
    evaluation_seconds: float
    weights_sha256: str
    retention: float | None = None
    """Mean score on its source's environments after training on the target; None without one."""
    information_future: float | None = None
    """Lower bound in nats on the information of its features about a later observation."""
    information_source: float | None = None
    """Lower bound in nats on their information about the source's features; None without one."""
    counted_from: int = 0
    """First frame of the curve that counts; above 0 if it was trained for longer than the arms that
    it is compared with, as scratch with the frames of the source added."""
    best_frames: int | None = None
    """Frames of the agent with the highest score during training; None in an older run."""
    best_score: float | None = None
    """That agent's, in the reference environment, with the episodes of the final agent, which did
    not choose it; None for a target whose best agent is not the final one."""
    source_kind: str | None = None
    """How its source was trained, with the settings that vary; None without a source. For a source:
    how it was trained itself."""
    zero_shot: float | None = None
    """Score before the first frame that is learnt from with a reward: after the realignment of an
    arm that realigns; None on a source, and in an older run."""
    gathered: int = 0
    """Frames that were gathered without a reward before it learnt; they are among `frames`."""
    is_raw: bool = False
    """Whether scores and areas are raw returns, because the range of returns is unknown."""
    settings: str = ""
    """Hash of the run's settings without its seeds."""
    versions: str = ""
    """Of Python and the packages that the run recorded."""

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Self:
        """A row from a line of the file, as `csv.DictReader` gives it.

        Columns with a default may be missing, as in files of earlier versions.

        Raises:
            ValueError: a value is missing or has the wrong type.
        """
        hints = get_type_hints(cls)
        later = {f.name for f in fields(cls) if f.default is not MISSING}
        there = {name: hint for name, hint in hints.items() if name in row or name not in later}
        return cls(**{name: _read(name, hint, row.get(name) or "") for name, hint in there.items()})


@dataclass(frozen=True, kw_only=True)
class FinishedTraining:
    """A spec with its results."""

    spec: TrainingSpec
    points: Sequence[CurvePoint]
    result: Mapping[str, Any]


def read_finished(spec: TrainingSpec, directory: Path) -> FinishedTraining | None:
    """The results of a spec; None if it is not finished."""
    if not (directory / RESULT).is_file():
        return None
    return FinishedTraining(
        spec=spec,
        points=read_points(directory / CURVES, CurvePoint),
        result=read_result(directory),
    )


def all_points(
    specs: Sequence[TrainingSpec], directory: Path, name: str, kind: type[AnyPoint]
) -> list[AnyPoint]:
    """Points of the specs' files of one name; those of a source once for each arm that used it."""
    points: list[AnyPoint] = []
    for spec in specs:
        path = directory / spec.name / name
        if path.is_file():
            own = read_points(path, kind)
            points += [point for arm in spec.arms for point in under_arm(own, arm)]
    return points


def summarise(
    finished: Sequence[FinishedTraining], *, given_source: Mapping[str, Any] | None = None
) -> list[SummaryRow]:
    """A row for each arm, seed and environment of the finished specs.

    Args:
        finished: specs with their results.
        given_source: result of the run that all arms start from, if it is not one of the specs.
    """
    by_name = {each.spec.name: each for each in finished}
    scratch = [each for each in finished if any(arm_of(a) == "scratch" for a in each.spec.arms)]
    rows = []
    for each in finished:
        spec = each.spec
        source = given_source
        if spec.needs is not None:
            source = by_name[spec.needs].result if spec.needs in by_name else None
        source = None if spec.source.directory is None else source
        place = (spec.seed, spec.task.env_ids)
        near = [s for s in scratch if (s.spec.seed, s.spec.task.env_ids) == place]
        for arm in spec.arms:
            beside = next((s for s in near if is_part_of(s.spec.arms[0], arm)), None)
            for env_id in spec.task.env_ids:
                rows.append(_row(each, arm, env_id, source, beside))
    return rows


def _source_kind(spec: TrainingSpec) -> str | None:
    """``with_loss+n_negatives=8``, from the name of the source's directory."""
    name = spec.name if spec.role == "source" else (spec.needs if spec.source.directory else None)
    if not name:
        return None
    return name.removeprefix("sources/").rpartition("-seed")[0] or None


def _row(
    finished: FinishedTraining,
    arm: str,
    env_id: str,
    source: Mapping[str, Any] | None,
    scratch: FinishedTraining | None,
) -> SummaryRow:
    spec, result = finished.spec, finished.result
    counted_from = int(result.get("counted_from", 0))
    curve = [p for p in finished.points if p.env_id == env_id and p.frames >= counted_from]
    scores = [point.score for point in curve]
    final = result["final"][env_id]
    best = result.get("best", {})
    information = result.get("information", {}).get(env_id, {})
    retention = [entry["score"] for entry in result.get("retention", {}).values()]
    gathered = int(result.get("gathered", 0))
    unrewarded = [p.score for p in curve if p.frames <= max(gathered, counted_from)]
    unrewarded = unrewarded or scores[:1]
    jump = None
    if scratch is not None and spec.role == "target":
        beside = [p.score for p in scratch.points if p.env_id == env_id]
        jump = jumpstart(unrewarded[-1:], beside)
    return SummaryRow(
        suite=spec.task.suite.name,
        agent=spec.agent.name,
        arm=arm,
        seed=spec.seed,
        role=spec.role,
        env_id=env_id,
        auc=area_under_curve([point.frames for point in curve], scores),
        jumpstart=jump,
        last_score=scores[-1],
        final_score=final["score"],
        final_return_mean=final["return_mean"],
        final_return_std=final["return_std"],
        final_success_rate=final["success_rate"],
        final_episodes=final["episodes"],
        final_backend=final["backend"],
        frames=result["frames"],
        learnt=result["learnt"][env_id],
        source_frames=None if source is None else source["frames"],
        source_learnt=None if source is None else all_learnt(source["learnt"].values()),
        frames_per_second=result["frames_per_second"],
        seconds=result["seconds"],
        evaluation_seconds=result["evaluation_seconds"],
        weights_sha256=result["weights_sha256"],
        retention=sum(retention) / len(retention) if retention else None,
        information_future=information.get("future"),
        information_source=information.get("source"),
        counted_from=counted_from,
        best_frames=best.get("frames"),
        best_score=best["final"][env_id]["score"] if "final" in best else None,
        source_kind=_source_kind(spec),
        zero_shot=unrewarded[-1] if spec.role == "target" else None,
        gathered=gathered,
        is_raw=bool(final.get("is_raw")),
    )


def all_learnt(learnt: Iterable[bool | None]) -> bool | None:
    """Whether all are learnt; None if that of the others is unknown."""
    found = set(learnt)
    return False if False in found else None if None in found else True


def write_summary(path: Path, rows: Sequence[SummaryRow]) -> None:
    """Write the rows as a tidy table."""
    write_table(path, [field.name for field in fields(SummaryRow)], (asdict(row) for row in rows))


def read_summary(path: Path) -> list[SummaryRow]:
    """Read a file of `write_summary`, also one of an earlier version with fewer columns.

    Raises:
        ValueError: a line cannot be read; the text names file and line.
    """
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                rows.append(SummaryRow.from_row(row))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
    return rows


def _read(name: str, hint: Any, text: str) -> Any:
    kinds = get_args(hint) or (hint,)
    if not text and NoneType in kinds:
        return None
    kind = kinds[0]
    if kind is bool:
        if text not in ("True", "False"):
            raise ValueError(f"{name}: {text!r} is neither True nor False")
        return text == "True"
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{name}: {text!r} is not of type {kind.__name__}") from None
