"""The memories: they differ in what they forget."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .base import Memory


class EpisodicMemory(Memory):
    """Remembers whole episodes: the latest, or those that `keep` chooses.

    Example:
        >>> memory = EpisodicMemory(capacity=50_000)
        >>> memory.start(n_envs=64, gamma=0.99, tasks=["MiniGrid-DoorKey-5x5-v0"])
        >>> memory.add(observations=..., actions=..., ...)     # once per step
        >>> batch = memory.sample(256, np.random.default_rng(0))
    """

    kind = "episodic"
    keeps_episodes_whole = True


class ReplayMemory(Memory):
    """Remembers the latest rows, first in first out; else as `EpisodicMemory`."""

    kind = "replay"
    keeps_episodes_whole = False


MEMORIES: Mapping[str, type[Memory]] = MappingProxyType(
    {memory.kind: memory for memory in (EpisodicMemory, ReplayMemory)}
)
"""The memories by name."""
