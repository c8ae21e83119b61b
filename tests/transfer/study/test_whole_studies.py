"""Whole grids through the command line, tiny but real."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from contrastive_distillation.run_agent import main

ROOT = Path(__file__).resolve().parents[3]
WORDS = ["ablate", "--source", "CartPole-v1", "--target", "CartPole-v1", "--agent", "ppo"]
WORDS += ["--arms", "contrastive_target_only", "fine_tune", "scratch", "--frames", "600"]
WORDS += ["--n-envs", "4", "--backend", "gymnasium", "--memory-capacity", "1_000"]
WORDS += ["--information-points", "1"]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def hashes_of(directory: Path) -> dict[str, str]:
    result: Any = json.loads((directory / "result.json").read_text())
    return {name: spec["weights_sha256"] for name, spec in result["cells"].items()}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "grid"
    assert main([*WORDS, "--vary", "n_negatives=4,8", "--output", str(directory)]) == 0
    return directory


LABELS = {
    "contrastive_target_only+n_negatives=4", "contrastive_target_only+n_negatives=8", "fine_tune",
    "scratch",
}  # fmt: skip


def test_a_grid_leaves_a_directory_for_each_training(grid: Path) -> None:
    specs = {str(path.parent.relative_to(grid)) for path in grid.rglob("*/result.json")}
    assert specs == {"sources/plain-seed0", *(f"targets/{n}/CartPole-v1/seed0" for n in LABELS)}
    rows = read_csv(grid / "summary.csv")
    assert {row["arm"] for row in rows if row["role"] == "target"} == LABELS
    assert {row["arm"] for row in rows if row["role"] == "source"} == LABELS - {"scratch"}
    curves = read_csv(grid / "curves.csv")
    assert {row["arm"] for row in curves if row["role"] == "target"} == LABELS
    targets = {row["arm"]: row for row in rows if row["role"] == "target"}
    assert {row["source_kind"] for row in targets.values()} == {"plain", ""}
    assert len({row["weights_sha256"] for row in targets.values()}) == len(LABELS)
    assert all(row["jumpstart"] for row in targets.values()), "scratch stands beside every variant"


def test_a_grid_grows(grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More arms, seeds and values in the same directory; what is there is not trained again."""
    copy = tmp_path / "grid"
    shutil.copytree(grid, copy)
    before = hashes_of(copy)
    words = [*WORDS[:7], "--arms", "contrastive_target_only", "fine_tune", "random_encoder"]
    words += [*WORDS[11:], "--vary", "n_negatives=8,16", "--seeds", "1", "--output", str(copy)]
    assert main(words) == 0
    assert "3 of 5 trainings are finished already" in capsys.readouterr().out
    after = hashes_of(copy)
    assert {name for name in after if name not in before} == {
        "targets/random_encoder/CartPole-v1/seed0",
        "targets/contrastive_target_only+n_negatives=16/CartPole-v1/seed0",
    }
    assert all(after[name] == before[name] for name in after if name in before)
    assert main([*words, "--gamma", "0.5"]) == 2
    assert "gamma: None there, 0.5 now" in capsys.readouterr().err


def test_a_grid_killed_and_interrupted_ends_as_if_undisturbed(grid: Path, tmp_path: Path) -> None:
    words = [*WORDS[:7], "--arms", "fine_tune", *WORDS[11:], "--checkpoint-every", "1"]
    words += ["--output", str(tmp_path / "grid")]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run_agent.py"), *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    while not any(tmp_path.glob("grid/sources/*/checkpoints/*/manifest.json")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "grid/targets").exists()

    def interrupt() -> None:
        while not any(tmp_path.glob("grid/targets/*/*/*/curves.csv")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert main(words) == 130
    thread.join()
    assert {row["role"] for row in read_csv(tmp_path / "grid/curves.csv")} == {"source", "target"}
    summed_up = [row["role"] for row in read_csv(tmp_path / "grid/summary.csv")]
    assert summed_up in (["source"], ["source", "target"])  # it may end before the signal counts
    assert main(words) == 0
    expected = hashes_of(grid)
    found = hashes_of(tmp_path / "grid")
    assert found == {name: expected[name] for name in found}
    assert len(found) == 2


def test_a_training_that_dies_is_tried_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL)
    monkeypatch.chdir(tmp_path)
    words = ["ablate", "--source", "CartPole-v1", "--target", "mortal:Once-v0", "mortal:Always-v0"]
    words += ["--arms", "scratch", "--agent", "ppo", *WORDS[11:], "--output", "run"]
    assert main(words) == 1
    said = capsys.readouterr()
    again = [line for line in said.out.splitlines() if "failed; trying again" in line]
    assert len(again) == 2 and all("SIGKILL" in line for line in again)
    (error,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert "mortal_Always-v0" in error and "SIGKILL" in error
    rows = read_csv(Path("run/summary.csv"))
    assert [row["env_id"] for row in rows] == ["mortal:Once-v0"]


MORTAL = """
import os, signal
from pathlib import Path
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Always(CartPoleEnv):
    n_steps = 0
    def step(self, action):
        self.n_steps += 1
        if self.n_steps == 20:  # planning tries one step in this process
            self.die()
        return super().step(action)

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

class Once(Always):
    def die(self):
        if not Path("died").exists():
            Path("died").touch()
            super().die()

for name, kind in (("Once-v0", Once), ("Always-v0", Always)):
    gym.register(name, entry_point=kind, max_episode_steps=50, reward_threshold=40)
"""
