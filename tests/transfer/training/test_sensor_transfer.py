"""A transfer to other sensors, from the source's training to the scores."""

import csv
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from contrastive_distillation.agents import read_weights
from contrastive_distillation.agents.realignment import job
from contrastive_distillation.agents.realignment import source as realignment_source
from contrastive_distillation.losses import DynamicsSettings
from contrastive_distillation.transfer import (
    TrainingSpec,
    TransferSettings,
    load_source,
    plan_transfer,
    run_training,
)
from contrastive_distillation.transfer.report.curve_figures import learning_curves
from contrastive_distillation.transfer.report.experiment import Experiment
from contrastive_distillation.transfer.report.labels import styles as styles_of
from contrastive_distillation.transfer.report.realigned import realigned_sentences
from contrastive_distillation.transfer.report.summary import read_finished, summarise

CODES = "contrastive/DoorKey-5x5-Codes7-v0"
PLAIN = "MiniGrid-DoorKey-5x5-v0"
ARMS = (
    "contrastive_distillation", "first_layer_fine_tune", "first_layer_reinitialised", "fine_tune",
)  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[TrainingSpec, Path]]:
    """Trainings by name, finished: a source, and each arm on two targets."""
    patch = pytest.MonkeyPatch()
    quick = DynamicsSettings(n_updates=20, batch_size=32)
    patch.setitem(realignment_source.DYNAMICS, "grid", quick)
    directory = tmp_path_factory.mktemp("study")
    settings = TransferSettings(
        source=(PLAIN,),
        target=(CODES, PLAIN),
        arms=ARMS,
        frames=3_072,
        source_frames=1_024,
        n_envs=64,
        backend="gymnasium",
        realign_frames=1_024,
        realign_updates=4,
        realign_restarts=2,
        output=str(directory),
    )
    done = {}
    for spec in plan_transfer(settings).specs:
        shorter = replace(spec, random_frames=min(spec.random_frames, 2_048))
        run(shorter, directory / spec.name)
        done[spec.name] = (shorter, directory / spec.name)
    patch.undo()
    return done


def run(spec: TrainingSpec, directory: Path) -> None:
    nothing: Any = lambda *_: None  # noqa: E731
    status = run_training(
        spec, directory, command=["test"], report=nothing, stop=lambda: False, say=nothing
    )
    assert status == "finished"


def of(study: dict[str, tuple[TrainingSpec, Path]], arm: str, env_id: str) -> Path:
    return next(
        path
        for spec, path in study.values()
        if spec.arms == (arm,) and spec.task.env_ids == (env_id,)
    )


def curve(path: Path) -> list[tuple[int, float]]:
    with (path / "curves.csv").open() as file:
        return [(int(row["frames"]), float(row["score"])) for row in csv.DictReader(file)]


def test_the_source_keeps_its_random_steps_and_the_dynamics_of_its_best_agent(study: Any) -> None:
    _, path = study["sources/plain-seed0"]
    source = load_source(path)
    assert source.dynamics is not None, "they belong to the best agent"
    assert source.trajectories.random.sum() == 2_048
    assert len(source.trajectories) > 2_048
    weights = read_weights(path / "checkpoints" / "best.zip")
    for name, tensor in source.model.policy.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_the_curve_is_a_step_that_ends_with_gathering(study: Any) -> None:
    path = of(study, "contrastive_distillation", CODES)
    points = curve(path)
    assert [frames for frames, _ in points[:3]] == [0, 1_023, 1_024]
    assert points[0][1] == points[1][1]
    result = json.loads((path / "result.json").read_text())
    assert result["gathered"] == 1_024
    assert result["frames"] == 3_072
    report = json.loads((path / "realignment.json").read_text())
    assert report["frames"] == 1_024
    assert report["objective"] == "contrast_statistics"


def test_the_summary_says_how_much_was_gathered_and_the_figure_marks_it(study: Any) -> None:
    found = [read_finished(spec, path) for spec, path in study.values()]
    rows = summarise([each for each in found if each is not None])
    gathered = {(row.arm, row.env_id): row.gathered for row in rows if row.role == "target"}
    assert gathered["contrastive_distillation", CODES] == 1_024
    assert gathered["fine_tune", CODES] == 0
    directory = of(study, "fine_tune", CODES).parents[3]
    points = [
        replace(point, arm=each.spec.arms[0]) for each in found if each for point in each.points
    ]
    experiment = Experiment(
        directory=directory, config={}, manifest={}, rows=tuple(rows), points=tuple(points),
        information=(),
    )  # fmt: skip
    styles = styles_of(experiment.arms)
    marked = learning_curves(experiment, CODES, "target", styles)
    unmarked = tuple(replace(row, gathered=0) for row in experiment.rows)
    plain = learning_curves(replace(experiment, rows=unmarked), CODES, "target", styles)
    assert marked.png != plain.png


def test_its_loss_joins_only_where_the_sensors_are_the_sources(study: Any) -> None:
    for env_id in (CODES, PLAIN):
        path = of(study, "contrastive_distillation", env_id)
        changed = json.loads((path / "realignment.json").read_text())["sensors_changed"]
        assert (path / "aux.safetensors").is_file() is not changed


def test_first_layers_learn_alone(study: Any) -> None:
    _, source = study["sources/plain-seed0"]
    before = read_weights(source / "checkpoints" / "best.zip")
    after = read_weights(of(study, "first_layer_fine_tune", CODES) / "checkpoints" / "final.zip")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    layers = {name.partition("features_extractor.")[2].rpartition(".")[0] for name in moved}
    assert layers == {"cells", "directions", "convolutions.0"}


@pytest.mark.parametrize("arm", ["contrastive_distillation", "fine_tune"])
def test_zero_shot_scores_what_is_carried_and_stops(arm: str, study: Any, tmp_path: Path) -> None:
    spec = next(s for s, _ in study.values() if s.arms == (arm,) and s.task.env_ids == (CODES,))
    source = replace(spec.source, directory=str(study["sources/plain-seed0"][1]))
    run(replace(spec, source=source, needs=None, zero_shot=True), tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    gathered = 1_024 if arm == "contrastive_distillation" else 0
    assert result["frames"] == gathered
    assert curve(tmp_path / "run")[-1][0] == gathered
    learnt_on = json.loads((of(study, arm, CODES) / "result.json").read_text())
    assert result["weights_sha256"] != learnt_on["weights_sha256"]


def test_killed_while_it_realigns_it_begins_again_and_ends_alike(
    study: Any, tmp_path: Path
) -> None:
    name = next(n for n in study if "contrastive_distillation" in n and "Codes7" in n)
    spec, path = study[name]
    again = replace(
        spec,
        source=replace(spec.source, directory=str(study["sources/plain-seed0"][1])),
        needs=None,
    )
    child = os.fork()
    if child == 0:
        job.search = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        run(again, tmp_path / "again")
        os._exit(1)  # pragma: no cover - it was killed
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert (tmp_path / "again").is_dir()
    assert not (tmp_path / "again" / "realignment.json").exists()
    run(again, tmp_path / "again")
    results = [json.loads((p / "result.json").read_text()) for p in (path, tmp_path / "again")]
    assert results[0]["weights_sha256"] == results[1]["weights_sha256"]
    assert results[1]["gathered"] == 1_024, "the frames of the attempt that was killed are its own"


def test_the_sentence_names_both_scores(study: Any) -> None:
    specs = [spec for spec, _ in study.values()]
    said = list(realigned_sentences(specs, lambda spec: study[spec.name][1]))
    assert len(said) == 2
    assert f"{CODES}, contrastive_distillation, seed 0: the target's sensors" in said[0]
    assert "1_024 frames without a reward" in said[0]
    assert ", source 0.0" in said[0]
