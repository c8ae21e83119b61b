"""Agents with the loss on learn what they should: minutes each, so marked slow."""

import json
from pathlib import Path

import pytest

from contrastive_distillation.run_agent import main


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "env_id", "score"),
    [
        ("ppo", "MiniGrid-DoorKey-5x5-v0", 0.9),
        ("dqn", "CartPole-v1", 0.8),
        ("dqn", "MiniGrid-Empty-Random-5x5-v0", 0.9),
    ],
)
def test_learnt_within_200k_frames(tmp_path: Path, agent: str, env_id: str, score: float) -> None:
    words = ["train", "--env", env_id, "--agent", agent, "--frames", "200_000", "--until-learnt"]
    assert main([*words, "--output", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["scores"][env_id] >= score
