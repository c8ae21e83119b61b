"""A block: the environments of one task, which are stepped together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

Observations = NDArray[Any] | dict[str, NDArray[Any]]
"""Observations of N environments: an array (N, …), or a dict of them."""


@dataclass(frozen=True, slots=True)
class BlockStep:
    """The results of one step of a block's N environments."""

    observations: Observations
    """The next observations; for a finished environment, the first of its new episode."""
    rewards: NDArray[np.float32]
    """(N,)"""
    terminated: NDArray[np.bool_]
    """(N,) whether the episode reached a terminal state."""
    truncated: NDArray[np.bool_]
    """(N,) whether a time limit cut the episode."""
    finished: NDArray[np.intp]
    """(F,) indices of the environments whose episode ended with this step."""
    last_observations: Observations | None
    """The last observations of the F finished episodes; None if F is 0."""
    infos: Mapping[int, dict[str, Any]] = field(default_factory=dict)
    """The info dicts that are not empty, by environment index."""


class Block(Protocol):
    """N environments of one id behind one `reset` and one `step`."""

    env_id: str
    backend: str
    n_envs: int
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]

    @property
    def envs(self) -> Sequence[gym.Env[Any, Any]]:
        """The Python environments; empty for EnvPool."""

    def seed(self, seeds: Sequence[int]) -> None:
        """Set the seeds, one for each environment, that the next `reset` uses."""

    def reset(self, options: Sequence[dict[str, Any]]) -> Observations:
        """Start a new episode in every environment."""

    def step(self, actions: NDArray[Any]) -> BlockStep:
        """Step every environment, and reset those whose episode ended."""

    def replace(self, envs: Sequence[gym.Env[Any, Any]]) -> None:
        """Replace the Python environments by `envs`, in the middle of their episodes."""

    def close(self) -> None:
        """Close the environments."""
