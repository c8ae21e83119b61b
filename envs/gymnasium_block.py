"""A block of Python environments: slow, and the reference for EnvPool's."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from .block import BlockStep, Observations
from .observations import observe
from .registry import make_raw_env
from .running_step import RUNNING_STEP, EnvironmentFailedError, track_step


class GymnasiumBlock:
    """`n_envs` Gymnasium environments of one id, stepped one after the other."""

    backend = "gymnasium"

    def __init__(
        self,
        *,
        env_id: str,
        n_envs: int,
        observation: str,
        mission: bool,
        render_mode: str | None = None,
    ) -> None:
        self.env_id = env_id
        self.n_envs = n_envs
        self.envs: list[gym.Env[Any, Any]] = [
            observe(
                make_raw_env(env_id, render_mode=render_mode),
                env_id,
                observation=observation,
                mission=mission,
            )
            for _ in range(n_envs)
        ]
        self.observation_space = self.envs[0].observation_space
        self.action_space = self.envs[0].action_space
        self._discrete = isinstance(self.action_space, gym.spaces.Discrete)
        self._seeds: list[int | None] = [None] * n_envs

    def seed(self, seeds: Sequence[int]) -> None:
        """Set the seeds, one for each environment, that the next `reset` uses."""
        self._seeds = list(seeds)

    def reset(self, options: Sequence[dict[str, Any]]) -> Observations:
        """Start a new episode in every environment."""
        first = []
        for i, (env, seed, option) in enumerate(zip(self.envs, self._seeds, options, strict=True)):
            with track_step(self.env_id, i), quiet(self.env_id):
                first.append(env.reset(seed=seed, options=option or None)[0])
        self._seeds = [None] * self.n_envs
        return stack_observations(self.observation_space, first)

    def step(self, actions: NDArray[Any]) -> BlockStep:
        """Step every environment, and reset those whose episode ended."""
        rewards = np.zeros(self.n_envs, dtype=np.float32)
        terminated = np.zeros(self.n_envs, dtype=np.bool_)
        truncated = np.zeros(self.n_envs, dtype=np.bool_)
        following, last, infos = [], [], {}
        for i, env in enumerate(self.envs):
            action = int(actions[i]) if self._discrete else actions[i]
            RUNNING_STEP.begin(self.env_id, i)
            try:
                observation, reward, terminated[i], truncated[i], info = env.step(action)
            except Exception as error:
                raise EnvironmentFailedError(
                    env_id=self.env_id, env_index=i, error=error
                ) from error
            finally:
                RUNNING_STEP.end()
            rewards[i] = reward
            if info:
                infos[i] = info
            if terminated[i] or truncated[i]:
                last.append(copy.deepcopy(observation))  # the environment may reuse its array
                with track_step(self.env_id, i), quiet(self.env_id):
                    observation, _ = env.reset()
            following.append(observation)
        return BlockStep(
            observations=stack_observations(self.observation_space, following),
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            finished=np.flatnonzero(terminated | truncated),
            last_observations=stack_observations(self.observation_space, last) if last else None,
            infos=infos,
        )

    def replace(self, envs: Sequence[gym.Env[Any, Any]]) -> None:
        """Close the environments and replace them by `envs`, in the middle of their episodes."""
        self.close()
        self.envs[:] = envs
        self._seeds = [None] * self.n_envs

    def close(self) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()


def stack_observations(space: gym.Space[Any], observations: Sequence[Any]) -> Observations:
    """Stack N observations of a space into arrays (N, …) of its dtypes."""
    if isinstance(space, gym.spaces.Dict):
        return {
            key: np.array([each[key] for each in observations], dtype=part.dtype)
            for key, part in space.spaces.items()
        }
    return np.array(observations, dtype=space.dtype)


@contextlib.contextmanager
def quiet(env_id: str) -> Iterator[None]:
    """Suppress the messages that BabyAI prints while it draws a level ("Sampling rejected: …")."""
    if "BabyAI" not in env_id:
        yield
        return
    with contextlib.redirect_stdout(None):
        yield
