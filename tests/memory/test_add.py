"""What `add` stores, and what it leaves when it fails."""

from __future__ import annotations

import numpy as np
import pytest

from contrastive_distillation.memory import EpisodicMemory, Memory, PerTaskEviction, base


def add(
    memory: Memory, observations: np.ndarray, actions: np.ndarray, *, done: bool = False
) -> None:
    memory.add(
        observations=observations,
        actions=actions,
        rewards=np.zeros(1, np.float32),
        terminated=np.full(1, done),
        truncated=np.zeros(1, np.bool_),
        tasks=np.zeros(1, np.int64),
        time=0,
    )


def test_actions_that_come_as_another_kind_of_whole_number_stay_exact() -> None:
    memory = EpisodicMemory(capacity=1_000)
    memory.start(n_envs=1, gamma=0.99, tasks=["a"])
    for dtype in (np.int64, np.int64, np.uint64, np.int64):
        add(memory, np.zeros((1, 2), np.uint8), np.array([2**53 + 1], dtype))
    assert memory.actions(memory.rows()).tolist() == [2**53 + 1] * 4


def test_equal_observations_of_foreign_byte_order_have_equal_hashes() -> None:
    memory = EpisodicMemory(capacity=1_000)
    memory.start(n_envs=1, gamma=0.99, tasks=["a"])
    for _ in range(5):
        add(memory, np.array([[1.5, 2.0]], ">f4"), np.zeros(1, np.int64))
    assert len(set(memory.hashes(memory.rows()).tolist())) == 1


@pytest.mark.parametrize("failing", ["victim", "hash"])
def test_an_add_that_fails_stores_nothing(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    memory = EpisodicMemory(capacity=64, keep="per_task")
    memory.start(n_envs=1, gamma=0.99, tasks=["a"])
    for step in range(32):  # episodes of 4 steps, of which 8 fill the memory
        add(memory, np.full((1, 2), step, np.uint8), np.zeros(1, np.int64), done=step % 4 == 3)

    def fail(*_: object) -> int:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        if failing == "victim":
            patch.setattr(PerTaskEviction, "victim", fail)
        else:
            patch.setattr(base, "hash_observations", fail)
        with pytest.raises(MemoryError):
            add(memory, np.full((1, 2), 32, np.uint8), np.zeros(1, np.int64))
    assert memory.n_written == 32
    rows = memory.rows()
    seen = memory.observations(rows)
    assert isinstance(seen, np.ndarray)
    assert sorted(seen[:, 0].tolist()) == list(range(32))
    assert memory.return_known(rows).all()
    add(memory, np.full((1, 2), 32, np.uint8), np.zeros(1, np.int64))
    assert memory.n_written == 33
    assert len(memory) == 7 * 4 + 1  # the oldest episode made room
