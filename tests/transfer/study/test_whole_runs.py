"""Whole runs through the command line, tiny but real."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from contrastive_distillation.agents import default_weight
from contrastive_distillation.envs import make_vec
from contrastive_distillation.run_agent import main
from contrastive_distillation.transfer import (
    ARMS,
    TrainingSpec,
    TransferSettings,
    parse_command_line,
    plan_transfer,
)
from contrastive_distillation.transfer.report.build import look_into_memory
from contrastive_distillation.transfer.report.experiment import read_experiment
from contrastive_distillation.transfer.training.train import build

ROOT = Path(__file__).resolve().parents[3]
SOURCE = "MiniGrid-Empty-Random-5x5-v0"
TARGET = "MiniGrid-Empty-Random-6x6-v0"
TRIED = (
    "contrastive_distillation", "contrastive_source_only", "contrastive_target_only", "fine_tune",
    "frozen_encoder", "new_head", "scratch", "random_encoder", "random_teacher", "equal_compute",
    "scratch_source_budget",
)  # fmt: skip
WITHOUT_SOURCE = ("scratch", "random_encoder", "scratch_source_budget")
TINY = ["--frames", "2_048", "--n-envs", "8", "--memory-capacity", "4_000"]
TINY += ["--checkpoint-every", "1_000"]
TINIER = [*TINY, "--information-points", "1"]
COLUMNS = (
    "suite,agent,arm,seed,role,env_id,frames,score,return_mean,return_std,"
    "success_rate,episodes,wall_seconds,settings,versions"
)
CELL_FILES = {
    "config.yaml", "manifest.json", "progress.csv", "curves.csv", "information.csv",
    "result.json", "memory.safetensors", "checkpoints/final.zip",
}  # fmt: skip


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def files_under(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def has_events(directory: Path) -> bool:
    return any(directory.glob("events.out.tfevents.*"))


@pytest.fixture(scope="module")
def transferred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transfer with many arms and one target."""
    directory = tmp_path_factory.mktemp("runs") / "transfer"
    assert main(transfer_words(directory)) == 0
    return directory


def transfer_words(directory: Path) -> list[str]:
    words = ["transfer", "--source", SOURCE, "--target", TARGET, "--arms", *TRIED]
    return [*words, "--source-frames", "2_048", *TINY, "--workers", "2", "--output", str(directory)]


def test_a_transfer_leaves_its_files(transferred: Path) -> None:
    own = {path.name for path in transferred.iterdir()}
    assert own == {
        "config.yaml", "manifest.json", "curves.csv", "summary.csv", "information.csv",
        "result.json", "sources", "targets",
    }  # fmt: skip
    specs = [path.parent for path in transferred.rglob("*/result.json")]
    assert len(specs) == 3 + len(TRIED), "arms share the three sources"
    for spec in specs:
        assert files_under(spec) >= CELL_FILES, spec
        assert has_events(spec)
        assert not (spec / "worker.log").exists()
        with_loss = yaml.safe_load((spec / "config.yaml").read_text())["loss"] != "none"
        assert (spec / "aux.safetensors").exists() == with_loss
        has_source = "targets" in str(spec) and not any(
            f"/{n}/" in str(spec) for n in WITHOUT_SOURCE
        )
        assert (spec / "carried.txt").exists() == has_source


def test_curves_are_tidy_and_complete(transferred: Path) -> None:
    assert (transferred / "curves.csv").read_text().splitlines()[0] == COLUMNS
    rows = read_csv(transferred / "curves.csv")
    for arm in TRIED:
        roles = {row["role"] for row in rows if row["arm"] == arm}
        assert roles == ({"target"} if arm in WITHOUT_SOURCE else {"source", "target"})
        curve = [row for row in rows if row["arm"] == arm and row["role"] == "target"]
        longer = [3072, 4096] if arm == "scratch_source_budget" else []
        assert [int(row["frames"]) for row in curve] == [0, 1024, 2048, *longer]
        assert {row["env_id"] for row in curve} == {TARGET}
    for row in rows:
        assert 0 <= float(row["score"]) <= 1
        assert 0 <= float(row["success_rate"]) <= 1
        assert int(row["episodes"]) >= 4


def test_information_is_gathered_against_frames(transferred: Path) -> None:
    rows = read_csv(transferred / "information.csv")
    expected = "suite,agent,arm,seed,role,env_id,frames,quantity,nats,cap,settings,versions"
    assert (transferred / "information.csv").read_text().splitlines()[0] == expected
    for arm in TRIED:
        own = [row for row in rows if row["arm"] == arm and row["role"] == "target"]
        kinds = ["future"] if arm in WITHOUT_SOURCE else ["future", "source"]
        assert [row["quantity"] for row in own] == 2 * kinds
        end = 4096 if arm == "scratch_source_budget" else 2048  # that one goes on after the curve
        assert [int(row["frames"]) for row in own[:: len(kinds)]] == [1024, end]
    summary = read_csv(transferred / "summary.csv")
    (last,) = (
        row["nats"]
        for row in rows
        if (row["arm"], row["role"], row["quantity"], row["frames"])
        == ("fine_tune", "target", "future", "2048")
    )
    (final,) = (
        row["information_future"]
        for row in summary
        if (row["arm"], row["role"]) == ("fine_tune", "target")
    )
    assert last == final


def test_arms_start_from_the_source_they_are_meant_to(transferred: Path) -> None:
    for name in TRIED:
        arm = ARMS[name]
        (spec,) = [p.parent for p in transferred.glob(f"targets/{name}/*/seed0/config.yaml")]
        config = yaml.safe_load((spec / "config.yaml").read_text())
        assert (config["loss"] != "none") == (arm.target_loss is not None)
        source = config["resolved"]["source"]
        if arm.source_kind is None:
            assert source is None
            continue
        assert source.endswith(f"sources/{arm.source_kind}-seed0")
        found = yaml.safe_load((spec / source / "config.yaml").read_text())
        assert (found["loss"] != "none") == (arm.source_loss is not None)


def test_summary_and_result(transferred: Path) -> None:
    rows = [row for row in read_csv(transferred / "summary.csv") if row["role"] == "target"]
    assert {row["arm"] for row in rows} == set(TRIED)
    curves = read_csv(transferred / "curves.csv")

    def first_score(arm: str) -> float:
        return next(
            float(row["score"])
            for row in curves
            if row["arm"] == arm and row["role"] == "target" and int(row["frames"]) >= counted(arm)
        )

    def counted(arm: str) -> int:
        return 2048 if arm == "scratch_source_budget" else 0

    for row in rows:
        expected = first_score(row["arm"]) - first_score("scratch")
        assert float(row["jumpstart"]) == pytest.approx(expected, abs=1e-5)
        assert row["final_backend"] == "gymnasium"
        assert (row["source_frames"] == "") == (row["arm"] in WITHOUT_SOURCE)
        assert (row["retention"] == "") == (row["arm"] in WITHOUT_SOURCE)
    frozen = read_json(transferred / f"targets/frozen_encoder/{TARGET}/seed0/result.json")
    assert frozen["retention"].keys() == {SOURCE}
    assert frozen["retention"][SOURCE]["episodes"] >= 8
    assert frozen["retention"][SOURCE]["backend"] == "gymnasium"
    result = read_json(transferred / "result.json")
    assert len(result["weights_sha256"]) == 64
    assert result["frames_per_second"] > 0
    assert len(result["cells"]) == 3 + len(TRIED)


def test_frozen_encoders_do_not_move(transferred: Path) -> None:
    from contrastive_distillation.agents import read_weights

    source = read_weights(transferred / "sources/plain-seed0/checkpoints/best.zip")
    frozen = read_weights(transferred / f"targets/frozen_encoder/{TARGET}/seed0")
    tuned = read_weights(transferred / f"targets/fine_tune/{TARGET}/seed0")
    encoder = [name for name in source if name.startswith("features_extractor")]
    assert encoder
    assert all(source[name].equal(frozen[name]) for name in encoder)
    assert not all(source[name].equal(tuned[name]) for name in encoder)


def test_a_new_head_is_on_the_sources_encoder_and_both_learn(transferred: Path) -> None:
    from contrastive_distillation.agents import read_weights
    from contrastive_distillation.agents.weights import is_encoder_parameter

    source = read_weights(transferred / "sources/plain-seed0/checkpoints/best.zip")
    spec = transferred / f"targets/new_head/{TARGET}/seed0"
    carried, fresh = (spec / "carried.txt").read_text().split("fresh in the target")
    for name, tensor in read_weights(spec).items():
        is_encoder = is_encoder_parameter(name)
        assert (f"  {name}\n" in carried) == is_encoder
        assert (f"  {name}\n" in fresh) != is_encoder
        assert not tensor.equal(source[name])


def test_a_frozen_random_encoder_stays_as_it_began(transferred: Path) -> None:
    from contrastive_distillation.agents import read_weights

    spec = target_spec(transferred, "random_encoder")
    began, ended = first_weights(spec), read_weights(transferred / spec.name)
    encoder = [name for name in ended if name.startswith("features_extractor")]
    assert encoder
    # orthogonal initial weights depend in their last digits on the number of threads
    assert all(began[name].allclose(ended[name], atol=1e-6) for name in encoder)
    assert not all(began[name].allclose(ended[name], atol=1e-4) for name in ended)


def target_spec(transferred: Path, arm: str) -> TrainingSpec:
    settings = parse_command_line(transfer_words(transferred))
    assert isinstance(settings, TransferSettings)
    specs = plan_transfer(settings).specs
    (spec,) = [spec for spec in specs if spec.name == f"targets/{arm}/{TARGET}/seed0"]
    return spec


def first_weights(spec: TrainingSpec) -> dict[str, Any]:
    """Those that its agent begins with."""
    env = make_vec(spec.task.env_ids, spec.task.n_envs, 0, mission=spec.task.mission)
    weights = build(spec, env).policy.state_dict()
    env.close()
    return weights


def teacher_in(directory: Path) -> dict[str, Any]:
    """Weights of the teacher that a loss was taught by."""
    tensors = load_file(directory / "aux.safetensors")
    found = {name: t for name, t in tensors.items() if name.startswith("loss/teacher.")}
    assert found
    return found


def test_a_random_teacher_is_nobodys_encoder(transferred: Path) -> None:
    from contrastive_distillation.agents import read_weights

    source = read_weights(transferred / "sources/with_loss-seed0/checkpoints/best.zip")
    began = first_weights(target_spec(transferred, "scratch"))
    for arm, is_source in (("contrastive_distillation", True), ("random_teacher", False)):
        teacher = teacher_in(transferred / f"targets/{arm}/{TARGET}/seed0")
        weights = [tensor for tensor in teacher.values() if tensor.ndim > 1]
        known = [tensor for tensor in source.values() if tensor.ndim > 1]
        first = [tensor for tensor in began.values() if tensor.ndim > 1]

        def among(tensor: Any, others: list[Any]) -> bool:
            return any(tensor.shape == t.shape and tensor.equal(t) for t in others)

        assert all(among(tensor, known) == is_source for tensor in weights)
        assert not any(among(tensor, first) for tensor in weights), "nor the agent's own first one"
    carried = (transferred / f"targets/random_teacher/{TARGET}/seed0/carried.txt").read_text()
    source_of = transferred / f"targets/contrastive_distillation/{TARGET}/seed0/carried.txt"
    assert carried == source_of.read_text(), "the same source is carried over"


def test_scratch_with_the_sources_frames_counts_its_last(transferred: Path) -> None:
    from contrastive_distillation.transfer import area_under_curve

    source = read_json(transferred / "sources/plain-seed0/result.json")["frames"]
    (row,) = [r for r in read_csv(transferred / "summary.csv") if r["arm"] == WITHOUT_SOURCE[-1]]
    assert (int(row["counted_from"]), int(row["frames"])) == (source, 2 * source)
    curve = [
        (int(r["frames"]), float(r["score"]))
        for r in read_csv(transferred / "curves.csv")
        if r["arm"] == WITHOUT_SOURCE[-1]
    ]
    counted = [point for point in curve if point[0] >= source]
    assert len(counted) == 3 < len(curve)
    expected = area_under_curve(*map(list, zip(*counted, strict=True)))
    assert float(row["auc"]) == pytest.approx(expected, abs=1e-5)


def test_the_same_command_shows_the_result_and_trains_nothing(
    transferred: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: os.stat(transferred / name).st_mtime_ns for name in files_under(transferred)}
    assert main(transfer_words(transferred)) == 0
    text = capsys.readouterr().out
    assert "is finished already" in text
    assert all(arm in text for arm in TRIED)
    assert max(len(line) for line in text.splitlines() if str(transferred) not in line) <= 80
    after = {name: os.stat(transferred / name).st_mtime_ns for name in files_under(transferred)}
    assert after == before


def test_unfinished_cells_alone_are_trained_again(
    transferred: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(transferred, copy)
    spec = copy / f"targets/scratch/{TARGET}/seed0"
    hashes = read_json(spec / "result.json")["weights_sha256"], read_json(copy / "result.json")
    (spec / "result.json").unlink()
    (copy / "result.json").unlink()
    assert main(transfer_words(copy)) == 0
    text = capsys.readouterr().out
    assert "13 of 14 trainings are finished already" in text
    assert f"targets/scratch/{TARGET}/seed0  continues at frame 1_024" in text
    assert "start new episodes with a new seed: they could not give their state" in text
    assert read_json(copy / "result.json")["cells"].keys() == hashes[1]["cells"].keys()


def test_another_configuration_is_refused(
    transferred: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*transfer_words(transferred), "--gamma", "0.5", "--weight", "0.2"]) == 2
    text = capsys.readouterr().err
    assert "gamma: None there, 0.5 now" in text
    assert f"weight: {default_weight('ppo')} there, 0.2 now" in text


def test_a_transfer_from_a_run_that_is_there(
    transferred: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = transferred / "sources/with_loss-seed0"
    words = ["transfer", "--from", str(run), "--target", TARGET, "--arms", "fine_tune", "scratch"]
    assert main([*words, *TINIER, "--output", str(tmp_path / "run")]) == 0
    text = capsys.readouterr().out
    assert "which was trained with contrastive_distillation" in text
    rows = {row["arm"]: row for row in read_csv(tmp_path / "run/summary.csv")}
    assert set(rows) == {"fine_tune", "scratch"}
    assert int(rows["fine_tune"]["source_frames"]) == read_json(run / "result.json")["frames"]

    assert main(["transfer", "--from", str(run), "--target", "CartPole-v1"]) == 2
    assert "action" in capsys.readouterr().err
    assert main(["transfer", "--from", str(transferred)]) == 2
    assert "several agents, and one agent is expected; choose one in it" in capsys.readouterr().err


def test_evaluate_and_watch(
    transferred: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = transferred / f"targets/fine_tune/{TARGET}/seed0"
    assert main(["evaluate", str(run), "--episodes", "4", "--env", SOURCE]) == 0
    assert main(["evaluate", str(run), "--episodes", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if str(run) not in line) <= 80
    first, second = read_json(run / "evaluation.json")["evaluations"]
    assert set(first["environments"]) == {SOURCE}
    assert set(second["environments"]) == {TARGET}
    assert second["environments"][TARGET]["episodes"] == 4

    image = pytest.importorskip("PIL.Image")
    film = tmp_path / "agent.gif"
    assert main(["watch", str(run), "--output", str(film), "--episodes", "2"]) == 0
    with image.open(film) as gif:
        assert gif.n_frames > 2
        first_frame = gif.convert("RGB")
    assert len(first_frame.getcolors(1 << 20)) > 5, "an environment and a caption are seen"

    assert main(["evaluate", str(run), "--env", "CartPole-v1"]) == 2


def test_a_report_of_a_whole_run(
    transferred: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(transferred), "--output", str(tmp_path / "report")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "From one seed there is no interval" in said[0]
    page = tmp_path / "report/report.html"
    assert said[-1] == str(page)
    text = page.read_text()
    for part in ("What the loss contrasts", "Diagnostics of", "gradient cosine", "key drift"):
        assert part in text
    assert (tmp_path / "report/figures/examples.png").is_file()
    labels = (tmp_path / "report/projector/metadata.tsv").read_text().splitlines()
    keys = (tmp_path / "report/projector/tensors.tsv").read_text().splitlines()
    assert labels[0].split("\t") == ["task", "return", "episode", "step", "memory"]
    assert len(keys) == len(labels) - 1 == 2000
    assert {line.split("\t")[0] for line in labels[1:]} == {SOURCE, TARGET}
    assert {len(key.split("\t")) for key in keys} == {128}
    assert main(["report", str(transferred), "--output", str(transferred)]) == 2
    assert "is the run itself" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["aux.safetensors", "checkpoints/final.zip", "its source"])
def test_a_training_that_cannot_be_looked_into_is_named(
    what: str, transferred: Path, tmp_path: Path
) -> None:
    run, spec = tmp_path / "run", f"targets/contrastive_distillation/{TARGET}/seed0"
    source = "sources/with_loss-seed0"
    for name in ("config.yaml", "curves.csv", "summary.csv"):
        run.mkdir(exist_ok=True)
        shutil.copy(transferred / name, run)
    for name in (spec, source):
        shutil.copytree(transferred / name, run / name)
    if what == "its source":
        (run / source / "memory.safetensors").unlink()
    else:
        (run / spec / what).write_bytes((run / spec / what).read_bytes()[:2000])
    found = look_into_memory(read_experiment(run), tmp_path)
    assert found.examples is None
    assert "No examples of what the loss contrasts" in found.notes[0]
    assert any(line.startswith(f"{spec}: ") for line in found.notes), found.notes


def test_a_report_of_a_train_and_of_one_training(
    transferred: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("sources/with_loss-seed0", f"targets/fine_tune/{TARGET}/seed0"):
        output = tmp_path / name.replace("/", "-")
        assert main(["report", str(transferred / name), "--output", str(output)]) == 0
        assert (output / "report.html").is_file()
    said = capsys.readouterr().out
    assert "Last scores, means over 1 seed:" in said
    assert "Fine tune alone was tried" in said


@pytest.mark.parametrize(
    ("agent", "env_id", "frames"), [("ppo", SOURCE, "2_000"), ("dqn", "CartPole-v1", "1_500")]
)
def test_the_same_seed_gives_the_same_weights(
    agent: str, env_id: str, frames: str, tmp_path: Path
) -> None:
    words = ["train", "--agent", agent, "--env", env_id, "--frames", frames, "--n-envs", "8"]
    words += ["--backend", "gymnasium", "--memory-capacity", "4_000", "--information-points", "1"]
    both, again = tmp_path / "both", tmp_path / "again"
    assert main([*words, "--seeds", "2", "--workers", "2", "--output", str(both)]) == 0
    assert main([*words, "--output", str(again)]) == 0
    first, other, second = (
        read_json(run / "result.json")["weights_sha256"]
        for run in (both / "seed0", both / "seed1", again)
    )
    assert first == second
    assert first != other


def test_several_seeds_of_one_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--suite", "smoke", "--seed", "3", "--seeds", "2", "--loss", "none", *TINIER]
    words += ["--output", str(tmp_path / "run")]
    assert main(words) == 0
    specs = [tmp_path / "run" / name for name in ("seed3", "seed4")]
    hashes = {read_json(spec / "result.json")["weights_sha256"] for spec in specs}
    assert len(hashes) == 2
    rows = read_csv(tmp_path / "run/curves.csv")
    assert {row["seed"] for row in rows} == {"3", "4"}
    assert main(words) == 0
    assert "is finished already" in capsys.readouterr().out
    again = ["train", "--config", str(specs[0] / "config.yaml"), "--output", str(specs[0])]
    assert main(again) == 0, "a run's own settings find it again"


def write_suite(path: Path, **changes: Any) -> None:
    suite = {
        "summary": "two empty rooms",
        "sources": [SOURCE, "MiniGrid-Empty-5x5-v0"],
        "targets": [TARGET],
        "source_frames": 20_000,
        "target_frames": 2_000,
        "agents": ["ppo"],
    }
    path.write_text(yaml.safe_dump(suite | changes))


def test_sources_stop_when_they_are_learnt(tmp_path: Path) -> None:
    write_suite(tmp_path / "easy.yaml", learnt_score=0.01)
    words = ["train", "--suite", str(tmp_path / "easy.yaml"), "--until-learnt", "--n-envs", "16"]
    words += ["--information-points", "1"]
    assert main([*words, "--output", str(tmp_path / "run")]) == 0
    result = read_json(tmp_path / "run/result.json")
    assert result["frames"] == 6144, "the first rollout that ends at or after 20 000 / 4 frames"
    assert result["learnt"] == {SOURCE: True, "MiniGrid-Empty-5x5-v0": True}
    rows = read_csv(tmp_path / "run/curves.csv")
    assert [(row["env_id"], row["frames"]) for row in rows] == [
        (SOURCE, "0"), ("MiniGrid-Empty-5x5-v0", "0"),
        (SOURCE, "6144"), ("MiniGrid-Empty-5x5-v0", "6144"),
    ]  # fmt: skip


def test_what_is_not_learnt_is_flagged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_suite(tmp_path / "hard.yaml", learnt_score=1.0, source_frames=1000)
    words = ["transfer", "--suite", str(tmp_path / "hard.yaml"), "--arms", "fine_tune", *TINIER]
    assert main([*words, "--output", str(tmp_path / "run"), "--seeds", "2"]) == 0
    text = capsys.readouterr().out
    assert "✗ not learnt" in text
    assert re.search(r"fine_tune .* ✗2/2", text)
    assert "the source was not learnt" in text
    assert "95 % bootstrap intervals" in text
    rows = read_csv(tmp_path / "run/summary.csv")
    assert {row["source_learnt"] for row in rows if row["role"] == "target"} == {"False"}


def test_a_failed_training_says_why_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_env.py").write_text(BROKEN)
    monkeypatch.chdir(tmp_path)
    words = ["transfer", "--source", "CartPole-v1", "--target", "CartPole-v1", *BROKEN_IDS]
    words += ["--agent", "ppo", "--arms", "scratch", "--backend", "gymnasium", *TINIER]
    assert main([*words, "--output", "run"]) == 1
    said = capsys.readouterr()
    text = said.out + said.err
    assert "targets/scratch/CartPole-v1/seed0  score" in text
    bad, dies = (line for line in said.err.splitlines() if line.startswith("error: "))
    assert all(word in bad for word in ("Bad-v0", "NaN", "reward", "step 20"))
    assert "Dies-v0" in dies and "its process was ended by SIGKILL" in dies
    assert "Traceback" not in text
    assert not Path("run/result.json").exists()
    rows = read_csv(Path("run/summary.csv"))
    assert [row["env_id"] for row in rows] == ["CartPole-v1"]


BROKEN_IDS = ["broken_env:Bad-v0", "broken_env:Dies-v0"]
BROKEN = """
import os, signal
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Bad(CartPoleEnv):
    n_steps = 0
    def step(self, action):
        self.n_steps += 1
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, float("nan") if self.n_steps == 20 else reward, False, False, info

class Dies(CartPoleEnv):
    n_steps = 0
    def step(self, action):
        self.n_steps += 1
        if self.n_steps == 20:  # planning tries one step in this process
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)

for name, kind in (("Bad-v0", Bad), ("Dies-v0", Dies)):
    gym.register(name, entry_point=kind, max_episode_steps=50, reward_threshold=40)
"""


def test_interrupted_runs_keep_what_there_is(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    command = [sys.executable, str(ROOT / "run_agent.py"), "train", "--suite", "smoke"]
    command += ["--frames", "5_000_000", "--output", str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while not (directory / "curves.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in out
    assert "Traceback" not in out + err
    assert files_under(directory) >= {
        "checkpoints/interrupted.zip", "memory.safetensors", "aux.safetensors", "curves.csv",
    }  # fmt: skip
    assert not (directory / "result.json").exists()
    assert main(["evaluate", str(directory), "--episodes", "2"]) == 0
