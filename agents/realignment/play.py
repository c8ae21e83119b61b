"""Play in vectorised environments: to gather what is seen, or for the return of episodes."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from ..observation_encoder import forked_generators

_N_EPISODES = 16
_MOST_STEPS = 1_000


class Player:
    """Acts as a model does, or at random; both respect masks of invalid actions.

    It seeds torch's global generators, which the caller forks (`forked_generators`).

    Args:
        model: its policy acts, with its recurrent state.
        env: to act in, from its next reset on.
        epsilon: chance of a uniformly random action.
        seed: of all actions.
        deterministic: whether the policy's actions are those that it prefers; None: only where it
            explores by a chance of its own (DQN).
    """

    def __init__(
        self,
        model: BaseAlgorithm,
        env: VecEnv,
        *,
        epsilon: float,
        seed: int,
        deterministic: bool | None = None,
    ) -> None:
        self._model, self._env, self._epsilon = model, env, epsilon
        explores = hasattr(model, "exploration_rate")
        self._deterministic = explores if deterministic is None else deterministic
        self._generator = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self._space: Any = copy.deepcopy(env.action_space)
        self._space.seed(int(self._generator.integers(2**31)))
        self._takes_masks = "action_masks" in inspect.signature(model.predict).parameters
        self._states: Any = None
        self.starts = np.ones(env.num_envs, dtype=np.bool_)
        """(n_envs,) whether an episode begins; to be set after each step."""

    def act(self, seen: Any) -> np.ndarray:
        """An action for each environment, of what it shows."""
        masks = self._masks()
        drawn = self._random(masks)
        if self._epsilon == 1.0:
            return drawn
        keywords: dict[str, Any] = {}
        if masks is not None and self._takes_masks:
            keywords["action_masks"] = masks
        played, self._states = self._model.predict(
            seen,
            state=self._states,
            episode_start=self.starts,
            deterministic=self._deterministic,
            **keywords,
        )
        random = self._generator.random(self._env.num_envs) < self._epsilon
        return np.where(random.reshape(-1, *[1] * (drawn.ndim - 1)), drawn, played)

    def _random(self, masks: np.ndarray | None) -> np.ndarray:
        space = self._space
        if masks is not None:
            return _allowed(space, masks, self._generator)
        if isinstance(space, gym.spaces.Discrete):
            numbers = self._generator.integers(space.n, size=self._env.num_envs)
            return np.asarray(space.start + numbers)
        return np.stack([np.asarray(space.sample()) for _ in range(self._env.num_envs)])

    def _masks(self) -> np.ndarray | None:
        """(n_envs, A) bool, where the environments tell which actions are valid."""
        if isinstance(self._space, gym.spaces.Box):
            return None
        try:
            has_masks = self._env.has_attr("action_masks")
        except (AttributeError, NotImplementedError):
            return None
        return np.stack(self._env.env_method("action_masks")) if has_masks else None


def _allowed(space: Any, masks: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Uniformly random valid actions of Discrete, MultiDiscrete and MultiBinary spaces."""
    if isinstance(space, gym.spaces.MultiBinary):
        sizes = np.full(int(np.prod(space.shape)), 2)
    else:
        sizes = np.atleast_1d(getattr(space, "nvec", getattr(space, "n", 0))).reshape(-1)
    columns = np.split(masks.reshape(len(masks), -1), np.cumsum(sizes)[:-1], axis=1)
    chances = [np.where(part, generator.random(part.shape), -1.0) for part in columns]
    chosen = np.stack([part.argmax(axis=1) for part in chances], axis=1)
    chosen = chosen + np.atleast_1d(getattr(space, "start", 0))
    shaped: np.ndarray = chosen.reshape(len(masks), *(space.shape or ())).astype(space.dtype)
    return shaped


def mean_return(
    model: BaseAlgorithm, *, seed: int, n_episodes: int = _N_EPISODES
) -> tuple[float, int]:
    """Mean return of complete episodes in the model's environments, and the frames they took.

    Every environment plays as many episodes, all from a reset on; an episode that has not ended
    after 1,000 steps counts with its return so far.
    """
    env = model.get_env()
    assert env is not None
    normalised = model.get_vec_normalize_env()
    wanted = -(-n_episodes // env.num_envs)
    returns: list[float] = []
    total, finished = np.zeros(env.num_envs), np.zeros(env.num_envs, dtype=np.int64)
    length, frames = np.zeros(env.num_envs, dtype=np.int64), 0
    with forked_generators(model.device):
        greedy = isinstance(model, OffPolicyAlgorithm)
        player = Player(model, env, epsilon=0.0, seed=seed, deterministic=greedy)
        seen: Any = env.reset()
        while (finished < wanted).any():
            seen, rewards, dones, _ = env.step(player.act(seen))
            player.starts = np.asarray(dones, dtype=np.bool_)
            frames += env.num_envs
            total += rewards if normalised is None else normalised.get_original_reward()
            length += 1
            for i in np.flatnonzero(player.starts | (length >= _MOST_STEPS)):
                if finished[i] < wanted:
                    returns.append(float(total[i]))
                finished[i] += 1
                total[i], length[i] = 0.0, 0
    return float(np.mean(returns)), frames
