"""Agents take the frames they are given, in whole steps of their environments."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from contrastive_distillation.agents import AGENTS, MatchedPasses

N_ENVS = 4
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 32, "batch_size": 32, "n_epochs": 2},
    "dqn": {"learning_starts": 16, "train_freq": 32, "batch_size": 32, "gradient_steps": 2},
}
ROLLOUT = 32 * N_ENVS


class Rollouts(BaseCallback):
    """Keeps the number of frames at the end of each rollout."""

    ends: list[int]

    def _on_training_start(self) -> None:
        self.ends = []

    def _on_rollout_end(self) -> None:
        self.ends.append(self.num_timesteps)

    def _on_step(self) -> bool:
        return True


def made(kind: type[BaseAlgorithm], agent: str) -> BaseAlgorithm:
    makers: list[Callable[[], gym.Env[Any, Any]]] = [lambda: gym.make("CartPole-v1")] * N_ENVS
    return kind("MlpPolicy", DummyVecEnv(makers), seed=0, **SETTINGS[agent])


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
@pytest.mark.parametrize(
    ("frames", "ends"),
    [
        (1, [4]),
        (99, [100]),
        (ROLLOUT, [ROLLOUT]),
        (ROLLOUT + 2, [ROLLOUT, ROLLOUT + 4]),
        (2 * ROLLOUT - 4, [ROLLOUT, 2 * ROLLOUT - 4]),
    ],
)
def test_the_last_rollout_is_as_long_as_what_is_left(
    agent: str, frames: int, ends: list[int]
) -> None:
    model, rollouts = made(AGENTS[agent], agent), Rollouts()
    model.learn(frames, callback=rollouts)
    assert rollouts.ends == ends
    if agent == "ppo":  # learns from the last rollout too
        assert model._n_updates == 2 * len(ends)


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_a_later_learn_collects_whole_rollouts_again(agent: str) -> None:
    model, rollouts = made(AGENTS[agent], agent), Rollouts()
    model.learn(20)
    model.learn(ROLLOUT + 8, callback=rollouts, reset_num_timesteps=False)
    assert rollouts.ends == [20 + ROLLOUT, 20 + ROLLOUT + 8]
    assert not isinstance(model, PPO) or model.n_steps == 32


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_whole_rollouts_are_those_of_stable_baselines3_bit_for_bit(agent: str) -> None:
    plain = {"ppo": PPO, "dqn": DQN}[agent]
    ours, theirs = (made(kind, agent).learn(2 * ROLLOUT) for kind in (AGENTS[agent], plain))
    expected = theirs.policy.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in ours.policy.state_dict().items())


def test_matched_epochs_follow_a_shorter_rollout() -> None:
    model = made(AGENTS["ppo"], "ppo")
    model.learn(ROLLOUT + 8, callback=MatchedPasses(every=1, n_encoded=ROLLOUT // 4))
    assert model._n_updates == 2 * (2 + 2)  # each rollout: two epochs, and 8 quarters beside them
