"""The memories against one of plain Python lists, driven with the same steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_distillation.memory import MEMORIES, EpisodicMemory, Memory, hash_observations


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
        n, capacity = len(rewards), len(self.places)
        for i in range(n):
            self.make_place((self.n_written + i) % capacity)
        for i in range(n):
            episode = self.open[i]
            if episode is None:
                episode = self.open[i] = NaiveEpisode(self.n_episodes)
                self.n_episodes += 1
            serial = self.n_written + i
            row = NaiveRow(
                place=serial % capacity,
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

    def make_place(self, place: int) -> None:
        row = self.places[place]
        if row is None:
            return
        episode = row.episode
        if self.whole and not episode.is_open and not episode.lost_its_head:
            gone = list(episode.rows)
        else:
            gone, episode.lost_its_head = [row], True
        for each in gone:
            episode.rows.remove(each)
            self.places[each.place] = None

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


def assert_same(memory: Memory, naive: NaiveMemory) -> None:
    rows = memory.rows()
    expected = naive.rows()
    assert rows.tolist() == [row.place for row in expected]
    assert len(memory) == len(expected)
    if not expected:
        return
    batch = memory.batch(rows)
    np.testing.assert_array_equal(batch.observations, [row.observation for row in expected])
    np.testing.assert_array_equal(batch.actions, [row.action for row in expected])
    np.testing.assert_array_equal(batch.rewards, [row.reward for row in expected])
    np.testing.assert_array_equal(batch.tasks, [row.task for row in expected])
    np.testing.assert_array_equal(batch.times, [row.time for row in expected])
    np.testing.assert_array_equal(batch.steps, [row.step for row in expected])
    np.testing.assert_array_equal(batch.episodes, [row.episode.number for row in expected])
    np.testing.assert_array_equal(batch.hashes, hash_observations(batch.observations))
    known = [row.return_to_go is not None for row in expected]
    np.testing.assert_array_equal(batch.return_known, known)
    np.testing.assert_allclose(
        batch.returns, [row.return_to_go or 0.0 for row in expected], rtol=1e-6, atol=1e-6
    )
    assert memory.known_fraction() == pytest.approx(np.mean(known))

    later_of = [row.episode.rows[row.episode.rows.index(row) + 1 :] for row in expected]
    np.testing.assert_array_equal(memory.remaining(rows), [len(later) for later in later_of])
    for offset in (1, 3):
        found, inside = memory.later_rows(rows, np.full(len(rows), offset))
        np.testing.assert_array_equal(inside, [len(later) >= offset for later in later_of])
        there = [
            later[offset - 1].place if len(later) >= offset else row.place
            for row, later in zip(expected, later_of, strict=True)
        ]
        np.testing.assert_array_equal(found, there)
    np.testing.assert_array_equal(batch.has_next, [len(later) >= 1 for later in later_of])
    following = [(later or [row])[0] for row, later in zip(expected, later_of, strict=True)]
    np.testing.assert_array_equal(batch.next_observations, [row.observation for row in following])


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
@settings(max_examples=60, deadline=None)
@given(capacity=st.integers(1, 40), runs=RUNS, seed=st.integers(0, 2**32 - 1))
def test_remembers_and_forgets_as_the_naive_one(
    kind: str, capacity: int, runs: list[tuple[int, float, int, float]], seed: int
) -> None:
    """Rings that wrap amid a step and amid an episode, n_envs that do not divide the capacity,
    episodes longer than the ring, runs with other n_envs; saved and restored at every step."""
    generator = np.random.default_rng(seed)
    memory: Memory = MEMORIES[kind](capacity=capacity)
    naive = NaiveMemory(capacity, whole=kind == "episodic")
    time = 0
    for n_envs, gamma, n_steps, p_end in runs:
        n_envs = min(n_envs, capacity)
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
            memory.add(
                observations=observations,
                actions=actions,
                rewards=rewards,
                terminated=terminated,
                truncated=truncated,
                tasks=tasks,
                time=time,
            )
            naive.add(observations, actions, rewards, terminated, truncated, tasks, time)
            time += n_envs
            assert_same(memory, naive)
            recent = [row.place for row in naive.rows() if row.serial >= recent_from]
            assert memory.recent_rows().tolist() == recent
            # Restoring checks every invariant of the state, and must change nothing.
            memory = type(memory).from_state(memory.state_tensors(), memory.metadata())


@settings(max_examples=40, deadline=None)
@given(capacity=st.integers(4, 60), n_envs=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_closed_episodes_are_whole_or_gone(capacity: int, n_envs: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    memory = EpisodicMemory(capacity=capacity)
    memory.start(n_envs=n_envs, gamma=0.9, tasks=["a"])
    longest = capacity // n_envs  # such episodes fit, so none loses its head
    lengths: dict[int, int] = {}  # of all episodes ever, by number
    numbers, steps = np.arange(n_envs), np.zeros(n_envs, dtype=int)
    n_begun = n_envs
    for time in range(3 * capacity):
        done = (generator.random(n_envs) < 0.3) | (steps + 1 >= longest)
        memory.add(
            observations=generator.integers(0, 9, (n_envs, 1), dtype=np.uint8),
            actions=np.zeros(n_envs),
            rewards=np.ones(n_envs),
            terminated=done,
            truncated=np.zeros(n_envs, dtype=bool),
            tasks=np.zeros(n_envs, dtype=int),
            time=time,
        )
        steps += 1
        for env in range(n_envs):
            lengths[int(numbers[env])] = int(steps[env])
        stored, n_rows = np.unique(memory.episodes(memory.rows()), return_counts=True)
        assert {int(n): lengths[int(n)] for n in stored} == dict(
            zip(stored.tolist(), n_rows.tolist(), strict=True)
        )
        for env in np.flatnonzero(done):
            numbers[env], steps[env] = n_begun, 0
            n_begun += 1
