"""Shuffled returns: a permutation within each task, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from contrastive_distillation.memory import (
    EVICTIONS,
    EpisodicMemory,
    Memory,
    ReplayMemory,
    with_shuffled_returns,
)


@pytest.mark.parametrize("kind", [EpisodicMemory, ReplayMemory])
@pytest.mark.parametrize("keep", EVICTIONS)
def test_returns_are_permuted_within_each_task_and_nothing_else(
    filled: Callable[..., Memory], kind: type[Memory], keep: str
) -> None:
    if kind is ReplayMemory and keep != "fifo":
        pytest.skip("keeps no whole episodes")
    memory = filled(kind=kind, keep=keep, n_tasks=3)
    rows = memory.rows()
    before = memory.batch(rows)
    view = with_shuffled_returns(memory, np.random.default_rng(0))
    assert type(view) is type(memory)
    seen = view.batch(rows)
    for name in vars(before):
        if name not in ("returns", "observations", "next_observations"):
            np.testing.assert_array_equal(getattr(seen, name), getattr(before, name))
    for key in before.observations:
        np.testing.assert_array_equal(seen.observations[key], before.observations[key])
    known = before.return_known
    assert (seen.returns[~known] == before.returns[~known]).all()
    for task in range(3):
        of_task = known & (before.tasks == task)
        assert of_task.sum() > 20
        assert sorted(seen.returns[of_task]) == sorted(before.returns[of_task])
        assert (seen.returns[of_task] != before.returns[of_task]).mean() > 0.8
    np.testing.assert_array_equal(memory.batch(rows).returns, before.returns)


def test_every_draw_is_another_and_the_seed_decides(filled: Callable[..., Memory]) -> None:
    memory = filled()
    rows = memory.rows()
    first, again = (
        with_shuffled_returns(memory, np.random.default_rng(0)).returns(rows) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    generator = np.random.default_rng(0)
    draws = [with_shuffled_returns(memory, generator).returns(rows) for _ in range(2)]
    assert (draws[0] != draws[1]).any()


def test_all_orders_are_equally_likely() -> None:
    memory = EpisodicMemory(capacity=10)
    memory.start(n_envs=1, gamma=0.0, tasks=["a"])
    for step in range(3):
        memory.add(
            observations=np.full((1, 1), step, np.uint8), actions=np.zeros(1, int),
            rewards=np.array([float(step)]), terminated=np.array([step == 2]),
            truncated=np.array([False]), tasks=np.zeros(1, int), time=step,
        )  # fmt: skip
    generator = np.random.default_rng(0)
    counts: dict[tuple[float, ...], int] = {}
    for _ in range(600):
        order = tuple(with_shuffled_returns(memory, generator).returns(memory.rows()).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert all(60 < count < 140 for count in counts.values())


def test_an_empty_memory_has_nothing_to_shuffle() -> None:
    assert len(with_shuffled_returns(EpisodicMemory(capacity=4), np.random.default_rng(0))) == 0


def test_what_comes_later_is_the_memory_s_alone(
    filled: Callable[..., Memory], step: Callable[..., dict[str, Any]]
) -> None:
    memory = filled(n_envs=1, n_tasks=1)
    memory.rows()
    view = with_shuffled_returns(memory, np.random.default_rng(0))
    n_rows = memory.n_written
    for time in range(3):
        memory.add(**step(np.random.default_rng(time), 1), time=1000 + time)
    view.rows()
    assert memory.n_written == n_rows + 3
    assert memory.times(memory.rows()[-3:]).tolist() == [1000, 1001, 1002]
