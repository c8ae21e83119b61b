"""Play to gather observations and actions; rewards are neither used nor learnt from."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from contrastive_distillation.memory import RANDOM_ACTIONS, EpisodicMemory

from ..observation_encoder import forked_generators
from .play import Player

_POLICY_ACTIONS = "policy's actions"


def gather_memory(
    model: BaseAlgorithm,
    env: VecEnv | None = None,
    *,
    frames: int = 40_000,
    epsilon: float = 1.0,
    seed: int = 0,
) -> EpisodicMemory:
    """Play a model in an environment, from its reset on, and keep what it saw and did.

    Args:
        model: plays with the actions that its policy samples (DQN: prefers), if `epsilon` is
            below 1.
        env: vectorised; None: the model's own. VecNormalize's statistics stay as they are.
        frames: over all environments, rounded up to a multiple of their number.
        epsilon: chance of a uniformly random action, in [0, 1]. Steps of a memory that was
            gathered with 1 are marked as random (`memory.RANDOM_ACTIONS`).
        seed: of all actions.

    Returns:
        A memory of exactly these frames, with rewards of 0.

    Raises:
        ValueError: no environment, no frame, or `epsilon` outside [0, 1].
    """
    return gather(model, env, frames=frames, epsilon=epsilon, seed=seed, freezes=True)


def gather(
    model: BaseAlgorithm,
    env: VecEnv | None = None,
    *,
    frames: int,
    epsilon: float,
    seed: int,
    freezes: bool = False,
) -> EpisodicMemory:
    """As `gather_memory`.

    Args:
        model, env, frames, epsilon, seed: see there.
        freezes: whether VecNormalize's statistics of observations stay as they are; those of
            rewards do so always.
    """
    own = model.get_env()
    env = own if env is None else env
    if env is None:
        raise ValueError("the model has no environment: pass env=, or call model.set_env(env)")
    if frames < 1:
        raise ValueError(f"frames is {frames}; 1 or more are needed")
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon is {epsilon}; it is a chance, in [0, 1]")
    if env is own:
        model._last_obs = None  # the next learn() resets the environments, which move on
    n_steps = -(-frames // env.num_envs)
    memory = EpisodicMemory(capacity=n_steps * env.num_envs)
    task = RANDOM_ACTIONS if epsilon == 1.0 else _POLICY_ACTIONS
    memory.start(n_envs=env.num_envs, gamma=1.0, tasks=(task,))
    zeros = np.zeros(env.num_envs, dtype=np.float32)
    tasks = np.zeros(env.num_envs, dtype=np.int64)
    normalised = unwrap_vec_normalize(env)
    with _kept_statistics(normalised, freezes), forked_generators(model.device):
        player = Player(model, env, epsilon=epsilon, seed=seed)
        seen: Any = env.reset()
        for step in range(n_steps):
            raw: Any = seen
            if normalised is not None and normalised.norm_obs:
                raw = normalised.get_original_obs()
            raw = copy.deepcopy(raw)
            actions = player.act(seen)
            seen, _, dones, infos = env.step(actions)
            player.starts = np.asarray(dones, dtype=np.bool_)
            dones = player.starts
            truncated = np.array([bool(i.get("TimeLimit.truncated", False)) for i in infos])
            memory.add(
                observations=raw,
                actions=np.asarray(actions),
                rewards=zeros,
                terminated=dones & ~truncated,
                truncated=dones & truncated,
                tasks=tasks,
                time=(step + 1) * env.num_envs,
            )
    return memory


@contextmanager
def _kept_statistics(normalised: VecNormalize | None, freezes: bool) -> Iterator[None]:
    """Leave VecNormalize's statistics of rewards as they are, and on demand all of them."""
    if normalised is None:
        yield
        return
    training, rewards = normalised.training, copy.deepcopy(normalised.ret_rms)
    normalised.training = training and not freezes
    try:
        yield
    finally:
        normalised.training = training
        normalised.ret_rms = rewards
        normalised.returns = np.zeros(normalised.num_envs)
