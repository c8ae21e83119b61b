"""Steps of episodes over distinct observations: for what is learnt from windows of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from .base import Memory
from .observations import (
    Int64Array,
    Observations,
    concatenate,
    hash_observations,
    n_observations,
    named_arrays,
    take,
)
from .packing import pack, unpack

RANDOM_ACTIONS = "random actions"
"""The task under which a memory keeps steps whose actions were drawn uniformly at random."""

_KINDS = {"indices": "iu", "actions": "biuf", "episodes": "iu", "random": "b"}


@dataclass(frozen=True, eq=False)
class Trajectories:
    """N steps of episodes, episode by episode, in which each distinct observation is kept once."""

    observations: Observations
    """(M, ...), or a dict of such: the distinct observations."""
    indices: Int64Array
    """(N,) int64: the observation of each step."""
    actions: np.ndarray
    """(N, ...): the action taken there."""
    episodes: Int64Array
    """(N,) int64: number of the episode; steps of one follow each other without a gap."""
    random: np.ndarray
    """(N,) bool: whether the action was drawn uniformly at random."""

    @classmethod
    def from_memory(cls, memory: Memory, rows: np.ndarray | None = None) -> Self:
        """The steps in a memory.

        Args:
            memory: steps of the task `RANDOM_ACTIONS` count as random.
            rows: (n,) of the memory's rows; None: all. Where a step of an episode is missing, a
                new episode begins.

        Raises:
            ValueError: the memory is empty.
        """
        rows = memory.rows() if rows is None else np.asarray(rows)
        episodes, steps = memory.episodes(rows), memory.steps(rows)
        order = np.lexsort((steps, episodes))
        rows, episodes, steps = rows[order], episodes[order], steps[order]
        begins = np.ones(len(rows), dtype=np.bool_)
        begins[1:] = (np.diff(episodes) != 0) | (np.diff(steps) != 1)
        is_random = np.array([task == RANDOM_ACTIONS for task in memory.tasks], dtype=np.bool_)
        _, first, inverse = np.unique(memory.hashes(rows), return_index=True, return_inverse=True)
        return cls(
            observations=memory.observations(rows[first]),
            indices=inverse.astype(np.int64),
            actions=memory.actions(rows),
            episodes=np.cumsum(begins) - 1,
            random=is_random[memory.task_ids(rows)],
        )

    @classmethod
    def join(cls, parts: Sequence[Trajectories]) -> Self:
        """All steps of several trajectories; their episodes stay apart.

        Raises:
            ValueError: no part, or their observations have other keys or shapes.
        """
        if not parts:
            raise ValueError("there are no trajectories to join")
        observations = concatenate([part.observations for part in parts])
        sizes = np.cumsum([0, *(n_observations(part.observations) for part in parts)])
        places = np.concatenate(
            [part.indices + size for part, size in zip(parts, sizes, strict=False)]
        )
        _, first, inverse = np.unique(
            hash_observations(observations), return_index=True, return_inverse=True
        )
        counts = np.cumsum([0, *(part.n_episodes for part in parts)])
        return cls(
            observations=take(observations, first),
            indices=inverse.astype(np.int64)[places],
            actions=np.concatenate([part.actions for part in parts]),
            episodes=np.concatenate(
                [part.episodes + n for part, n in zip(parts, counts, strict=False)]
            ),
            random=np.concatenate([part.random for part in parts]),
        )

    def __len__(self) -> int:
        """Steps."""
        return len(self.indices)

    @property
    def n_distinct(self) -> int:
        """Distinct observations."""
        return n_observations(self.observations)

    @property
    def n_episodes(self) -> int:
        """Episodes, counting their parts where steps are missing."""
        return int(self.episodes.max(initial=-1)) + 1

    def windows(self, n_steps: int, *, changing: bool = True) -> Int64Array:
        """Starts of the windows of `n_steps` steps and the observation after them.

        Args:
            n_steps: k >= 1; the window at s has the steps s, …, s + k of one episode.
            changing: only those whose first step changes the observation.

        Returns:
            (W,) int64, ascending.
        """
        if n_steps < 1:
            raise ValueError(f"n_steps is {n_steps}; it must be 1 or more")
        n = max(len(self) - n_steps, 0)
        fits = self.episodes[:n] == self.episodes[n_steps:]
        if changing:
            fits &= self.indices[:n] != self.indices[1 : n + 1]
        return np.flatnonzero(fits)

    def of_episodes(self, chosen: np.ndarray) -> Self:
        """The steps of some episodes, with the observations of all.

        Args:
            chosen: (n_episodes,) bool.
        """
        return self.of_steps(chosen[self.episodes])

    def of_random_actions(self) -> Self:
        """The steps with random actions; an episode is parted where others lie between."""
        return self.of_steps(self.random)

    def first(self, n: int) -> Self:
        """The first `n` steps."""
        return self.of_steps(np.arange(len(self)) < n)

    def of_steps(self, chosen: np.ndarray) -> Self:
        """The steps chosen by (N,) bool; where one is left out, a new episode begins."""
        kept = np.flatnonzero(chosen)
        begins = np.ones(len(kept), dtype=np.bool_)
        begins[1:] = (np.diff(kept) != 1) | (np.diff(self.episodes[kept]) != 0)
        return type(self)(
            observations=self.observations,
            indices=self.indices[kept],
            actions=self.actions[kept],
            episodes=np.cumsum(begins) - 1,
            random=self.random[kept],
        )

    def tensors(self) -> dict[str, np.ndarray]:
        """Its arrays, for a file; compressed where that halves them."""
        arrays = {f"observations/{key}": array for key, array in named_arrays(self.observations)}
        arrays |= {"indices": self.indices, "actions": self.actions, "episodes": self.episodes}
        return pack({**arrays, "random": self.random})

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """The trajectories of which these are `tensors()`.

        Raises:
            ValueError: an array is missing, or they do not fit each other.
        """
        arrays = unpack(tensors)
        parts = {
            name.partition("/")[2]: array
            for name, array in arrays.items()
            if name.startswith("observations/")
        }
        missing = [name for name in _KINDS if name not in arrays]
        if missing or not parts:
            raise ValueError(f"trajectories lack {', '.join(missing) or 'observations'}")
        for name, kinds in _KINDS.items():
            if arrays[name].dtype.kind not in kinds:
                raise ValueError(f"the {name} of trajectories are of dtype {arrays[name].dtype}")
        found = cls(
            observations=parts[""] if parts.keys() == {""} else parts,
            indices=arrays["indices"].astype(np.int64),
            actions=arrays["actions"],
            episodes=arrays["episodes"].astype(np.int64),
            random=arrays["random"].astype(np.bool_),
        )
        n = found.indices.size
        vectors = (found.indices, found.episodes, found.random)
        whole = all(vector.shape == (n,) for vector in vectors) and found.actions.shape[:1] == (n,)
        whole = whole and ("" not in parts or len(parts) == 1)
        sizes = {part.shape[:1] for part in parts.values()}
        whole = whole and len(sizes) == 1 and sizes != {()}
        whole = whole and found.indices.min(initial=0) >= 0
        if not whole or found.indices.max(initial=-1) >= found.n_distinct:
            raise ValueError("the arrays of trajectories do not fit each other")
        if n and (found.episodes[0] != 0 or not np.isin(np.diff(found.episodes), (0, 1)).all()):
            raise ValueError("the episodes of trajectories are not numbered one after the other")
        return found
