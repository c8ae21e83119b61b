"""A block: the environments of one task, stepped together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

Observations = NDArray[Any] | dict[str, NDArray[Any]]
"""Observations of N environments: an array (N, …), or one for each key."""


@dataclass(frozen=True, slots=True)
class BlockStep:
    """What one step of a block's N environments gave."""

    observations: Observations
    """What the agent acts on next: for a finished environment, its reset observation."""
    rewards: NDArray[np.float32]
    """(N,)"""
    terminated: NDArray[np.bool_]
    """(N,) the episode ended by itself."""
    truncated: NDArray[np.bool_]
    """(N,) the episode was cut."""
    finished: NDArray[np.intp]
    """(F,) the environments whose episode ended with this step."""
    last_observations: Observations | None
    """The F observations that this step really led to; None if F is 0."""
    infos: Mapping[int, dict[str, Any]] = field(default_factory=dict)
    """What environments said besides, by number; those that said nothing are left out."""


class Block(Protocol):
    """N environments of one id behind one `reset` and one `step`."""

    env_id: str
    backend: str
    n_envs: int
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]

    @property
    def envs(self) -> Sequence[gym.Env[Any, Any]]:
        """The Python environments; empty where there are none (EnvPool)."""

    def seed(self, seeds: Sequence[int]) -> None:
        """Use `seeds`, one for each environment, from the next reset on."""

    def reset(self, options: Sequence[dict[str, Any]]) -> Observations:
        """Start a new episode in every environment."""

    def step(self, actions: NDArray[Any]) -> BlockStep:
        """Take one step in every environment, and reset those that it finished."""

    def replace(self, envs: Sequence[gym.Env[Any, Any]]) -> None:
        """Go on with these Python environments instead."""

    def close(self) -> None:
        """Free what the environments hold."""
