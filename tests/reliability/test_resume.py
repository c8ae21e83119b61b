"""A training that was interrupted ends as one that was not."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from stable_baselines3 import DQN

from contrastive_distillation.agents import read_weights
from contrastive_distillation.transfer import TransferSettings, plan_transfer
from contrastive_distillation.transfer.training.state import cut_replayed_episodes

from .conftest import GRID, VECTOR, Trainer

KINDS = [
    ("ppo", GRID, "uniform"),
    ("dqn", GRID, "prediction_error"),
    ("ppo", VECTOR, "value_contrast"),
    ("dqn", VECTOR, "nearest"),
]


def without_time(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    left_out = ("time/", "wall_seconds", "aux/entropy", "aux/effective_rank", "memory/key_drift")
    return [{k: v for k, v in row.items() if not k.startswith(left_out)} for row in rows]


def number(text: str) -> str:
    """A spec of a table; float32s print shorter before they have been in a checkpoint."""
    try:
        return f"{float(text):.5g}"
    except ValueError:
        return text


def assert_same_file(one: Path, other: Path) -> None:
    """The same tensors and metadata; safetensors puts them in any order."""
    with safe_open(one, "np") as left, safe_open(other, "np") as right:
        assert left.metadata() == right.metadata()
        assert set(left.keys()) == set(right.keys())
        for key in left.keys():  # noqa: SIM118
            np.testing.assert_array_equal(left.get_tensor(key), right.get_tensor(key), key)


@pytest.mark.parametrize(("agent", "env_id", "negatives"), KINDS)
def test_an_interrupted_training_ends_as_an_undisturbed_one(
    agent: str, env_id: str, negatives: str, tmp_path: Path
) -> None:
    """Bit for bit: weights, memory, curve, log; interrupted twice."""
    n_frames = {"ppo": 1_500, "dqn": 2_700}[agent]  # DQN begins to learn at 2,000
    whole = Trainer(
        tmp_path / "whole", agent=agent, env=(env_id,), negatives=negatives, frames=n_frames
    )
    assert whole.run() == "finished"
    broken = whole.at(tmp_path / "broken")
    for frames in (300, n_frames - 600):
        assert broken.run(stop_at=frames) == "interrupted"
    assert broken.run() == "finished"
    assert [line.split(";")[0].startswith("continues at frame") for line in broken.said] == [1] * 2
    assert broken.result["weights_sha256"] == whole.result["weights_sha256"]
    halfway, end = (row["frames"] for row in without_time(whole.directory / "information.csv"))
    assert 0 <= int(halfway) - n_frames // 2 <= 274
    assert int(end) == whole.result["frames"]
    for key in ("frames", "scores", "learnt", "final", "best", "information"):
        assert broken.result[key] == whole.result[key], key
    best, expected_best = (
        read_weights(each.directory / "checkpoints/best.zip") for each in (broken, whole)
    )
    assert all(torch.equal(best[name], expected_best[name]) for name in expected_best)
    for name in ("memory.safetensors", "aux.safetensors"):
        assert_same_file(broken.directory / name, whole.directory / name)
    for name in ("curves.csv", "progress.csv", "information.csv"):
        ours, theirs = without_time(broken.directory / name), without_time(whole.directory / name)
        assert len(ours) == len(theirs)
        for row, expected in zip(ours, theirs, strict=True):
            assert row.keys() == expected.keys()
            for key, text in row.items():
                assert number(text) == number(expected[key]), key


def test_a_target_continues_with_its_teacher_and_its_sources_memory(tmp_path: Path) -> None:
    settings = TransferSettings(
        source=(GRID,),
        target=("MiniGrid-Empty-Random-6x6-v0",),
        arms=("contrastive_distillation",),
        frames=1_500,
        source_frames=600,
        n_envs=4,
        backend="gymnasium",
        memory_capacity=1_000,
    )
    source, target = plan_transfer(settings).specs
    whole, broken = Trainer.of(source, tmp_path / "a" / source.name), tmp_path / "b"
    assert whole.run() == "finished"
    shutil.copytree(tmp_path / "a", broken)
    undisturbed = Trainer.of(target, tmp_path / "a" / target.name)
    assert undisturbed.run() == "finished"
    resumed = Trainer.of(target, broken / target.name)
    assert resumed.run(stop_at=700) == "interrupted"
    assert resumed.run() == "finished"
    assert resumed.said == ["continues at frame 1_024"]
    assert resumed.result["weights_sha256"] == undisturbed.result["weights_sha256"]


def test_envpool_starts_new_episodes_and_says_so(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, backend="envpool", frames=1_500)
    assert trainer.run(stop_at=700) == "interrupted"
    assert trainer.run() == "finished"
    (said,) = trainer.said
    assert said.startswith("continues at frame 1_024; the environments")
    assert "start new episodes with a new seed" in said
    assert trainer.result["frames"] >= 1_500


def test_returns_of_several_steps_do_not_reach_over_a_cut() -> None:
    model = DQN("MlpPolicy", VECTOR, n_steps=3, learning_starts=1_000, seed=0)
    model.learn(8)
    buffer = model.replay_buffer
    assert buffer is not None and buffer.pos == 8 and not buffer.dones[:8].any()
    reached = buffer._get_samples(np.array([6])).next_observations
    cut_replayed_episodes(model)
    assert buffer.timeouts[:8, 0].tolist() == [0] * 7 + [1]
    for _ in range(3):  # another episode
        buffer.add(np.full((1, 4), 9.0), np.full((1, 4), 9.0), np.zeros((1, 1)),
                   np.ones(1), np.zeros(1), [{}])  # fmt: skip
    assert torch.equal(buffer._get_samples(np.array([6])).next_observations, reached)
