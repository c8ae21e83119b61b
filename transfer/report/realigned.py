"""What realignments did, one sentence for each target."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..run_directory.directory import REALIGNMENT, RESULT, read_result
from ..settings.spec import TrainingSpec
from .summary import read_finished


def realigned_sentences(
    specs: Iterable[TrainingSpec], directory_of: Callable[[TrainingSpec], Path]
) -> Iterator[str]:
    """One sentence for the first finished training of each arm and target that realigned."""
    said = set()
    for spec in specs:
        directory, place = directory_of(spec), (spec.arms[:1], spec.task.env_ids)
        if spec.realign is None or place in said or not (directory / RESULT).is_file():
            continue
        finished = read_finished(spec, directory)
        assert finished is not None
        said.add(place)
        report = json.loads((directory / REALIGNMENT).read_text(encoding="utf-8"))
        gathered = int(finished.result.get("gathered", 0))
        carried = finished.points[0].score
        realigned = [p.score for p in finished.points if p.frames <= gathered][-1]
        yield (
            f"{spec.task.env_ids[0]}, {spec.arms[0]}, seed {spec.seed}: {_sensors(report)}; after "
            f"{gathered:_} frames without a reward {_loss(report['loss_after'])}; score "
            f"{carried:.2f} -> {realigned:.2f}{_of_source(spec, directory)}."
        )


def _sensors(report: dict[str, float | None]) -> str:
    verb = "differ" if report["sensors_changed"] else "agree"
    if report["loss_before"] is None:
        return f"the target's sensors {verb} (their shapes do)"
    return (
        f"the target's sensors {verb} (L_dyn {report['loss_before']:.1f}, source "
        f"{report['loss_source']:.1f})"
    )


def _loss(after: float | None) -> str:
    return "the encoder is as it was" if after is None else f"L_dyn {after:.1f}"


def _of_source(spec: TrainingSpec, directory: Path) -> str:
    """``, source .94``: its score in its own environments."""
    name = spec.source.directory
    if name is None:
        return ""
    source = directory / name if spec.needs is not None else Path(name)
    if not (source / RESULT).is_file():
        return ""
    result = read_result(source)
    final = result["final"] if spec.source.checkpoint == "final" else result["best"]["final"]
    scores = [entry["score"] for entry in final.values()]
    return f", source {sum(scores) / len(scores):.2f}"
