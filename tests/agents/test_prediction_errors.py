"""Errors of the value function, by loops from the formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC

from contrastive_distillation.agents import AuxiliaryLossCallback
from contrastive_distillation.agents.prediction_errors import prediction_errors
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory


def trained(algorithm, env, **settings):
    joined = AuxiliaryLossCallback(
        ContrastiveDistillation(negatives="prediction_error"),
        memory=EpisodicMemory(capacity=300),
        encoder=ENCODERS[algorithm],
    )
    model = algorithm("MlpPolicy", env, seed=0, device="cpu", **settings)
    return model, joined


ENCODERS = {PPO: "mlp_extractor.policy_net", DQN: "q_net.q_net", SAC: "actor.latent_pi"}


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_errors_by_loops(algorithm):
    settings = {"n_steps": 100, "batch_size": 50} if algorithm is PPO else {"learning_starts": 50}
    model, joined = trained(algorithm, "CartPole-v1", **settings)
    model.learn(200, callback=joined)
    memory, gamma = joined.memory, 0.9
    rows = memory.rows()
    batch = memory.batch(rows)
    errors = prediction_errors(model.policy, joined.learner.encoder, memory, rows, gamma=gamma)
    known = 0
    for i in range(len(rows)):
        with torch.no_grad():
            now, then = (
                model.policy.predict_values(torch.as_tensor(o[i : i + 1]))[0]
                if algorithm is PPO
                else model.q_net(torch.as_tensor(o[i : i + 1]))[0]
                for o in (batch.observations, batch.next_observations)
            )
        value = float(now[0 if algorithm is PPO else int(batch.actions[i])])
        if batch.return_known[i]:
            known += 1
            expected = abs(float(batch.returns[i]) - value)
        elif batch.has_next[i]:
            expected = abs(float(batch.rewards[i]) + gamma * float(then.max()) - value)
        else:
            expected = 0.0
        assert errors[i] == pytest.approx(expected, abs=1e-4)
    assert 0 < known < len(rows)
    assert errors.dtype == np.float32


def test_agents_without_such_values_are_told_what_to_choose():
    model, joined = trained(SAC, "Pendulum-v1", learning_starts=20)
    with pytest.raises(ValueError, match=r"SACPolicy gives neither\. Choose nearest"):
        model.learn(100, callback=joined)  # the loss begins with a batch of 64 anchors
