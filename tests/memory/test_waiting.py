"""Steps that wait to be written together are stored as if each had been written at once."""

from __future__ import annotations

import numpy as np
import pytest

from contrastive_distillation.memory import EpisodicMemory, Memory, PerTask, base


@pytest.fixture(params=["read at the end", "read after each step"])
def reads_each(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "read after each step")


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


def test_actions_that_come_as_another_kind_of_whole_number_stay_exact(reads_each: bool) -> None:
    memory = EpisodicMemory(capacity=1_000)
    memory.start(n_envs=1, gamma=0.99, tasks=["a"])
    for dtype in (np.int64, np.int64, np.uint64, np.int64):
        add(memory, np.zeros((1, 2), np.uint8), np.array([2**53 + 1], dtype))
        if reads_each:
            len(memory)
    assert memory.actions(memory.rows()).tolist() == [2**53 + 1] * 4


def test_equal_observations_of_foreign_byte_order_have_equal_hashes(reads_each: bool) -> None:
    memory = EpisodicMemory(capacity=1_000)
    memory.start(n_envs=1, gamma=0.99, tasks=["a"])
    for _ in range(5):
        add(memory, np.array([[1.5, 2.0]], ">f4"), np.zeros(1, np.int64))
        if reads_each:
            len(memory)
    assert len(set(memory.hashes(memory.rows()).tolist())) == 1


def test_a_choice_that_fails_loses_one_step() -> None:
    memory = EpisodicMemory(capacity=64, keep="per_task")
    memory.start(n_envs=1, gamma=0.99, tasks=["a"])
    for step in range(60):  # episodes of 4 steps, of which 8 fill the memory
        add(memory, np.zeros((1, 2), np.uint8), np.zeros(1, np.int64), done=step % 4 == 3)
        if step == 29:
            assert len(memory) == 30

    def failing(*_: object) -> int:
        raise MemoryError("no room to choose")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PerTask, "victim", failing)
        with pytest.raises(MemoryError):
            len(memory)
    assert memory.n_written == 59
    assert len(memory) == 7 * 4 + 3  # the ninth lacks its first step


def test_a_hash_that_fails_leaves_all_steps_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = EpisodicMemory(capacity=64)
    memory.start(n_envs=1, gamma=0.99, tasks=["a"])
    for step in range(12):
        add(memory, np.full((1, 2), step, np.uint8), np.zeros(1, np.int64), done=step % 4 == 3)

    def failing(*_: object) -> np.ndarray:
        raise MemoryError("no room to hash")

    with monkeypatch.context() as patch:
        patch.setattr(base, "hash_observations", failing)
        with pytest.raises(MemoryError):
            len(memory)
    rows = memory.rows()
    seen = memory.observations(rows)
    assert isinstance(seen, np.ndarray)
    assert seen[:, 0].tolist() == list(range(12))
    assert memory.return_known(rows).all()
