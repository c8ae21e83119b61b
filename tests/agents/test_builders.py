"""What builders speed up leaves what is learnt as it was."""

from functools import partial
from typing import Any

import gymnasium as gym
import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import DummyVecEnv

from contrastive_distillation.agents import build_agent
from contrastive_distillation.envs import make_vec

GRID, VECTOR = "MiniGrid-Empty-Random-5x5-v0", "CartPole-v1"

SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 32},
    "dqn": {"learning_starts": 32, "train_freq": 8, "batch_size": 64, "gradient_steps": 4},
}


def weights_after_learning(agent: str, *, fused: bool) -> torch.Tensor:
    env = make_vec((GRID,), 4, 0, "gymnasium")
    model = build_agent(agent, env, seed=0, **SETTINGS[agent])
    assert isinstance(model.policy, BasePolicy)
    for group in model.policy.optimizer.param_groups:
        assert group["fused"] and group["eps"] == {"ppo": 1e-5, "dqn": 1e-8}[agent]
        group["fused"] = fused
    before = flat(model)
    model.learn(256)
    env.close()
    assert not torch.equal(flat(model), before)
    return flat(model)


def flat(model: BaseAlgorithm) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.policy.parameters()])


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_fused_adam_learns_what_plain_adam_learns(agent: str) -> None:
    plain, fused = (weights_after_learning(agent, fused=fused) for fused in (False, True))
    torch.testing.assert_close(fused, plain, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("env_id", "n_samples"), [(GRID, 16), (VECTOR, 32)])
@pytest.mark.parametrize("n_envs", [1, 8, 32, 85, 86, 100, 128, 200, 256])
def test_dqn_replays_as_much_for_each_frame_with_any_number_of_environments(
    n_envs: int, env_id: str, n_samples: int
) -> None:
    env = make_vec((env_id,), n_envs, 0)
    model = build_agent("dqn", env, seed=0, buffer_size=1_000)
    env.close()
    assert isinstance(model, DQN) and isinstance(model.train_freq, TrainFreq)
    replayed = model.gradient_steps * model.batch_size
    expected = n_samples * model.train_freq.frequency * n_envs
    assert expected - model.gradient_steps < replayed <= expected
    wanted = {GRID: 2048, VECTOR: 1024}[env_id]
    assert 2 / 3 <= model.batch_size / wanted <= 4 / 3


def test_dqn_replays_as_much_for_each_frame_with_ones_own_frequency() -> None:
    env = make_vec((GRID,), 1, 0)
    dqn = partial(build_agent, "dqn", env, seed=0, buffer_size=1_000)
    seldom, small = dqn(train_freq=256), dqn(train_freq=4, batch_size=32)
    own, episodes = dqn(gradient_steps=3), dqn(train_freq=(1, "episode"))
    in_steps = dqn(train_freq=TrainFreq(256, TrainFrequencyUnit.STEP))
    named = dqn(train_freq=(256, "step"))
    env.close()
    assert (seldom.gradient_steps, seldom.batch_size) == (2, 2048)
    assert (in_steps.gradient_steps, in_steps.batch_size) == (2, 2048)
    assert (named.gradient_steps, named.batch_size) == (2, 2048)
    assert (small.gradient_steps, small.batch_size) == (2, 32)
    assert (own.gradient_steps, own.batch_size) == (3, 2048)
    assert (episodes.gradient_steps, episodes.batch_size) == (1, 2048)


@pytest.mark.parametrize("n_envs", [64, 100, 136, 255, 256, 257, 258, 272, 1024])
def test_minibatches_are_near_one_size_for_any_number_of_environments(n_envs: int) -> None:
    env = make_vec((GRID,), n_envs, 0)
    model = build_agent("ppo", env, seed=0)
    env.close()
    assert 960 <= model.batch_size <= 1127
    assert model.n_steps * n_envs % model.batch_size == 0


def in_a_dict() -> gym.Env[Any, Any]:
    env = gym.make(VECTOR)
    space = gym.spaces.Dict({"state": env.observation_space})
    return gym.wrappers.TransformObservation(env, lambda state: {"state": state}, space)


def test_dqn_looks_several_steps_ahead_where_stable_baselines_can() -> None:
    plain = make_vec((VECTOR,), 1, 0)
    of_parts = DummyVecEnv([in_a_dict])
    for env, n_steps in ((plain, 5), (of_parts, 1)):
        model = build_agent("dqn", env, seed=0, learning_starts=16, train_freq=16)
        assert isinstance(model, DQN) and model.n_steps == n_steps
        model.learn(64)
        env.close()
