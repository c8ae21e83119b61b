"""A memory filled the way an agent fills one, from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from contrastive_distillation.memory import (
    EpisodicMemory,
    EvictionPolicy,
    Memory,
    Observations,
    hash_observations,
)


def step_of(
    generator: np.random.Generator, n_envs: int, *, n_tasks: int = 1, p_end: float = 0.1
) -> dict[str, Observations | np.ndarray]:
    """What one step brings: arguments of `Memory.add`, all but the time."""
    return {
        "observations": {
            "image": generator.integers(0, 4, (n_envs, 2, 2), dtype=np.uint8),
            "direction": generator.integers(0, 4, (n_envs, 1), dtype=np.uint8),
        },
        "actions": generator.integers(0, 7, n_envs),
        "rewards": generator.normal(size=n_envs).astype(np.float32),
        "terminated": generator.random(n_envs) < p_end,
        "truncated": generator.random(n_envs) < p_end / 2,
        "tasks": np.arange(n_envs) % n_tasks,
    }


def _assert_same(memory: Memory, naive: Any) -> None:
    """Everything that reads `memory` says what the `NaiveMemory` of test_laws.py does."""
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
    for offset in (1, 3, 11, -1, -10):
        found, inside = memory.later_rows(rows, np.full(len(rows), offset))
        at = [row.episode.rows.index(row) + offset for row in expected]
        is_there = [0 <= i < len(row.episode.rows) for i, row in zip(at, expected, strict=True)]
        np.testing.assert_array_equal(inside, is_there)
        places = [
            row.episode.rows[i].place if there else row.place
            for row, i, there in zip(expected, at, is_there, strict=True)
        ]
        np.testing.assert_array_equal(found, places)
    np.testing.assert_array_equal(batch.has_next, [len(later) >= 1 for later in later_of])
    following = [(later or [row])[0] for row, later in zip(expected, later_of, strict=True)]
    np.testing.assert_array_equal(batch.next_observations, [row.observation for row in following])


@pytest.fixture(scope="session")
def assert_same() -> Callable[[Memory, Any], None]:
    return _assert_same


@pytest.fixture
def step() -> Callable[..., dict[str, Observations | np.ndarray]]:
    return step_of


@pytest.fixture
def filled() -> Callable[..., Memory]:
    def make(
        *,
        kind: type[Memory] = EpisodicMemory,
        keep: str | EvictionPolicy = "fifo",
        capacity: int = 500,
        n_envs: int = 6,
        n_steps: int = 200,
        n_tasks: int = 2,
        p_end: float = 0.1,
        seed: int = 0,
    ) -> Memory:
        generator = np.random.default_rng(seed)
        memory = kind(capacity=capacity, keep=keep)
        memory.start(n_envs=n_envs, gamma=0.9, tasks=[f"task-{i}" for i in range(n_tasks)])
        for time in range(n_steps):
            memory.add(
                **step_of(generator, n_envs, n_tasks=n_tasks, p_end=p_end), time=time * n_envs
            )
        return memory

    return make
