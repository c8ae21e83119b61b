"""The policy that is evaluated: greedy for DQN, sampled for the other algorithms."""

from collections.abc import Callable, Iterable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy

from contrastive_distillation.memory import Memory, hash_observations, take

Observations = Any
"""An array (N, …), or a dict of arrays."""
Act = Callable[[Observations], NDArray[Any]]
"""From observations (N, …) to actions (N, …)."""

_SMALL_BYTES = 512  # a grid's observation has 148 to 180, a picture 9,408
_MOST_FAMILIAR = 4096


def policy_of(model: BaseAlgorithm, *, seed: int, memory: Memory | None = None) -> Act:
    """The model's policy as a function, valid until its weights change.

    If observations are integers and actions are discrete, each distinct observation passes through
    the network once, because an agent that makes no progress sees the same few observations again
    and again. The policy is the same; its actions are sampled by a generator of its own.

    Args:
        model: a PPO, A2C, DQN or other Stable-Baselines3 model.
        seed: seeds the sampled actions. Without the cache above, actions are sampled by torch's
            global generator: see `own_randomness`.
        memory: the agent's memory. Its most frequent observations, if they are small, pass through
            the network beforehand in one batch.
    """
    greedy = isinstance(model, DQN)
    spaces = model.observation_space
    parts = list(spaces.spaces.values()) if isinstance(spaces, gym.spaces.Dict) else [spaces]
    whole = all(part.dtype is not None and np.issubdtype(part.dtype, np.integer) for part in parts)
    discrete = isinstance(model.action_space, gym.spaces.Discrete)
    if whole and discrete and (greedy or isinstance(model.policy, ActorCriticPolicy)):
        act = _CachedPolicy(model, greedy=greedy, seed=seed)
        if memory is not None and len(memory) and _n_bytes(parts) <= _SMALL_BYTES:
            act.rows_of(_familiar(memory))
        return act
    return lambda observations: model.predict(observations, deterministic=greedy)[0]


def _n_bytes(parts: Iterable[gym.Space[Any]]) -> int:
    """Bytes of one observation, given the spaces of its parts."""
    return sum(int(np.prod(part.shape or ())) * np.dtype(part.dtype).itemsize for part in parts)


def _familiar(memory: Memory) -> Observations:
    """The most frequent distinct observations of a memory; at most `_MOST_FAMILIAR`."""
    rows = memory.rows()
    _, first, counts = np.unique(memory.hashes(rows), return_index=True, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:_MOST_FAMILIAR]
    return memory.observations(rows[first[frequent]])


class _CachedPolicy:
    """Looks up action probabilities, which are computed once for each distinct observation."""

    def __init__(self, model: BaseAlgorithm, *, greedy: bool, seed: int) -> None:
        assert isinstance(model.action_space, gym.spaces.Discrete)
        self._model = model
        model.policy.set_training_mode(False)
        self._greedy = greedy
        self._n_actions = int(model.action_space.n)
        self._generator = np.random.default_rng(seed)
        self._row_of: dict[int, int] = {}
        self._cumulated = np.empty((256, self._n_actions))

    def __call__(self, observations: Observations) -> NDArray[Any]:
        rows = self.rows_of(observations)
        cumulated = self._cumulated[rows]
        drawn = self._generator.random((len(cumulated), 1))
        actions: NDArray[Any] = (cumulated[:, :-1] <= drawn).sum(axis=1)
        return actions

    def rows_of(self, observations: Observations) -> list[int]:
        """Pass new observations through the network; returns the table row of each observation."""
        keys = hash_observations(observations).tolist()
        fresh: dict[int, int] = {}
        for i, key in enumerate(keys):
            if key not in self._row_of:
                fresh.setdefault(key, i)
        if fresh:
            self._add(observations, fresh)
        return [self._row_of[key] for key in keys]

    def _add(self, observations: Observations, fresh: dict[int, int]) -> None:
        rows = np.fromiter(fresh.values(), np.int64)
        probabilities = self._probabilities(take(observations, rows))
        start = len(self._row_of)
        while start + len(rows) > len(self._cumulated):
            self._cumulated = np.concatenate([self._cumulated, np.empty_like(self._cumulated)])
        self._cumulated[start : start + len(rows)] = np.cumsum(probabilities, axis=1)
        self._row_of.update({key: start + i for i, key in enumerate(fresh)})

    def _probabilities(self, observations: Observations) -> NDArray[np.float64]:
        """Probabilities of the actions, (N, A)."""
        policy = self._model.policy
        if self._greedy:
            actions, _ = self._model.predict(observations, deterministic=True)
            one_hot: NDArray[np.float64] = np.eye(self._n_actions)[np.asarray(actions)]
            return one_hot
        tensors, _ = policy.obs_to_tensor(observations)
        with torch.no_grad():
            assert isinstance(policy, ActorCriticPolicy)
            distribution: Any = policy.get_distribution(tensors).distribution
        probabilities: NDArray[np.float64] = distribution.probs.double().cpu().numpy()
        return probabilities
