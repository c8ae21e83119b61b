"""Eviction policies: which finished episode leaves a full memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, final

import numpy as np

from .names import nearest_names
from .observations import Int64Array

PAGE = 8
"""Rows of a page, the unit in which all but first in, first out gives room to episodes."""


@dataclass(frozen=True)
class FinishedEpisodes:
    """The stored episodes that are over, at least one, in no particular order."""

    numbers: Int64Array
    """(n,): the older, the smaller; counted over all history."""
    lengths: Int64Array
    """(n,): rows stored of it."""
    tasks: Int64Array
    """(n,): task of its first stored row."""
    values: np.ndarray
    """(n,) float64: return-to-go of its first stored row; NaN where that is not known."""

    def __len__(self) -> int:
        return len(self.numbers)


class EvictionPolicy(ABC):
    """Chooses which episode is evicted. Each memory needs its own object: it may keep state.

    Episodes still being written never leave by choice. One that outgrows its environment's equal
    share of the capacity loses its oldest rows.
    """

    name: ClassVar[str]
    rows_per_env: ClassVar[int] = PAGE
    """The least capacity, in rows for each environment: a page. Not for subclasses to change."""

    def admits(self, number: int) -> bool:
        """Whether the episode with this number, which has just finished, may be stored."""
        return True

    @abstractmethod
    def victim(self, episodes: FinishedEpisodes) -> int:
        """Index of the episode to evict; called until there is room."""

    def state(self) -> dict[str, Any]:
        """The state of the policy, for JSON."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state` returned; ValueError if it is not valid."""
        if state:
            raise ValueError(f"keep '{self.name}' remembers nothing, but its state is {state}")


@final
class FifoEviction(EvictionPolicy):
    """First in, first out: the newest episodes.

    A ring does this without pages, and without asking for a victim.
    """

    name = "fifo"
    rows_per_env = 1

    def victim(self, episodes: FinishedEpisodes) -> int:
        return int(episodes.numbers.argmin())


class ReservoirEviction(EvictionPolicy):
    """All history alike: a random sample of every episode ever finished.

    Each episode has a random key, uniform in [0, 1) and independent of all else. The episode
    with the largest key is evicted, and its key becomes the threshold:
    stored are exactly the finished episodes *of the whole history* with a key below it. So the
    chance to be stored is the same for every age, task, return and length. (Only: one so long
    that it does not fit below the threshold lowers it, for all.) Room above the threshold stays
    empty, and an episode above it is gone once it is over: `recent_rows` has few rows but those
    of open episodes.

    Bottom-k sampling; with episodes of one length it is Vitter's reservoir, TOMS 11(1), 1985.
    """

    name = "reservoir"

    def __init__(self, *, seed: int = 0) -> None:
        """
        Args:
            seed: of the keys, in [0, 2^62); the key of an episode is a function of seed and number.
        """
        if not 0 <= seed < 2**62:
            raise ValueError(f"seed is {seed}; it must lie in [0, 2^62)")
        self.seed = int(seed)
        self.threshold = 1.0

    def admits(self, number: int) -> bool:
        return bool(self.keys(np.array([number])) < self.threshold)

    def victim(self, episodes: FinishedEpisodes) -> int:
        keys = self.keys(episodes.numbers)
        last = int(keys.argmax())
        self.threshold = float(keys[last])
        return last

    def keys(self, numbers: Int64Array) -> np.ndarray:
        """(n,) float64 in [0, 1), of the episodes with these numbers.

        The generator SplitMix64 (Steele et al., OOPSLA 2014), which can be entered anywhere: so
        it needs no random state.
        """
        start = _mixed(np.array([self.seed], dtype=np.uint64))
        mixed = numbers.astype(np.uint64)
        mixed *= _GOLDEN
        mixed += start
        keys: np.ndarray = (_mixed(mixed) >> 11) * 2.0**-53
        return keys

    def state(self) -> dict[str, Any]:
        return {"seed": self.seed, "threshold": self.threshold}

    def restore(self, state: Mapping[str, Any]) -> None:
        seed, threshold = state.get("seed"), state.get("threshold")
        if type(seed) is not int or not 0 <= seed < 2**62:
            raise ValueError(f"the reservoir's seed is {seed!r}, not a whole number in [0, 2^62)")
        if type(threshold) is not float or not 0 <= threshold <= 1:
            raise ValueError(f"the reservoir's threshold is {threshold!r}, not a number in [0, 1]")
        self.seed, self.threshold = seed, threshold


class PerTaskEviction(EvictionPolicy):
    """An equal share of the rows for each task; a task with fewer leaves its room to the others.

    The task with the most rows in finished episodes loses the oldest of them. So a task loses one
    only while no other has more rows: never while it has less than the mean.
    """

    name = "per_task"

    def victim(self, episodes: FinishedEpisodes) -> int:
        return _oldest(episodes, _in_largest_task(episodes))


class ValueStratifiedEviction(EvictionPolicy):
    """Failures and successes alike: an equal share for each stratum of returns, per task.

    As `per_task`, and within the task that must give, the returns of the stored episodes from the
    lowest to the highest are cut into strata of equal width. Those whose return is not known are
    a stratum of their own (where a limit of time ends what fails, these are the failures). The
    stratum with the most rows loses its oldest episode.
    """

    name = "value_stratified"

    def __init__(self, *, n_strata: int = 10) -> None:
        """
        Args:
            n_strata: of known returns, >= 1.
        """
        if n_strata < 1:
            raise ValueError(f"n_strata is {n_strata}; it must be 1 or more")
        self.n_strata = int(n_strata)

    def victim(self, episodes: FinishedEpisodes) -> int:
        inside = _in_largest_task(episodes)
        strata = self.strata(episodes.values[inside])
        fullest = np.bincount(strata, weights=episodes.lengths[inside]).argmax()
        return _oldest(episodes, inside[strata == fullest])

    def strata(self, values: np.ndarray) -> Int64Array:
        """Stratum of each of one task's values (n,): 0 the lowest; `n_strata` where it is NaN."""
        low, high = np.fmin.reduce(values), np.fmax.reduce(values)  # of those that are known
        width = (high - low) / self.n_strata or 1.0
        strata = np.minimum((values - low) / width, self.n_strata - 1)
        strata[np.isnan(values)] = self.n_strata
        numbers: Int64Array = strata.astype(np.int64)
        return numbers

    def state(self) -> dict[str, Any]:
        return {"n_strata": self.n_strata}

    def restore(self, state: Mapping[str, Any]) -> None:
        n_strata = state.get("n_strata")
        if type(n_strata) is not int or n_strata < 1:
            raise ValueError(f"n_strata is {n_strata!r}, not a whole number >= 1")
        self.n_strata = n_strata


EVICTIONS: Mapping[str, type[EvictionPolicy]] = MappingProxyType(
    {
        keep.name: keep
        for keep in (FifoEviction, ReservoirEviction, PerTaskEviction, ValueStratifiedEviction)
    }
)
"""The eviction policies by name."""


def make_eviction(keep: str | EvictionPolicy) -> EvictionPolicy:
    """The policy with that name, or the given object; ValueError names the nearest."""
    if isinstance(keep, EvictionPolicy):
        return keep
    if keep not in EVICTIONS:
        raise ValueError(f"unknown keep '{keep}'. {nearest_names(keep, EVICTIONS)}")
    return EVICTIONS[keep]()


def _in_largest_task(episodes: FinishedEpisodes) -> Int64Array:
    """Indexes of those of the task with the most rows; of equal ones, the first."""
    largest = np.bincount(episodes.tasks, weights=episodes.lengths).argmax()
    inside: Int64Array = (episodes.tasks == largest).nonzero()[0]
    return inside


def _oldest(episodes: FinishedEpisodes, inside: Int64Array) -> int:
    return int(inside[episodes.numbers[inside].argmin()])


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(z: np.ndarray) -> np.ndarray:
    """SplitMix64's next output from its state z (n,) uint64, which it overwrites."""
    z += _GOLDEN
    z ^= z >> 30
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> 27
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> 31
    return z
