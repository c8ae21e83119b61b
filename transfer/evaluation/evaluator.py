"""Play complete episodes of a policy.

All episodes of a round start together and are played to their end; each environment plays one.
Counting the first episodes to finish would favour short ones.
"""

import contextlib
import functools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from contrastive_distillation.envs import (
    BadNumberError,
    TaskVecEnv,
    episode_seed,
    get_task,
    make_env,
    make_vec,
    track_step,
)
from contrastive_distillation.memory import concatenate, take

from .policies import Act, Observations
from .schedule import UNKNOWN_LENGTH


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """The results of a round of episodes in one environment."""

    env_id: str
    backend: str
    returns: NDArray[np.float64]
    """(E,) undiscounted sums of rewards."""
    lengths: NDArray[np.int64]
    """(E,) steps."""


class _Stage(Protocol):
    """E environments of one id; only those with an unfinished episode are stepped."""

    backend: str

    def reset(self, seed: int, n_episodes: int) -> Observations: ...

    def step(
        self, going: NDArray[np.intp], actions: NDArray[Any]
    ) -> tuple[Observations, NDArray[np.float32], NDArray[np.bool_]]: ...

    def close(self) -> None: ...


class _PythonStage:
    """Single Gymnasium environments, stepped one after the other; finished ones are not stepped."""

    backend = "gymnasium"

    def __init__(self, env_id: str, observation: str, mission: bool) -> None:
        self._make = functools.partial(make_env, env_id, observation=observation, mission=mission)
        self._envs: list[gym.Env[Any, Any]] = [self._make()]
        self._discrete = isinstance(self._envs[0].action_space, gym.spaces.Discrete)
        self._env_id = env_id
        self._n_steps = 0

    def reset(self, seed: int, n_episodes: int) -> Observations:
        self._envs += [self._make() for _ in range(n_episodes - len(self._envs))]
        with contextlib.redirect_stdout(None):  # BabyAI prints while it draws a level
            observations = stack([self._envs[i].reset(seed=seed + i)[0] for i in range(n_episodes)])
        self._n_steps = 0
        self._check_numbers(np.arange(n_episodes), observations, None)
        return observations

    def step(
        self, going: NDArray[np.intp], actions: NDArray[Any]
    ) -> tuple[Observations, NDArray[np.float32], NDArray[np.bool_]]:
        steps = []
        for i, action in zip(going, actions, strict=True):
            with track_step(self._env_id, int(i)):
                steps.append(self._envs[i].step(int(action) if self._discrete else action))
        rewards = np.array([step[1] for step in steps], np.float32)
        dones = np.array([step[2] or step[3] for step in steps], np.bool_)
        observations = stack([step[0] for step in steps])
        self._n_steps += 1
        self._check_numbers(going, observations, rewards)
        return observations, rewards, dones

    def _check_numbers(
        self,
        going: NDArray[np.intp],
        observations: Observations,
        rewards: NDArray[np.float32] | None,
    ) -> None:
        """Raise BadNumberError for NaN and infinity."""
        named = observations if isinstance(observations, dict) else {"observation": observations}
        checked = dict(named) if rewards is None else {"reward": rewards, **named}
        for key, values in checked.items():
            if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
                bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
                raise BadNumberError(
                    env_id=self._env_id,
                    env_index=int(going[np.flatnonzero(bad)[0]]),
                    step=self._n_steps,
                    key=key,
                )

    def close(self) -> None:
        for env in self._envs:
            env.close()


class _PoolStage:
    """A vectorised environment, which steps as a whole; steps of finished episodes are ignored."""

    def __init__(self, make: Callable[[int], TaskVecEnv]) -> None:
        """Args: make: makes a vectorised environment with the given number of environments."""
        self._make = make
        self._vec = make(1)
        self.backend = self._vec.backend[0]

    def reset(self, seed: int, n_episodes: int) -> Observations:
        if self._vec.num_envs != n_episodes:
            self._vec.close()
            self._vec = self._make(n_episodes)
        space = self._vec.action_space
        self._actions = np.zeros((n_episodes, *(space.shape or ())), space.dtype)
        self._vec.seed(seed)
        return self._vec.reset()

    def step(
        self, going: NDArray[np.intp], actions: NDArray[Any]
    ) -> tuple[Observations, NDArray[np.float32], NDArray[np.bool_]]:
        self._actions[going] = actions
        observations: Any
        observations, rewards, dones, _ = self._vec.step(self._actions)
        return take(observations, going), rewards[going], dones[going]

    def close(self) -> None:
        self._vec.close()


class Evaluator:
    """Plays rounds of episodes in one or more environments.

    An episode in an environment without a step limit is cut after `UNKNOWN_LENGTH` steps, so that
    every round ends.
    """

    def __init__(
        self,
        *,
        env_ids: Sequence[str],
        backend: str,
        observation: str,
        mission: bool,
    ) -> None:
        self.env_ids = tuple(env_ids)
        self._longest = [get_task(env_id).max_episode_steps or UNKNOWN_LENGTH for env_id in env_ids]
        self._stages = [_make_stage(env_id, backend, observation, mission) for env_id in env_ids]

    def play(self, act: Act, *, n_episodes: int, seed: int, index: int = 0) -> list[Episodes]:
        """Play one round.

        Args:
            act: the policy.
            n_episodes: episodes in each environment. A smaller round plays the first episodes of a
                larger one.
            seed: the run's seed.
            index: number of the round. Each index has its own episodes, disjoint from training's.
        """
        seeds = [
            episode_seed(seed, "evaluate", index * len(self._stages) + i)
            for i in range(len(self._stages))
        ]
        rounds = [
            _Round(stage, s, n_episodes, longest)
            for stage, s, longest in zip(self._stages, seeds, self._longest, strict=True)
        ]
        while open_rounds := [each for each in rounds if len(each.going)]:
            actions = act(concatenate([each.observations for each in open_rounds]))
            ends = np.cumsum([len(each.going) for each in open_rounds])
            for each, own in zip(open_rounds, np.split(actions, ends[:-1]), strict=True):
                each.step(own)
        return [
            Episodes(
                env_id=env_id, backend=each.backend, returns=each.returns, lengths=each.lengths
            )
            for env_id, each in zip(self.env_ids, rounds, strict=True)
        ]

    def close(self) -> None:
        """Close every environment."""
        for stage in self._stages:
            stage.close()


class _Round:
    """One round of episodes on one stage."""

    def __init__(self, stage: _Stage, seed: int, n_episodes: int, longest: int) -> None:
        self._stage = stage
        self._longest = longest
        self.backend = stage.backend
        self.observations = stage.reset(seed, n_episodes)
        self.going: NDArray[np.intp] = np.arange(n_episodes)
        self.returns = np.zeros(n_episodes)
        self.lengths = np.zeros(n_episodes, np.int64)

    def step(self, actions: NDArray[Any]) -> None:
        """Step the unfinished episodes, given their actions."""
        observations, rewards, dones = self._stage.step(self.going, actions)
        self.returns[self.going] += rewards
        self.lengths[self.going] += 1
        dones = dones | (self.lengths[self.going] >= self._longest)
        self.going = self.going[~dones]
        self.observations = take(observations, np.flatnonzero(~dones))


def _make_stage(env_id: str, backend: str, observation: str, mission: bool) -> _Stage:
    def make(n_envs: int) -> TaskVecEnv:
        return make_vec([env_id], n_envs, 0, backend, observation=observation, mission=mission)

    if backend != "gymnasium":
        stage = _PoolStage(make)
        if stage.backend != "gymnasium":
            return stage
        stage.close()
    return _PythonStage(env_id, observation, mission)


@contextlib.contextmanager
def own_randomness(seed: int, device: torch.device | None = None) -> Iterator[int]:
    """Seed the global random generators, and restore their state on exit.

    Yields:
        A seed below 2³², derived from ``seed``.
    """
    seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield seed
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def stack(observations: Sequence[Any]) -> Observations:
    """Stack single observations into a batch (N, …)."""
    if isinstance(observations[0], dict):
        return {key: np.stack([each[key] for each in observations]) for key in observations[0]}
    return np.stack(observations)
