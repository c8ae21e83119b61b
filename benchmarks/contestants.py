"""The contestants: stock Stable-Baselines3 with two sets of settings, and this package's agents.

Stock is Stable-Baselines3's algorithm on Gymnasium environments in a `DummyVecEnv`, with this
package's observations and its encoder in the plain form, and without an auxiliary loss.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium as gym
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    build_agent,
    default_callbacks,
    default_n_envs,
    default_weight,
    observation_kind,
)
from contrastive_distillation.envs import make_env, make_vec
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory

DOORKEY = ("MiniGrid-DoorKey-5x5-v0",)
KEYDOOR = (*DOORKEY, "MiniGrid-Unlock-v0", "MiniGrid-KeyCorridorS3R1-v0")
EMPTY = ("MiniGrid-Empty-Random-5x5-v0",)
CART_POLE = ("CartPole-v1",)

Train = Callable[[int, Sequence[BaseCallback]], float]
"""Takes a seed and further callbacks; returns the seconds that `learn()` took."""


@dataclass(frozen=True)
class Stock:
    """Settings of stock Stable-Baselines3."""

    n_envs: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


USUAL: Mapping[str, Stock] = {
    "ppo grid": Stock(
        16,
        {"n_steps": 128, "batch_size": 64, "n_epochs": 10, "learning_rate": 2.5e-4,
         "gae_lambda": 0.95, "gamma": 0.99, "ent_coef": 0.0, "clip_range": 0.2},
        "rl-baselines3-zoo's hyperparams/ppo.yml, MiniGrid-DoorKey-5x5-v0, but 16 environments "
        "in place of 8, and without `normalize`, since the numbers of cells are categories",
    ),
    "dqn grid": Stock(
        1,
        {},
        "Stable-Baselines3's defaults (the zoo has none for DQN on MiniGrid): batch 32 every 4 "
        "frames, learning rate 1e-4, buffer 1,000,000, 10,000 frames between target updates",
    ),
    "dqn vector": Stock(
        1,
        {"learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000,
         "learning_starts": 1_000, "gamma": 0.99, "target_update_interval": 10, "train_freq": 256,
         "gradient_steps": 128, "exploration_fraction": 0.16, "exploration_final_eps": 0.04},
        "rl-baselines3-zoo's hyperparams/dqn.yml, CartPole-v1, but this package's encoder in "
        "place of its layers of 256",
    ),
}  # fmt: skip
"""The common settings, by agent and observation."""

TUNED: Mapping[str, Stock] = {
    "ppo grid": Stock(
        16,
        {"n_steps": 128, "batch_size": 256, "n_epochs": 4, "learning_rate": 7e-4,
         "ent_coef": 0.01, "clip_range": 0.2, "gae_lambda": 0.95},
        "4 epochs of minibatches of 256 instead of 10 of 64",
    ),
    "dqn grid": Stock(
        8,
        {"learning_rate": 5e-4, "buffer_size": 100_000, "batch_size": 512,
         "learning_starts": 2_000, "train_freq": 4, "gradient_steps": 1,
         "target_update_interval": 1_000, "exploration_initial_eps": 1.0,
         "exploration_final_eps": 0.1, "exploration_fraction": 0.8},
        "8 environments, a minibatch of 512 every 32 frames: DQN learns MiniGrid with these",
    ),
    "dqn vector": Stock(
        8,
        {"learning_rate": LinearSchedule(2.3e-3, 0.0, 1.0), "buffer_size": 100_000,
         "batch_size": 64, "learning_starts": 1_000, "train_freq": 32, "gradient_steps": 128,
         "target_update_interval": 10, "exploration_final_eps": 0.04,
         "exploration_fraction": 0.05},
        "the usual settings with 8 environments",
    ),
}  # fmt: skip
"""Settings chosen for speed: fewer passes, or more environments at once."""


def stock(
    agent: str,
    env_ids: Sequence[str],
    frames: int,
    which: str = "tuned",
    *,
    picture: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> Train:
    """Stable-Baselines3 on Gymnasium, with only our observations and our encoder."""

    def train(seed: int, callbacks: Sequence[BaseCallback]) -> float:
        observation = "picture" if picture else "auto"
        mission = len(env_ids) > 1  # one of the keydoor sources has missions that vary
        make = partial(make_env, observation=observation, mission=mission)
        space = make(env_ids[0]).observation_space
        kind = "vector" if observation_kind(space) == "vector" else "grid"
        chosen = {"usual": USUAL, "tuned": TUNED}[which][f"{agent} {kind}"]
        env = DummyVecEnv([partial(make, env_ids[i % len(env_ids)]) for i in range(chosen.n_envs)])
        encoder = dict(build_agent(agent, env, seed=seed).policy_kwargs)
        encoder.pop("optimizer_kwargs", None)
        if kind == "grid":
            encoder["features_extractor_kwargs"] = {"encode_distinct": False}
        policy = "MultiInputPolicy" if isinstance(space, gym.spaces.Dict) else "MlpPolicy"
        algorithm: type[BaseAlgorithm] = {"ppo": PPO, "dqn": DQN}[agent]
        settings = {**chosen.settings, **(overrides or {})}
        model = algorithm(policy, env, policy_kwargs=encoder, seed=seed, **settings)
        return learn(model, frames, callbacks)

    return train


def ours(agent: str, env_ids: Sequence[str], frames: int, **how: Any) -> Train:
    """This package's agent on EnvPool, with its memory filled; `how` goes to `our_agent`."""

    def train(seed: int, callbacks: Sequence[BaseCallback]) -> float:
        model, own = our_agent(agent, env_ids, seed=seed, **how)
        seconds = learn(model, frames, [*own, *callbacks])
        model.get_env().close()  # type: ignore[union-attr]
        return seconds

    return train


def our_agent(
    agent: str,
    env_ids: Sequence[str],
    *,
    seed: int,
    loss: bool,
    picture: bool = False,
    n_envs: int | None = None,
    capacity: int = 100_000,
    weight: float | None = None,
    settings: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[BaseAlgorithm, list[BaseCallback]]:
    """A model and the callbacks for its `learn()`."""
    kind = observation_kind(make_env(env_ids[0]).observation_space)
    n = n_envs or default_n_envs(agent, kind)
    n = max(n // len(env_ids), 1) * len(env_ids)
    env = make_vec(env_ids, n, seed, observation="picture" if picture else "auto")
    model = build_agent(agent, env, seed=seed, **(overrides or {}))
    callbacks = list(default_callbacks(model))
    if loss:
        callbacks.append(
            AuxiliaryLossCallback(
                ContrastiveDistillation(**(settings or {})),
                memory=EpisodicMemory(capacity=capacity),
                weight=default_weight(agent) if weight is None else weight,
                seed=seed,
            )
        )
    return model, callbacks


def learn(
    model: BaseAlgorithm, frames: int, callbacks: Sequence[BaseCallback], *, go_on: bool = False
) -> float:
    """Seconds of one `learn()`; with `go_on` it continues the last one."""
    started = time.perf_counter()
    model.learn(frames, callback=list(callbacks), reset_num_timesteps=not go_on)
    return time.perf_counter() - started
