"""Builders: Stable-Baselines3's PPO and DQN with settings that learn, for each observation kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from .advantage_floor import AdvantageFloor
from .encoders import SMALLEST_PICTURE, PictureEncoder, VectorEncoder
from .entropy_anneal import EntropyAnneal
from .exact_frames import ExactDQN, ExactPPO
from .grid_encoder import GridEncoder, why_not_a_grid
from .policies import DistinctActorCriticPolicy, DistinctDQNPolicy

AGENTS: Mapping[str, type[BaseAlgorithm]] = {"ppo": ExactPPO, "dqn": ExactDQN}
"""Agents by the name the command line uses."""

SUMMARIES: Mapping[str, str] = {
    "ppo": "Stable-Baselines3's PPO, on-policy, many environments",
    "dqn": "Stable-Baselines3's DQN, off-policy, replay buffer, discrete actions",
}

_PPO: dict[str, dict[str, Any]] = {
    "grid": {
        "n_epochs": 4, "gamma": 0.99, "gae_lambda": 0.95, "ent_coef": 0.03, "clip_range": 0.2,
        "max_grad_norm": 0.5, "target_kl": 0.03,
    },
    "vector": {
        "learning_rate": 1e-3, "n_epochs": 10, "gamma": 0.99, "gae_lambda": 0.95, "ent_coef": 0.0,
        "clip_range": 0.2, "max_grad_norm": 0.5, "target_kl": 0.02, "vf_coef": 0.02,
    },
}  # fmt: skip
# "target_kl": while an agent learns, one `train()` moves the policy by .015 to .03 nats; before it
# lost everything, by .1 to 2.3 (docs/results.md). `AdvantageFloor` prevents most of these, too.
# "vector": returns of 100 make the critic's gradient 100 times the policy's; the common clip then
# leaves nothing of the policy's, and the shared encoder serves the critic alone.

_ROLLOUT = {"grid": 8192, "vector": 4096}
_MINIBATCH = {"grid": 1024, "vector": 512}
_MINIBATCH_SLACK = 1.1  # up to this factor larger: 258 environments take eight of 1,032
_FEWEST_STEPS, _MOST_STEPS = 16, 128
_GRID_RATE = 1e-3  # with minibatches of 1,024; smaller ones take smaller steps

_DQN: dict[str, dict[str, Any]] = {
    "grid": {
        "learning_rate": 1e-3, "buffer_size": 100_000, "gamma": 0.99, "learning_starts": 2_000,
        "target_update_interval": 128, "tau": 0.02, "exploration_initial_eps": 1.0,
        "exploration_final_eps": 0.1, "exploration_fraction": 0.3, "max_grad_norm": 10.0,
    },
    "vector": {
        "learning_rate": LinearSchedule(6e-3, 0.0, 1.0), "buffer_size": 1_000_000, "gamma": 0.99,
        "learning_starts": 1_000, "n_steps": 5, "target_update_interval": 256, "tau": 0.25,
        "exploration_initial_eps": 1.0, "exploration_final_eps": 0.04,
        "exploration_fraction": 0.05, "max_grad_norm": 10.0,
    },
}  # fmt: skip


@dataclass(frozen=True)
class _Replay:
    """DQN collects frames, then replays samples for all of them in few large minibatches."""

    n_frames: int
    """Frames between two replays, over all environments; rounded to whole steps."""
    batch_size: int
    """Samples in a minibatch; rounded so that minibatches are equal."""
    n_samples: int
    """Samples replayed for each frame."""


_REPLAY = {"grid": _Replay(128, 2048, 16), "vector": _Replay(256, 1024, 32)}

_OF_BYTES = ("grid", "picture")  # kinds whose observations repeat and are cheap to compare
_DISTINCT = {"ppo": DistinctActorCriticPolicy, "dqn": DistinctDQNPolicy}


def observation_kind(space: gym.Space[Any]) -> str:
    """Which encoder reads observations of a space, chosen by what the space holds.

    Returns:
        "grid": MiniGrid's cells (`GridEncoder`); "picture": bytes, 36×36 or larger
        (`PictureEncoder`); "mixed": a Dict with such pictures beside other parts
        (Stable-Baselines3's `CombinedExtractor`); "vector": all numbers one after the other
        (`VectorEncoder`), also those of smaller pictures.
    """
    if not isinstance(space, gym.spaces.Dict):
        return "picture" if _is_large_picture(space) else "vector"
    if why_not_a_grid(space) is None:
        return "grid"
    pictures = [part for part in space.spaces.values() if is_image_space(part)]
    return "mixed" if pictures and all(map(_is_large_picture, pictures)) else "vector"


def _is_large_picture(space: gym.Space[Any]) -> bool:
    """Whether a space holds pictures that are large enough for convolutions."""
    if not isinstance(space, gym.spaces.Box) or not is_image_space(space):
        return False
    channels_first = np.argmin(space.shape) == 0  # else Stable-Baselines3 moves the last axis
    rows_and_columns = space.shape[1:] if channels_first else space.shape[:2]
    return min(rows_and_columns) >= SMALLEST_PICTURE


def default_n_envs(agent: str, kind: str = "grid") -> int:
    """The default number of environments that are stepped at once.

    Args:
        agent: "ppo" | "dqn".
        kind: of observation, see `observation_kind`.
    """
    if agent == "dqn":
        return 32 if kind == "vector" else 128
    return 64 if kind == "vector" else 256


def default_weight(agent: str) -> float:
    """The default weight of the loss, chosen by measurement.

    Raises:
        ValueError: an unknown agent.
    """
    weights = {"ppo": 0.3, "dqn": 0.1}
    if agent not in weights:
        raise ValueError(
            f"there is no default weight for the agent '{agent}', only for "
            f"{', '.join(weights)}; choose a weight"
        )
    return weights[agent]


def build_agent(
    agent: str,
    env: VecEnv,
    *,
    seed: int,
    device: str = "cpu",
    **overrides: Any,
) -> BaseAlgorithm:
    """A model with settings that learn for the observation kind of `env`.

    Args:
        agent: "ppo" | "dqn".
        env: vectorised environment.
        seed: of the model; the environment has its own.
        device: "cpu" | "cuda" | "auto".
        overrides: Stable-Baselines3 arguments that replace the defaults.

    Raises:
        ValueError: an unknown agent, or an action space that it cannot use.
    """
    if agent not in AGENTS:
        raise ValueError(f"unknown agent '{agent}'; choose one of {', '.join(AGENTS)}")
    if agent == "dqn" and not isinstance(env.action_space, gym.spaces.Discrete):
        raise ValueError(
            f"dqn needs discrete actions, this environment has {env.action_space}; use --agent ppo"
        )
    kind = observation_kind(env.observation_space)
    learnt_on = "vector" if kind == "vector" else "grid"
    if agent == "ppo":
        settings = _PPO[learnt_on] | _ppo_sizes(learnt_on, env.num_envs, overrides)
    else:
        settings = _DQN[learnt_on] | _dqn_sizes(_REPLAY[learnt_on], env.num_envs, overrides)
        settings["target_update_interval"] = max(settings["target_update_interval"], env.num_envs)
        if isinstance(env.observation_space, gym.spaces.Dict):
            settings["n_steps"] = 1  # Stable-Baselines3 supports no other value for these
    policy: Any = _DISTINCT[agent]
    if kind not in _OF_BYTES:
        is_dict = isinstance(env.observation_space, gym.spaces.Dict)
        policy = "MultiInputPolicy" if is_dict else "MlpPolicy"
    settings |= {"policy_kwargs": _policy_kwargs(agent, kind), "seed": seed, "device": device}
    return AGENTS[agent](policy, env, **(settings | overrides))


def _policy_kwargs(agent: str, kind: str) -> dict[str, Any]:
    kwargs: dict[str, Any] = {"activation_fn": nn.ReLU, "optimizer_kwargs": {"fused": True}}
    encoders = {"grid": GridEncoder, "picture": PictureEncoder, "vector": VectorEncoder}
    if kind in encoders:
        kwargs["features_extractor_class"] = encoders[kind]
    if kind == "vector" and agent == "dqn":
        kwargs["features_extractor_kwargs"] = {"features_dim": 128, "hidden_dims": ()}
        kwargs["net_arch"] = [128]
    elif agent == "dqn":
        kwargs["net_arch"] = [64]
    else:
        kwargs["net_arch"] = {"pi": [64], "vf": [64]}
        kwargs["optimizer_kwargs"] = {"eps": 1e-5, "fused": True}  # PPO's own epsilon
    return kwargs


def _ppo_sizes(learnt_on: str, n_envs: int, overrides: dict[str, Any]) -> dict[str, Any]:
    """Steps, minibatch and, for grids, learning rate for a number of environments.

    A rollout of about one size, in steps that eight minibatches divide, so that these are near
    the size wanted for any number of environments; the rate falls with the square root of the
    minibatch, as Adam's noise does.
    """
    eights = round(_ROLLOUT[learnt_on] / n_envs / 8)
    wanted = min(max(8 * eights, _FEWEST_STEPS), _MOST_STEPS)
    n_steps = int(overrides.get("n_steps", wanted))
    rollout = n_steps * n_envs
    largest = max(1, min(_MINIBATCH[learnt_on], rollout // 4 if learnt_on == "grid" else rollout))
    fewest = max(1, math.ceil(rollout / (largest * _MINIBATCH_SLACK)))
    n_minibatches = next(n for n in range(fewest, rollout + 1) if rollout % n == 0)
    sizes: dict[str, Any] = {"n_steps": n_steps, "batch_size": rollout // n_minibatches}
    if learnt_on == "grid":
        batch_size = int(overrides.get("batch_size", sizes["batch_size"]))
        sizes["learning_rate"] = _GRID_RATE * (batch_size / _MINIBATCH["grid"]) ** 0.5
    return sizes


def _dqn_sizes(replay: _Replay, n_envs: int, overrides: dict[str, Any]) -> dict[str, Any]:
    """Frequency, number and size of replayed minibatches for a number of environments.

    The samples replayed for each frame are as many for any number of environments and any
    `train_freq`; with a `batch_size` of the user's, to the nearest whole number of minibatches.
    """
    train_freq = overrides.get("train_freq", max(round(replay.n_frames / n_envs), 1))
    batch_size = int(overrides.get("batch_size", replay.batch_size))
    if isinstance(train_freq, tuple) and train_freq[1:] in (("step",), (TrainFrequencyUnit.STEP,)):
        train_freq = int(train_freq[0])
    if not isinstance(train_freq, int):  # in episodes of unknown length
        return {"batch_size": batch_size}
    n_samples = train_freq * n_envs * replay.n_samples
    gradient_steps = max(1, round(n_samples / batch_size))
    return {
        "train_freq": train_freq, "gradient_steps": gradient_steps,
        "batch_size": n_samples // gradient_steps,
    }  # fmt: skip


def default_callbacks(model: BaseAlgorithm) -> list[BaseCallback]:
    """The callbacks that belong to a built agent's settings, for `learn()`."""
    return [AdvantageFloor(), EntropyAnneal()] if isinstance(model, PPO) else []


def resolve_device(device: str) -> str:
    """ "auto" to "cuda" where one is present, else "cpu"; others as they are.

    Raises:
        ValueError: "cuda" was asked for and there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("--device cuda was asked for, but torch sees no GPU; use --device cpu")
    return device
