"""Play to gather observations and actions; rewards are neither used nor learnt from."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from contrastive_distillation.memory import RANDOM_ACTIONS, EpisodicMemory

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
        model: plays with the actions that its policy samples, if `epsilon` is below 1.
        env: vectorised; None: the model's own.
        frames: over all environments, rounded up to a multiple of their number.
        epsilon: chance of a uniformly random action, in [0, 1]. Steps of a memory that was
            gathered with 1 are marked as random (`memory.RANDOM_ACTIONS`).
        seed: of the random actions.

    Returns:
        A memory of exactly these frames, with rewards of 0.

    Raises:
        ValueError: no environment, no frame, or `epsilon` outside [0, 1].
    """
    env = model.get_env() if env is None else env
    if env is None:
        raise ValueError("the model has no environment: pass env=, or call model.set_env(env)")
    if frames < 1:
        raise ValueError(f"frames is {frames}; 1 or more are needed")
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon is {epsilon}; it is a chance, in [0, 1]")
    generator = np.random.default_rng(seed)
    space = copy.deepcopy(env.action_space)
    space.seed(int(generator.integers(2**31)))
    n_steps = -(-frames // env.num_envs)
    memory = EpisodicMemory(capacity=n_steps * env.num_envs)
    task = RANDOM_ACTIONS if epsilon == 1.0 else _POLICY_ACTIONS
    memory.start(n_envs=env.num_envs, gamma=1.0, tasks=(task,))
    zeros = np.zeros(env.num_envs, dtype=np.float32)
    tasks = np.zeros(env.num_envs, dtype=np.int64)
    normalised = unwrap_vec_normalize(env)
    with _rewards_untouched(normalised):
        seen: Any = env.reset()
        for step in range(n_steps):
            raw: Any = seen
            if normalised is not None and normalised.norm_obs:
                raw = normalised.get_original_obs()
            raw = copy.deepcopy(raw)
            actions = _actions(model, env, space, seen, epsilon, generator)
            seen, _, dones, infos = env.step(actions)
            dones = np.asarray(dones, dtype=np.bool_)
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


def _actions(
    model: BaseAlgorithm,
    env: VecEnv,
    space: gym.Space[Any],
    seen: Any,
    epsilon: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """An action for each environment; random ones respect the masks of invalid actions."""
    masks = _action_masks(env)
    if masks is not None:
        drawn = _allowed(space, masks, generator)
    elif isinstance(space, gym.spaces.Discrete):
        drawn = space.start + generator.integers(space.n, size=env.num_envs)
    else:
        drawn = np.stack([np.asarray(space.sample()) for _ in range(env.num_envs)])
    if epsilon == 1.0:
        return drawn
    keywords: dict[str, Any] = {} if masks is None else {"action_masks": masks}
    played, _ = model.predict(seen, deterministic=False, **keywords)
    random = generator.random(env.num_envs) < epsilon
    return np.where(random.reshape(-1, *[1] * (drawn.ndim - 1)), drawn, played)


def _action_masks(env: VecEnv) -> np.ndarray | None:
    """(n_envs, A) bool, where the environments tell which actions are valid."""
    try:
        has_masks = env.has_attr("action_masks")
    except (AttributeError, NotImplementedError):
        return None
    return np.stack(env.env_method("action_masks")) if has_masks else None


def _allowed(space: Any, masks: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Uniformly random valid actions of Discrete and MultiDiscrete spaces."""
    sizes = np.atleast_1d(getattr(space, "nvec", getattr(space, "n", 0))).reshape(-1)
    columns = np.split(masks.reshape(len(masks), -1), np.cumsum(sizes)[:-1], axis=1)
    chances = [np.where(part, generator.random(part.shape), -1.0) for part in columns]
    chosen = np.stack([part.argmax(axis=1) for part in chances], axis=1)
    chosen = chosen + np.atleast_1d(getattr(space, "start", 0))
    shaped: np.ndarray = chosen.reshape(len(masks), *(space.shape or ())).astype(space.dtype)
    return shaped


@contextmanager
def _rewards_untouched(normalised: VecNormalize | None) -> Iterator[None]:
    """Leave the reward statistics of VecNormalize as they are; those of observations go on."""
    if normalised is None:
        yield
        return
    before = copy.deepcopy((normalised.ret_rms, normalised.returns))
    try:
        yield
    finally:
        normalised.ret_rms, normalised.returns = before
        normalised.returns = np.zeros(normalised.num_envs)
