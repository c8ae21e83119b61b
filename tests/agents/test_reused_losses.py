"""A loss object that served one training serves the next as a new one would."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    RecordMemory,
    VectorEncoder,
    policy_sha256,
)
from contrastive_distillation.losses import LOSSES, AuxiliaryLoss
from contrastive_distillation.memory import EpisodicMemory

_VECTORS = {
    "features_extractor_class": VectorEncoder,
    "features_extractor_kwargs": {"features_dim": 8, "hidden_dims": ()},
    "net_arch": [8],
}


def make(name: str, seed: int) -> BaseAlgorithm:
    if "dqn" in (LOSSES[name].agents or ()):
        return DQN("MlpPolicy", "CartPole-v1", learning_starts=24, batch_size=8, seed=seed,
                   policy_kwargs=_VECTORS)  # fmt: skip
    return PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=16, n_epochs=2, seed=seed,
               policy_kwargs=_VECTORS)  # fmt: skip


def trained(name: str, seed: int, loss: AuxiliaryLoss, source: EpisodicMemory) -> str:
    model = make(name, seed)
    joined = AuxiliaryLossCallback(
        loss, memory=EpisodicMemory(), source_memory=source, every=1, n_anchors=8, weight=0.5
    )
    model.learn(64, callback=joined)
    assert joined.n_updates > 0
    return policy_sha256(model)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_second_training_is_that_of_a_new_object(
    name: str, make_rival: Callable[[str, BaseAlgorithm | None], AuxiliaryLoss]
) -> None:
    source, memory = make(name, 7), EpisodicMemory()
    source.learn(64, callback=RecordMemory(memory))
    reused = make_rival(name, source)
    first = trained(name, 0, reused, memory)
    second = trained(name, 1, reused, memory)
    assert second == trained(name, 1, make_rival(name, source), memory)
    assert first != second
