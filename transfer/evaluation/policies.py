"""How a trained model acts when it is judged: DQN greedily, the others as they sample."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy

from contrastive_distillation.memory import Memory

Observations = Any
"""An array (N, …), or a dict of such."""
Act = Callable[[Observations], NDArray[Any]]
"""From observations (N, …) to actions (N, …)."""

_SMALL_BYTES = 512  # a grid's observation has 148 to 180, a picture 9,408
_MOST_FAMILIAR = 4096


def policy_of(model: BaseAlgorithm, *, seed: int, memory: Memory | None = None) -> Act:
    """The model's policy as a function, good until its weights change.

    Where observations are whole numbers and actions discrete, each distinct observation goes
    through the network once: an agent that is lost sees the same few again and again. The
    result is the same policy; actions are then sampled with a generator of its own.

    Args:
        model: a PPO, A2C, DQN or other Stable-Baselines3 model.
        seed: of the sampled actions. Other policies than the above sample from torch's global
            generator: see `own_randomness`.
        memory: what the agent has lived through: small observations that are frequent there go
            through the network beforehand, all at once.
    """
    greedy = isinstance(model, DQN)
    spaces = model.observation_space
    parts = list(spaces.spaces.values()) if isinstance(spaces, gym.spaces.Dict) else [spaces]
    whole = all(part.dtype is not None and np.issubdtype(part.dtype, np.integer) for part in parts)
    discrete = isinstance(model.action_space, gym.spaces.Discrete)
    if whole and discrete and (greedy or isinstance(model.policy, ActorCriticPolicy)):
        act = _RememberingPolicy(model, greedy=greedy, seed=seed)
        if memory is not None and len(memory) and _n_bytes(spaces) <= _SMALL_BYTES:
            act.learn_by_heart(_familiar(memory))
        return act
    return lambda observations: model.predict(observations, deterministic=greedy)[0]


def _n_bytes(space: gym.Space[Any]) -> int:
    """Bytes of one observation."""
    parts = space.spaces.values() if isinstance(space, gym.spaces.Dict) else [space]
    return sum(int(np.prod(part.shape or ())) * np.dtype(part.dtype).itemsize for part in parts)


def _familiar(memory: Memory) -> Observations:
    """The most frequent of a memory's observations, each once; at most `_MOST_FAMILIAR`."""
    rows = memory.rows()
    _, first, counts = np.unique(memory.hashes(rows), return_index=True, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:_MOST_FAMILIAR]
    return memory.observations(rows[first[frequent]])


class _RememberingPolicy:
    """Action probabilities by observation: computed once each, then looked up."""

    def __init__(self, model: BaseAlgorithm, *, greedy: bool, seed: int) -> None:
        assert isinstance(model.action_space, gym.spaces.Discrete)
        self._model = model
        model.policy.set_training_mode(False)
        self._greedy = greedy
        self._n_actions = int(model.action_space.n)
        self._generator = np.random.default_rng(seed)
        self._row_of: dict[bytes, int] = {}
        self._cumulated = np.empty((256, self._n_actions))

    def __call__(self, observations: Observations) -> NDArray[Any]:
        rows = self.learn_by_heart(observations)
        cumulated = self._cumulated[rows]
        drawn = self._generator.random((len(cumulated), 1))
        actions: NDArray[Any] = (cumulated[:, :-1] <= drawn).sum(axis=1)
        return actions

    def learn_by_heart(self, observations: Observations) -> list[int]:
        """Put observations through the network that have not been yet; returns where all stand."""
        keys = _keys(observations)
        fresh: dict[bytes, int] = {}
        for i, key in enumerate(keys):
            if key not in self._row_of:
                fresh.setdefault(key, i)
        if fresh:
            self._add(observations, fresh)
        return [self._row_of[key] for key in keys]

    def _add(self, observations: Observations, fresh: dict[bytes, int]) -> None:
        rows = np.fromiter(fresh.values(), np.int64)
        probabilities = self._probabilities(take_observations(observations, rows))
        start = len(self._row_of)
        while start + len(rows) > len(self._cumulated):
            self._cumulated = np.concatenate([self._cumulated, np.empty_like(self._cumulated)])
        self._cumulated[start : start + len(rows)] = np.cumsum(probabilities, axis=1)
        self._row_of.update({key: start + i for i, key in enumerate(fresh)})

    def _probabilities(self, observations: Observations) -> NDArray[np.float64]:
        """(N, A) probabilities of the actions."""
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


def _keys(observations: Observations) -> list[bytes]:
    """One key for each row: all of its bytes, or a digest where they are many."""
    is_dict = isinstance(observations, dict)
    parts = [observations[key] for key in sorted(observations)] if is_dict else [observations]
    flat = np.concatenate(
        [
            np.ascontiguousarray(part).reshape(len(part), -1).view(np.uint8).reshape(len(part), -1)
            for part in parts
        ],
        axis=1,
    )
    rows = [row.tobytes() for row in flat]
    if flat.shape[1] <= 512:
        return rows
    return [hashlib.blake2b(row, digest_size=16).digest() for row in rows]


def take_observations(observations: Observations, rows: Any) -> Observations:
    """Some rows."""
    if isinstance(observations, dict):
        return {key: values[rows] for key, values in observations.items()}
    return observations[rows]


def join_observations(parts: Sequence[Observations]) -> Observations:
    """One batch after the other."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], dict):
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return np.concatenate(parts)
