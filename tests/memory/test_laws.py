"""The memories against one of plain Python lists, driven with the same steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_distillation.memory import (
    MEMORIES,
    EpisodicMemory,
    EvictionPolicy,
    Memory,
    PerTaskEviction,
    ReservoirEviction,
    ValueStratifiedEviction,
)


@dataclass
class NaiveEpisode:
    number: int
    next_step: int = 0
    is_open: bool = True
    lost_its_head: bool = False
    rows: list[NaiveRow] = field(default_factory=list)


@dataclass
class NaiveRow:
    place: int
    episode: NaiveEpisode
    step: int
    observation: np.ndarray
    action: int
    reward: float
    task: int
    time: int
    serial: int
    return_to_go: float | None = None


class NaiveMemory:
    """A list of places, each with a row or None. Says in loops what the real one must do."""

    def __init__(self, capacity: int, whole: bool) -> None:
        self.places: list[NaiveRow | None] = [None] * capacity
        self.whole = whole
        self.open: list[NaiveEpisode | None] = []
        self.n_written = self.n_episodes = 0
        self.gamma = 1.0

    def start(self, n_envs: int, gamma: float) -> None:
        for episode in self.open:
            if episode is not None:
                self.end(episode, terminated=False)
        self.open = [None] * n_envs
        self.gamma = gamma

    def add(self, observations, actions, rewards, terminated, truncated, tasks, time) -> None:
        n = len(rewards)
        places = self.make_places(n)
        for i in range(n):
            episode = self.open[i]
            if episode is None:
                episode = self.open[i] = NaiveEpisode(self.n_episodes)
                self.n_episodes += 1
            serial = self.n_written + i
            row = NaiveRow(
                place=places[i],
                episode=episode,
                step=episode.next_step,
                observation=observations[i].copy(),
                action=actions[i],
                reward=rewards[i],
                task=tasks[i],
                time=time,
                serial=serial,
            )
            episode.next_step += 1
            episode.rows.append(row)
            self.places[row.place] = row
        self.n_written += n
        for i in range(n):
            if terminated[i] or truncated[i]:
                self.end(self.open[i], terminated=terminated[i])
                self.open[i] = None

    def make_places(self, n: int) -> list[int]:
        places = [(self.n_written + i) % len(self.places) for i in range(n)]
        for place in places:
            self.make_place(place)
        return places

    def make_place(self, place: int) -> None:
        row = self.places[place]
        if row is None:
            return
        episode = row.episode
        if self.whole and not episode.is_open and not episode.lost_its_head:
            gone = list(episode.rows)
        else:
            gone, episode.lost_its_head = [row], True
        self.forget(gone)

    def forget(self, gone: list[NaiveRow]) -> None:
        for row in gone:
            row.episode.rows.remove(row)
            self.places[row.place] = None

    def end(self, episode: NaiveEpisode, terminated: bool) -> None:
        episode.is_open = False
        for i, row in enumerate(episode.rows):
            later = episode.rows[i:]
            if terminated or self.gamma ** len(later) < 0.01:
                row.return_to_go = math.fsum(
                    self.gamma**k * float(each.reward) for k, each in enumerate(later)
                )

    def rows(self) -> list[NaiveRow]:
        return [row for row in self.places if row is not None]


class NaivePages(NaiveMemory):
    """PagedBuffer of 8 places; `chooser` says which finished episode leaves."""

    def __init__(self, capacity: int, chooser: Chooser) -> None:
        super().__init__(capacity, whole=True)
        self.chooser = chooser

    def make_places(self, n: int) -> list[int]:
        share = len(self.places) // 8 // n
        starved = [i for i in range(n) if self.open[i] is None or len(self.open[i].rows) % 8 == 0]
        for i in starved:
            if self.open[i] is not None and len(self.open[i].rows) == 8 * share:
                self.forget(self.open[i].rows[:8])
        last = [e.rows[-1].place if e is not None and e.rows else 0 for e in self.open]
        while len(self.free_pages()) < len(starved):
            stored = {row.episode.number: row.episode for row in self.rows()}
            finished = [episode for _, episode in sorted(stored.items()) if not episode.is_open]
            self.forget(self.chooser.victim(finished).rows[:])
        pages = dict(zip(starved, self.free_pages(), strict=False))
        return [8 * pages[i] if i in pages else last[i] + 1 for i in range(n)]

    def free_pages(self) -> list[int]:
        pages = range(len(self.places) // 8)
        return [p for p in pages if all(r is None for r in self.places[8 * p : 8 * p + 8])]

    def end(self, episode: NaiveEpisode, terminated: bool) -> None:
        super().end(episode, terminated)
        if not self.chooser.admits(episode):
            self.forget(episode.rows[:])


class Chooser:
    """What the three choices say, in loops over episodes in the order in which they began."""

    def __init__(self, keep: str, n_strata: int = 0) -> None:
        self.keep, self.n_strata = keep, n_strata
        self.threshold = 1.0

    def admits(self, episode: NaiveEpisode) -> bool:
        return self.keep != "reservoir" or key(episode.number) < self.threshold

    def victim(self, finished: list[NaiveEpisode]) -> NaiveEpisode:
        if self.keep == "reservoir":
            last = max(finished, key=lambda episode: key(episode.number))
            self.threshold = key(last.number)
            return last
        finished = largest(finished, lambda episode: episode.rows[0].task)
        if self.keep == "value_stratified":
            values = [e.rows[0].return_to_go for e in finished]
            known = [float(np.float32(value)) for value in values if value is not None]
            width = (max(known) - min(known)) / self.n_strata if known else 0.0

            def stratum(episode: NaiveEpisode) -> int:
                value = episode.rows[0].return_to_go
                if value is None:
                    return self.n_strata
                place = (float(np.float32(value)) - min(known)) / (width or 1.0)
                return min(int(place), self.n_strata - 1)

            finished = largest(finished, stratum)
        return finished[0]


def largest(finished: list[NaiveEpisode], group: Callable[[NaiveEpisode], int]):
    """The episodes of the group with the most rows; of equal ones, the lowest."""
    groups: dict[int, list[NaiveEpisode]] = {}
    for episode in finished:
        groups.setdefault(group(episode), []).append(episode)
    sizes = {name: sum(len(e.rows) for e in episodes) for name, episodes in groups.items()}
    return groups[min(sizes, key=lambda name: (-sizes[name], name))]


def key(number: int, seed: int = 5) -> float:
    """SplitMix64, as Steele et al. write it: of the seed, then `number` steps on from there."""

    def mixed(z: int) -> int:
        z = (z + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    return (mixed(mixed(seed) + number * 0x9E3779B97F4A7C15) >> 11) / 2**53


Runs = list[tuple[int, float, int, float]]
RUNS = st.lists(
    st.tuples(
        st.integers(1, 9),  # environments, at most the capacity
        st.sampled_from([0.0, 0.5, 0.99, 1.0]),  # gamma
        st.integers(0, 25),  # steps
        st.sampled_from([0.0, 0.02, 0.3, 1.0]),  # chance that an episode ends
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("kind", MEMORIES)
@settings(max_examples=120, deadline=None)
@given(capacity=st.integers(1, 40), runs=RUNS, seed=st.integers(0, 2**32 - 1))
def test_remembers_and_forgets_as_the_naive_one(
    assert_same: Callable[..., None],
    kind: str,
    capacity: int,
    runs: Runs,
    seed: int,
) -> None:
    """Rings that wrap amid a step and amid an episode, n_envs that do not divide the capacity,
    episodes longer than the ring, runs with other n_envs; saved and restored at random steps."""
    naive = NaiveMemory(capacity, whole=kind == "episodic")
    live_and_compare(MEMORIES[kind](capacity=capacity), naive, assert_same, runs, seed)


@pytest.mark.parametrize(
    ("keep", "chooser"),
    [
        (lambda: ReservoirEviction(seed=5), lambda: Chooser("reservoir")),
        (PerTaskEviction, lambda: Chooser("per_task")),
        (lambda: ValueStratifiedEviction(n_strata=3), lambda: Chooser("value_stratified", 3)),
    ],
    ids=["reservoir", "per_task", "value_stratified"],
)
@settings(max_examples=60, deadline=None)
@given(capacity=st.integers(8, 160), runs=RUNS, seed=st.integers(0, 2**32 - 1))
def test_keeps_as_the_naive_one(
    assert_same: Callable[..., None],
    keep: Callable[[], EvictionPolicy],
    chooser: Callable[[], Chooser],
    capacity: int,
    runs: Runs,
    seed: int,
) -> None:
    """Episodes longer than a page, than their share, than the memory; capacities that are no
    multiple of a page; saved and restored at every step, wherever that falls."""
    memory = EpisodicMemory(capacity=capacity, keep=keep())
    live_and_compare(memory, NaivePages(capacity, chooser()), assert_same, runs, seed)


def live_and_compare(
    memory: Memory,
    naive: NaiveMemory,
    assert_same: Callable[..., None],
    runs: Runs,
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    time = 0
    for n_envs, gamma, n_steps, p_end in runs:
        n_envs = min(n_envs, memory.capacity // memory.keep.rows_per_env)
        memory.start(n_envs=n_envs, gamma=gamma, tasks=["a", "b"])
        naive.start(n_envs, gamma)
        assert_same(memory, naive)
        recent_from = 0
        for _ in range(n_steps):
            if generator.random() < 0.2:
                memory.begin_rollout()
                recent_from = naive.n_written
            observations = generator.integers(0, 3, (n_envs, 2), dtype=np.uint8)
            actions = generator.integers(0, 5, n_envs)
            rewards = generator.normal(size=n_envs).astype(np.float32)
            terminated = generator.random(n_envs) < p_end
            truncated = generator.random(n_envs) < p_end
            tasks = generator.integers(0, 2, n_envs)
            naive.add(observations, actions, rewards, terminated, truncated, tasks, time)
            given = {
                "observations": observations.copy(),
                "actions": actions.copy(),
                "rewards": rewards.copy(),
                "terminated": terminated.copy(),
                "truncated": truncated.copy(),
                "tasks": tasks.copy(),
            }
            memory.add(**given, time=time)
            for array in given.values():
                array[:] = 1  # the arrays stay the caller's
            time += n_envs
            assert memory.n_written == naive.n_written
            if generator.random() < 0.5:
                continue
            assert_same(memory, naive)
            recent = [row.place for row in naive.rows() if row.serial >= recent_from]
            assert memory.recent_rows().tolist() == recent
            # Restoring checks every invariant of the state, and must change nothing.
            memory = type(memory).from_state(memory.state_tensors(), memory.metadata())
