"""Play complete episodes of a policy.

All episodes of a round start together and are played to their end; each environment plays one.
Counting the first episodes to finish would favour short ones.
"""

import abc
import contextlib
import functools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
    quiet,
    stack_observations,
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


class _Stage(abc.ABC):
    """E environments of one id, each of which plays one episode."""

    backend: str

    def __init__(self, env_id: str) -> None:
        self.env_id = env_id
        self._longest = get_task(env_id).max_episode_steps or UNKNOWN_LENGTH

    def start(self, seed: int, n_episodes: int) -> None:
        """Start a round of episodes."""
        self.observations = self.reset(seed, n_episodes)
        self.going: NDArray[np.intp] = np.arange(n_episodes)
        self.returns = np.zeros(n_episodes)
        self.lengths = np.zeros(n_episodes, np.int64)

    def go_on(self, actions: NDArray[Any]) -> None:
        """Step the unfinished episodes, given their actions."""
        observations, rewards, dones = self.step(actions)
        self.returns[self.going] += rewards
        self.lengths[self.going] += 1
        dones = dones | (self.lengths[self.going] >= self._longest)
        self.going = self.going[~dones]
        self.observations = take(observations, np.flatnonzero(~dones))

    @abc.abstractmethod
    def reset(self, seed: int, n_episodes: int) -> Observations:
        """Reset E environments."""

    @abc.abstractmethod
    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observations, NDArray[np.float32], NDArray[np.bool_]]:
        """Step the environments of unfinished episodes: observations, rewards, dones."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the environments."""


class PythonStage(_Stage):
    """Single Gymnasium environments, stepped one after the other; finished ones are not stepped."""

    backend = "gymnasium"

    def __init__(
        self, env_id: str, *, observation: str, mission: bool, render_mode: str | None = None
    ) -> None:
        super().__init__(env_id)
        self._make = functools.partial(
            make_env, env_id, observation=observation, mission=mission, render_mode=render_mode
        )
        self.envs: list[gym.Env[Any, Any]] = [self._make()]
        self._space = self.envs[0].observation_space
        self._discrete = isinstance(self.envs[0].action_space, gym.spaces.Discrete)

    def reset(self, seed: int, n_episodes: int) -> Observations:
        self.envs += [self._make() for _ in range(n_episodes - len(self.envs))]
        first = []
        for i in range(n_episodes):
            with track_step(self.env_id, i), quiet(self.env_id):
                first.append(self.envs[i].reset(seed=seed + i)[0])
        observations = stack_observations(self._space, first)
        self._n_steps = 0
        self._check_numbers(observations)
        return observations

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observations, NDArray[np.float32], NDArray[np.bool_]]:
        steps = []
        for i, action in zip(self.going, actions, strict=True):
            with track_step(self.env_id, int(i)):
                steps.append(self.envs[i].step(int(action) if self._discrete else action))
        rewards = np.array([step[1] for step in steps], np.float32)
        dones = np.array([step[2] or step[3] for step in steps], np.bool_)
        observations = stack_observations(self._space, [step[0] for step in steps])
        self._n_steps += 1
        self._check_numbers(observations, rewards)
        return observations, rewards, dones

    def _check_numbers(
        self, observations: Observations, rewards: NDArray[np.float32] | None = None
    ) -> None:
        """Raise BadNumberError for NaN and infinity."""
        named = observations if isinstance(observations, dict) else {"observation": observations}
        checked = named if rewards is None else {"reward": rewards, **named}
        for key, values in checked.items():
            if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
                row = int(np.argwhere(~np.isfinite(values))[0][0])
                index = row if rewards is None else int(self.going[row])
                raise BadNumberError(
                    env_id=self.env_id, env_index=index, step=self._n_steps, key=key
                )

    def close(self) -> None:
        for env in self.envs:
            env.close()


class _PoolStage(_Stage):
    """A vectorised environment, which steps as a whole; steps of finished episodes are ignored."""

    def __init__(self, env_id: str, make: Callable[[int], TaskVecEnv]) -> None:
        """Args: make: makes a vectorised environment with the given number of environments."""
        super().__init__(env_id)
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
        self, actions: NDArray[Any]
    ) -> tuple[Observations, NDArray[np.float32], NDArray[np.bool_]]:
        self._actions[self.going] = actions
        observations: Any
        observations, rewards, dones, _ = self._vec.step(self._actions)
        return take(observations, self.going), rewards[self.going], dones[self.going]

    def close(self) -> None:
        self._vec.close()


class Evaluator:
    """Plays rounds of episodes in one or more environments.

    An episode in an environment without a step limit is cut after `UNKNOWN_LENGTH` steps, so that
    every round ends.
    """

    def __init__(
        self, *, env_ids: Sequence[str], backend: str, observation: str, mission: bool
    ) -> None:
        self.env_ids = tuple(env_ids)
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
        for i, stage in enumerate(self._stages):
            number = index * len(self._stages) + i
            stage.start(episode_seed(seed, "evaluate", number), n_episodes)
        while unfinished := [stage for stage in self._stages if len(stage.going)]:
            actions = act(concatenate([stage.observations for stage in unfinished]))
            ends = np.cumsum([len(stage.going) for stage in unfinished])
            for stage, own in zip(unfinished, np.split(actions, ends[:-1]), strict=True):
                stage.go_on(own)
        return [
            Episodes(env_id=s.env_id, backend=s.backend, returns=s.returns, lengths=s.lengths)
            for s in self._stages
        ]

    def close(self) -> None:
        """Close every environment."""
        for stage in self._stages:
            stage.close()


def _make_stage(env_id: str, backend: str, observation: str, mission: bool) -> _Stage:
    def make(n_envs: int) -> TaskVecEnv:
        return make_vec([env_id], n_envs, 0, backend, observation=observation, mission=mission)

    if backend != "gymnasium":
        stage = _PoolStage(env_id, make)
        if stage.backend != "gymnasium":
            return stage
        stage.close()
    return PythonStage(env_id, observation=observation, mission=mission)


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
