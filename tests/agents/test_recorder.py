"""What a model experiences, as the memory has it afterwards."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from contrastive_distillation.agents import AuxiliaryLossCallback
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory

LENGTH = 4


class ByTurns(gym.Env[np.ndarray, np.int64]):
    """Episodes of one length: by turns they end by themselves, at a limit, and at both at once.

    Observations are the episode's number and the step; a step's reward is the step, from 1.
    """

    observation_space = gym.spaces.Box(0.0, 1e3, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, first: int = 0) -> None:
        self._episode, self._step = first - 1, 0

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(**options)
        self._episode, self._step = self._episode + 1, 0
        return self._seen(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._step += 1
        ends, which = self._step == LENGTH, self._episode % 3
        return self._seen(), float(self._step), ends and which != 1, ends and which != 0, {}

    def _seen(self) -> np.ndarray:
        return np.array([self._episode, self._step], dtype=np.float32)


@pytest.mark.parametrize("n_envs", [1, 3])
def test_only_returns_of_episodes_that_ended_by_themselves_are_known(n_envs: int) -> None:
    # the environments do not end alike: each begins with another of the three kinds
    firsts = iter(range(n_envs))
    env = make_vec_env(lambda: ByTurns(first=next(firsts)), n_envs=n_envs)
    memory = EpisodicMemory(capacity=1_000)
    joined = AuxiliaryLossCallback(
        ContrastiveDistillation(), memory=memory, encoder="mlp_extractor.policy_net"
    )
    model = PPO("MlpPolicy", env, n_steps=48, batch_size=48, n_epochs=1, gamma=0.9, seed=0)
    model.learn(48 * n_envs, callback=joined)

    rows = memory.rows()
    observations = memory.observations(rows)
    assert isinstance(observations, np.ndarray)
    episode, step = observations.T
    discounts = 0.9 ** np.arange(LENGTH)
    expected = [discounts[: LENGTH - s] @ np.arange(s + 1, LENGTH + 1) for s in step.astype(int)]
    known = episode % 3 != 1
    assert len(rows) == 48 * n_envs and known.any() and not known.all()
    np.testing.assert_array_equal(memory.return_known(rows), known)
    np.testing.assert_allclose(memory.returns(rows)[known], np.array(expected)[known], rtol=1e-6)
