"""Observations, batches and negatives that code forgets: trained on, or refused with a table."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    FiniteGradients,
    build_agent,
    policy_sha256,
)
from contrastive_distillation.envs import make_vec
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory
from contrastive_distillation.run_agent import main

from . import shaped_envs
from .conftest import VECTOR

pytestmark = pytest.mark.filterwarnings("ignore:the return range of")
sys.modules.setdefault("shaped_envs", shaped_envs)


def env_id(name: str) -> str:
    return f"shaped_envs:shaped/{name}-v0"


@pytest.mark.parametrize(
    ("source", "target", "lines"),
    [
        ("bytes", "floats", ["observation 4 uint8 0…255 4 float32 NO"]),
        ("floats", "bytes", ["observation 4 float32 4 uint8 0…255 NO"]),
        ("hwc", "chw", ["observation 36×36×3 uint8 0…255 3×36×36 uint8 0…255 NO"]),
        ("dict", "floats", ["gear Discrete(3) - NO", "observation - 4 float32 NO"]),
        ("dict", "keys", ["speed 4 float32 4 float32 yes", "wheel - Discrete(3) NO"]),
    ],
)
def test_what_does_not_fit_is_refused_with_a_table(
    source: str, target: str, lines: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["transfer", "--source", env_id(source), "--target", env_id(target)]
    assert main([*words, "--agent", "ppo", "--output", str(tmp_path / "run")]) == 2
    table = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert all(line in table for line in lines), table
    assert not (tmp_path / "run").exists(), "before a frame is spent"


def learn(
    name: str, agent: str, *, weight: float = 0.3, frames: int = 256
) -> tuple[BaseAlgorithm, AuxiliaryLossCallback]:
    small = {"n_steps": 32} if agent == "ppo" else {"learning_starts": 32, "batch_size": 32}
    model = build_agent(agent, make_vec([env_id(name)], 4, 0, "gymnasium"), seed=0, **small)
    loss, memory = ContrastiveDistillation(n_negatives=32), EpisodicMemory(capacity=256)
    joined = AuxiliaryLossCallback(loss, memory=memory, weight=weight, every=1)
    model.learn(frames, callback=[joined, FiniteGradients([name])])
    return model, joined


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
@pytest.mark.parametrize("name", ["dict", "hwc", "chw", "bytes"])
def test_observations_of_every_kind_are_learnt_from(name: str, agent: str) -> None:
    model, joined = learn(name, agent)
    assert joined.n_updates > 0 and joined.loss.metrics["usable_anchors"] > 0
    kept = joined.memory.observations(joined.memory.rows())
    assert set(kept) == {"speed", "gear"} if isinstance(kept, dict) else kept.dtype == np.uint8
    assert all(bool(torch.isfinite(p).all()) for p in model.policy.parameters())


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_where_every_negative_is_masked_the_loss_is_exactly_0(agent: str) -> None:
    """All observations are the same: the agent learns as it would without a loss."""
    model, joined = learn("constant", agent)
    assert joined.n_updates > 0 and joined.loss.metrics["usable_anchors"] == 0
    stock, _ = learn("constant", agent, weight=0.0)
    assert policy_sha256(model) == policy_sha256(stock)


def test_a_minibatch_of_one() -> None:
    """17 frames in minibatches of 16; one anchor."""
    env = make_vec([VECTOR], 1, 0, "gymnasium")
    model = build_agent("ppo", env, seed=0, n_steps=17, batch_size=16)
    joined = AuxiliaryLossCallback(
        ContrastiveDistillation(n_negatives=1),
        memory=EpisodicMemory(capacity=64),
        n_anchors=1,
        every=1,
    )
    model.learn(51, callback=[joined, FiniteGradients([VECTOR])])
    assert joined.n_updates > 0
    assert all(bool(torch.isfinite(p).all()) for p in model.policy.parameters())
