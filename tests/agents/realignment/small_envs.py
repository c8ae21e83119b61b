"""Environments of vectors that are quick to play, and sensors of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv

Sensor = Callable[[Any], Any]


class Drift(gym.Env[Any, Any]):
    """A point of two coordinates and their speeds, pushed along one of them.

    Args:
        continuous: whether an action is two numbers in place of one of three.
        sensor: what shows the four numbers.
        as_dict: whether position and speed are two keys, in place of one vector.
        reward: of every step.
    """

    def __init__(
        self,
        *,
        continuous: bool = False,
        sensor: Sensor = lambda seen: seen,
        as_dict: bool = False,
        reward: float = 1.0,
    ) -> None:
        self._sensor, self._as_dict, self._reward = sensor, as_dict, reward
        self._state = np.zeros(4)
        self._n_steps = 0
        shown = self._shown()
        self.observation_space = (
            spaces.Dict({key: _box(value) for key, value in shown.items()})
            if isinstance(shown, dict)
            else _box(shown)
        )
        self.action_space = (
            spaces.Box(-1.0, 1.0, (2,)) if continuous else spaces.Discrete(3)
        )  # fmt: skip

    def _shown(self) -> Any:
        shown = np.asarray(self._sensor(self._state), dtype=np.float32)
        half = len(shown) // 2
        return {"place": shown[:half], "speed": shown[half:]} if self._as_dict else shown

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._n_steps = 0
        self._state = self.np_random.normal(size=4) * np.array([1.0, 0.5, 0.3, 0.2])
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        push = np.zeros(2)
        push[: np.size(action)] = np.asarray(action) - (np.size(action) == 1)
        self._state[2:] += 0.1 * push - 0.02 * self._state[2:]
        self._state[:2] += 0.3 * self._state[2:]
        self._n_steps += 1
        return self._shown(), self._reward, False, self._n_steps >= 20, {}

    def action_masks(self) -> NDArray[np.bool_]:
        """Only the first and the last of three actions are valid."""
        return np.array([True, False, True])


def _box(shown: NDArray[np.float32]) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shown.shape, np.float32)


def drifts(n_envs: int = 4, **settings: Any) -> DummyVecEnv:
    """Several of them."""
    return DummyVecEnv([lambda: Drift(**settings)] * n_envs)


def linear(number: int, n_seen: int = 4) -> tuple[Sensor, NDArray[np.float64], NDArray[np.float64]]:
    """A sensor `o ↦ A o + b` of four numbers, and M, c that undo it: `o = M (A o + b) + c`."""
    generator = np.random.default_rng(number)
    matrix = generator.normal(size=(n_seen, 4)) + 2.0 * np.eye(n_seen, 4)
    shift = generator.normal(size=n_seen)
    undo = np.linalg.pinv(matrix)
    return lambda seen: seen @ matrix.T + shift, undo, -undo @ shift


def weights_of(model: BaseAlgorithm) -> dict[str, torch.Tensor]:
    """A copy of all weights and buffers of a model's policy."""
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


def same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts hold the same bits."""
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )
