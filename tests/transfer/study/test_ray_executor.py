"""The same grid on a real local Ray cluster; and where there is none."""

import csv
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contrastive_distillation.run_agent import main

WORDS = ["ablate", "--source", "CartPole-v1", "--target", "CartPole-v1", "--agent", "ppo"]
WORDS += ["--arms", "contrastive_target_only", "scratch", "--n-envs", "4"]
WORDS += ["--backend", "gymnasium", "--memory-capacity", "1_000"]


def hashes_of(directory: Path) -> dict[str, str]:
    result: Any = json.loads((directory / "result.json").read_text())
    return {name: spec["weights_sha256"] for name, spec in result["cells"].items()}


def test_without_ray_the_command_that_brings_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # type: ignore[arg-type]
    assert main([*WORDS, "--executor", "ray", "--output", str(tmp_path / "run")]) == 2
    text = capsys.readouterr().err
    assert "pip install 'contrastive-distillation[ray]'" in text and "Traceback" not in text
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_without_a_cluster_it_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    words = [*WORDS, "--frames", "600", "--executor", "ray", "--output", str(tmp_path / "run")]
    assert main(words) == 1
    text = capsys.readouterr().err
    assert "no Ray cluster is running here; start one with `ray start --head`" in text
    assert "Traceback" not in text


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real Ray with two CPUs, which lasts for these tests."""
    ray = pytest.importorskip("ray")
    os.environ["PYTHONWARNINGS"] = "ignore"
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
        _system_config={"worker_niceness": 0},  # by default 15: starved on a busy machine
    )  # fmt: skip
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_a_grid_on_ray_ends_as_on_this_machine(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # relative directories are found by the tasks, too
    words = [*WORDS, "--frames", "600"]
    assert main([*words, "--output", "here"]) == 0
    assert main([*words, "--executor", "ray", "--output", "on_ray"]) == 0
    assert hashes_of(Path("on_ray")) == hashes_of(Path("here"))
    assert len(hashes_of(Path("here"))) == 3
    assert not list(Path("on_ray").rglob("worker.log"))


@pytest.mark.slow
def test_an_environment_of_ones_own_that_dies_is_tried_once_more(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "mortal_on_ray.py").write_text(MORTAL)
    monkeypatch.chdir(tmp_path)
    ids = ["mortal_on_ray:Once-v0", "mortal_on_ray:Always-v0", "mortal_on_ray:Bad-v0"]
    words = ["ablate", "--source", "CartPole-v1", "--target", *ids, "--arms", "scratch"]
    words += ["--agent", "ppo", "--n-envs", "4", "--memory-capacity", "1_000", "--frames", "600"]
    assert main([*words, "--executor", "ray", "--output", "run"]) == 1
    said = capsys.readouterr()
    again = [line for line in said.out.splitlines() if "failed; trying again" in line]
    assert len(again) == 3
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and "Traceback" not in said.err
    assert any("Always" in line and "its Ray task died" in line for line in errors)
    assert any("Bad" in line and "NaN" in line for line in errors)
    with Path("run/summary.csv").open(newline="") as file:
        assert [row["env_id"] for row in csv.DictReader(file)] == ["mortal_on_ray:Once-v0"]


@pytest.mark.slow
def test_interrupted_tasks_save_and_the_same_command_continues(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words = [*WORDS, "--frames", "20_000", "--arms", "scratch", "--executor", "ray"]
    words += ["--output", "run"]

    def interrupt() -> None:
        while not list(Path("run").glob("targets/*/*/*/curves.csv")):
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert main(words) == 130
    thread.join()
    assert "Interrupted. The same command continues" in capsys.readouterr().out
    (checkpoint,) = Path("run").glob("targets/*/*/*/checkpoints/*/manifest.json")
    frames = json.loads(checkpoint.read_text())["frames"]
    assert main(words) == 0
    assert f"continues at frame {frames:_}" in capsys.readouterr().out
    whole = tmp_path / "whole"
    words = [w if w != "ray" else "local" for w in words[:-1]]
    assert main([*words, str(whole)]) == 0
    assert hashes_of(Path("run")) == hashes_of(whole)


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

class Bad(CartPoleEnv):
    n_steps = 0
    def step(self, action):
        self.n_steps += 1
        observation, reward, terminated, truncated, info = super().step(action)
        reward = float("nan") if self.n_steps == 20 else reward
        return observation, reward, False, False, info

for name, kind in (("Once-v0", Once), ("Always-v0", Always), ("Bad-v0", Bad)):
    gym.register(name, entry_point=kind, max_episode_steps=50, reward_threshold=40)
"""


def test_the_extra_is_declared() -> None:
    import tomllib

    path = Path(__file__).resolve().parents[3] / "pyproject.toml"
    extras = tomllib.loads(path.read_text())["project"]["optional-dependencies"]
    assert [each.startswith("ray>=") for each in extras["ray"]] == [True]
