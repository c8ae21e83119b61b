"""Points of learning curves, and the CSV files that hold them."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self, TypeVar, get_args

from ..run_directory.atomic_files import write_bytes
from ..settings.spec import TrainingSpec

PROVENANCE = ("settings", "versions")
"""Columns of every table of a run that are equal in all its rows."""


@dataclass(frozen=True, kw_only=True)
class _Point:
    """One agent in one environment at one number of frames."""

    suite: str
    agent: str
    arm: str
    seed: int
    role: str
    """``source`` or ``target``."""
    env_id: str
    frames: int
    """Frames that the agent had trained for in this role."""
    settings: str = ""
    """Hash of the run's settings without its seeds; empty in the file of one training of many."""
    versions: str = ""
    """Of Python and the packages that the run recorded; empty likewise."""

    @classmethod
    def of(cls, spec: TrainingSpec, **values: Any) -> Self:
        """A point of a training, with the values of the other fields."""
        return cls(
            suite=spec.task.suite.name,
            agent=spec.agent.name,
            arm=spec.arms[0] if spec.arms else spec.name,
            seed=spec.seed,
            role=spec.role,
            **values,
        )

    @classmethod
    def from_row(cls, row: dict[str, str]) -> Self:
        """A point from a row of `csv.DictReader`."""
        there = [each for each in fields(cls) if each.name in row or each.default is MISSING]
        return cls(**{each.name: _read(each.type, row[each.name]) for each in there})


def _read(hint: Any, text: str) -> Any:
    """A value from its text; an empty one is None where that is allowed."""
    kind, *others = get_args(hint) or (hint,)
    return None if others and not text else kind(text)


@dataclass(frozen=True, kw_only=True)
class CurvePoint(_Point):
    """One evaluation: a line of ``curves.csv``."""

    score: float
    """Mean normalised return, in [0, 1]; the mean return if the range of returns is unknown."""
    return_mean: float
    return_std: float
    success_rate: float | None
    """None if the return of a success is unknown."""
    episodes: int
    wall_seconds: float
    """Since the training's start, evaluations included."""


@dataclass(frozen=True, kw_only=True)
class InformationPoint(_Point):
    """One lower bound on mutual information: a line of ``information.csv``."""

    quantity: str
    """The partner of the features: ``future`` or ``source``."""
    nats: float
    cap: float
    """The largest value that the bound can take."""


AnyPoint = TypeVar("AnyPoint", bound=_Point)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[dict[str, object]]) -> None:
    """Write a CSV file atomically."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    write_bytes(path, text.getvalue().encode())


def write_points(path: Path, kind: type[AnyPoint], points: Iterable[AnyPoint]) -> None:
    """Write points of one kind as a tidy table; their settings and versions are its end."""
    names = sorted((each.name for each in fields(kind)), key=lambda name: name in PROVENANCE)
    write_table(path, names, (asdict(point) for point in points))


def read_points(path: Path, kind: type[AnyPoint]) -> list[AnyPoint]:
    """Read the points of a file that `write_points` wrote.

    Raises:
        ValueError: a row cannot be read; the text names file and line.
    """
    points = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                points.append(kind.from_row(row))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: cannot be read: {error}") from None
    return points


def under_arm(points: Iterable[AnyPoint], arm: str) -> list[AnyPoint]:
    """The same points under another arm; a source's curve belongs to each arm that used it."""
    return [replace(point, arm=arm) for point in points]
