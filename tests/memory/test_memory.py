"""What a memory promises beside the laws: sampling, tasks, errors, cost of nothing."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from contrastive_distillation.memory import EpisodicMemory, ReplayMemory


def add(memory, n_envs=2, time=0, **changed):
    """One step of zeros, but for what is `changed`."""
    step = {
        "observations": np.zeros((n_envs, 3), dtype=np.float32),
        "actions": np.zeros(n_envs, dtype=np.int64),
        "rewards": np.zeros(n_envs, dtype=np.float32),
        "terminated": np.zeros(n_envs, dtype=bool),
        "truncated": np.zeros(n_envs, dtype=bool),
        "tasks": np.zeros(n_envs, dtype=np.int64),
    }
    memory.add(**{**step, **changed}, time=time)


def started(n_envs=2, capacity=20, gamma=0.9, tasks=("a",)):
    memory = EpisodicMemory(capacity=capacity)
    memory.start(n_envs=n_envs, gamma=gamma, tasks=tasks)
    return memory


def test_returns_by_hand():
    memory = started(n_envs=1, gamma=0.5)
    for reward, end in ((1.0, False), (2.0, False), (4.0, True), (8.0, False)):
        add(memory, n_envs=1, rewards=np.array([reward]), terminated=np.array([end]))
    assert memory.returns(memory.rows()).tolist() == [3.0, 4.0, 4.0, 0.0]
    assert memory.return_known(memory.rows()).tolist() == [True, True, True, False]
    assert memory.known_fraction() == 0.75


def test_truncation_leaves_late_returns_unknown():
    memory = started(n_envs=1, gamma=0.1)
    for step in range(4):
        add(memory, n_envs=1, rewards=np.ones(1), truncated=np.array([step == 3]))
    # the tail weighs .1^4, .1^3 (below 1 %), .1^2 and .1 (not below)
    assert memory.return_known(memory.rows()).tolist() == [True, True, False, False]
    np.testing.assert_allclose(memory.returns(memory.rows()), [1.111, 1.11, 0, 0])


@pytest.mark.parametrize("keep", ["fifo", "reservoir"])
def test_returns_of_finished_episodes(keep):
    """Of two environments at once; ended, truncated and cut episodes count, open ones do not."""
    memory = EpisodicMemory(capacity=200, keep=keep)
    memory.start(n_envs=2, gamma=0.9, tasks=["a"])
    ends = {2: (0, "terminated"), 3: (1, "truncated"), 5: (1, "terminated")}  # at step: who, how
    for step in range(8):
        done = {how: np.zeros(2, dtype=bool) for how in ("terminated", "truncated")}
        if step in ends:
            who, how = ends[step]
            done[how][who] = True
        add(memory, rewards=np.array([1.0, 10.0]), **done)
    assert memory.finished_returns(9).tolist() == [3.0, 40.0, 20.0]
    assert memory.finished_returns(2).tolist() == [40.0, 20.0]
    memory.start(n_envs=2, gamma=0.9, tasks=["a"])  # cuts what is open
    assert memory.finished_returns(9).tolist() == [3.0, 40.0, 5.0, 20.0, 20.0]


def test_an_episode_without_its_head_has_no_return():
    memory = ReplayMemory(capacity=8)
    memory.start(n_envs=1, gamma=0.9, tasks=["a"])
    assert memory.finished_returns(9).tolist() == []
    for step in range(12):
        add(memory, n_envs=1, rewards=np.ones(1), terminated=np.array([step in (5, 8, 11)]))
    assert memory.finished_returns(9).tolist() == [3.0, 3.0]


def test_terminated_wins_over_truncated():
    memory = started(n_envs=1)
    add(memory, n_envs=1, terminated=np.array([True]), truncated=np.array([True]))
    assert memory.return_known(memory.rows()).all()


def test_returns_of_the_largest_rewards_are_finite():
    memory = started(n_envs=1, gamma=1.0, capacity=2000)
    for step in range(2000):
        add(memory, n_envs=1, rewards=np.array([9e29]), terminated=np.array([step == 1999]))
    assert np.isfinite(memory.returns(memory.rows())).all()
    assert memory.return_known(memory.rows()).all()


def test_start_cuts_open_episodes_and_maps_tasks():
    memory = started(n_envs=2, tasks=["a", "b"])
    add(memory, tasks=np.array([0, 1]))
    memory.start(n_envs=3, gamma=0.9, tasks=["c", "b"])
    add(memory, n_envs=3, tasks=np.array([0, 1, 1]))
    rows = memory.rows()
    assert memory.tasks == ("a", "b", "c")
    assert memory.task_ids(rows).tolist() == [0, 1, 2, 1, 1]
    assert memory.episodes(rows).tolist() == [0, 1, 2, 3, 4]
    assert not memory.return_known(rows).any()


def test_reading_never_writes(filled):
    memory = filled()
    before = memory.state_tensors(), memory.metadata()
    generator = np.random.default_rng(0)
    batch = memory.sample(50, generator)
    batch.observations["image"][:] = 99
    batch.returns[:] = 99
    memory.info(batch.rows)
    memory.state_tensors()["rewards"][:] = 99
    after = memory.state_tensors(), memory.metadata()
    assert before[1] == after[1]
    for name, array in before[0].items():
        np.testing.assert_array_equal(array, after[0][name])
    with pytest.raises(ValueError, match="read-only"):
        memory.rows()[0] = 3


@pytest.mark.parametrize("ends_at", [0, 2, 3])
def test_a_bad_step_is_named_by_its_step_of_the_episode(ends_at):
    memory = started(n_envs=1)
    for time in range(4):
        add(memory, n_envs=1, time=time, terminated=np.array([time == ends_at]))
    with pytest.raises(ValueError, match=f"step {3 - ends_at} of its episode"):
        add(memory, n_envs=1, time=4, rewards=np.array([np.nan]))


def test_sample_draws_different_rows_and_all_if_too_few(filled):
    memory = filled()
    rows = memory.sample(100, np.random.default_rng(0)).rows
    assert len(np.unique(rows)) == 100
    assert np.isin(rows, memory.rows()).all()
    everything = memory.sample(10_000, np.random.default_rng(0)).rows
    assert sorted(everything) == memory.rows().tolist()
    same = memory.sample(100, np.random.default_rng(0)).rows
    np.testing.assert_array_equal(rows, same)


@pytest.mark.parametrize("n", [1, 5, 20, 30])
def test_sample_is_uniform(filled, n):
    memory = filled(capacity=50, n_steps=40)
    assert 30 < len(memory) < 50  # up to half of them are drawn another way than more
    generator = np.random.default_rng(0)
    drawn = np.concatenate([memory.sample_rows(n, generator) for _ in range(20_000 // n)])
    share = np.bincount(drawn, minlength=50)[memory.rows()] / len(drawn)
    np.testing.assert_allclose(share, 1 / len(memory), rtol=0.25)


def test_pairs_are_sampled_uniformly():
    memory = started(n_envs=1)
    for _ in range(4):
        add(memory, n_envs=1)
    generator = np.random.default_rng(0)
    pairs = [frozenset(memory.sample_rows(2, generator).tolist()) for _ in range(6000)]
    counts = [pairs.count(pair) for pair in set(pairs)]
    assert len(counts) == 6
    assert max(abs(count - 1000) for count in counts) < 120  # four standard deviations


def test_recent_rows(filled, step):
    memory = filled()
    assert memory.recent_rows().tolist() == memory.rows().tolist()
    memory.begin_rollout()
    assert len(memory.recent_rows()) == 0
    assert len(memory.sample(5, np.random.default_rng(0), recent=True)) == 0
    for time in (10_000, 10_001):
        memory.add(**step(np.random.default_rng(time), 6), time=time)
    assert sorted(memory.times(memory.recent_rows())) == [10_000] * 6 + [10_001] * 6
    memory.start(n_envs=6, gamma=0.9, tasks=["a"])
    assert memory.recent_rows().tolist() == memory.rows().tolist()


def test_info_marks_forgotten_rows_invalid(filled):
    memory = filled()
    empty = np.setdiff1d(np.arange(memory.capacity), memory.rows())
    assert len(empty)
    rows = np.array([memory.rows()[0], empty[0]])
    info = memory.info(rows)
    assert info.valid.tolist() == [True, False]
    assert info.rows.tolist() == [rows[0], -1]
    assert info.episodes[1] == -1
    with pytest.raises(IndexError, match=rf"row {empty[0]} is not stored"):
        memory.steps(rows)


def test_dtypes_and_shapes_are_the_agents_own():
    memory = started()
    image = np.full((2, 3, 4), 255, dtype=np.uint8)
    add(memory, observations={"image": image}, actions=np.ones((2, 5), dtype=np.float64))
    batch = memory.batch(memory.rows())
    assert batch.observations["image"].dtype == np.uint8
    np.testing.assert_array_equal(batch.observations["image"], image)
    assert batch.actions.dtype == np.float64
    assert batch.actions.shape == (2, 5)
    assert batch.rewards.dtype == batch.returns.dtype == np.float32


def test_empty_memory():
    memory = EpisodicMemory(capacity=5)
    assert len(memory) == 0
    assert memory.known_fraction() == 0.0
    assert memory.nbytes == 0
    with pytest.raises(ValueError, match="nothing was added yet"):
        memory.sample(3, np.random.default_rng(0))


def test_warns_once_when_an_episode_outgrows_it(caplog):
    memory = started(capacity=6)
    with caplog.at_level(logging.WARNING):
        for _ in range(9):
            add(memory)
        assert len(memory) == 6
    assert len(caplog.records) == 1
    assert "holds 3 steps of each of 2 environments" in caplog.text
    assert len(memory) == 6  # and it is still full
    replay = ReplayMemory(capacity=6)
    replay.start(n_envs=2, gamma=0.9, tasks=["a"])
    caplog.clear()
    for _ in range(9):
        add(replay)
    assert len(replay) == 6
    assert not caplog.records


def test_says_that_floats_hardly_match(caplog):
    with caplog.at_level(logging.INFO):
        memory = started()
        add(memory)
        add(memory)
    assert caplog.text.count("masked by the window") == 1


@pytest.mark.parametrize("capacity", [0, -3])
def test_bad_capacity(capacity):
    with pytest.raises(ValueError, match=f"capacity is {capacity} rows; it must be 1 or more"):
        EpisodicMemory(capacity=capacity)


def test_bad_start():
    memory = EpisodicMemory(capacity=5)
    with pytest.raises(ValueError, match="6 environments cannot write into a memory of 5 rows"):
        memory.start(n_envs=6, gamma=0.9, tasks=["a"])
    with pytest.raises(ValueError, match="gamma is 2"):
        memory.start(n_envs=2, gamma=2, tasks=["a"])
    with pytest.raises(ValueError, match="gamma is nan"):
        memory.start(n_envs=2, gamma=float("nan"), tasks=["a"])
    with pytest.raises(ValueError, match="tasks is empty"):
        memory.start(n_envs=2, gamma=0.9, tasks=[])
    with pytest.raises(ValueError, match="call start"):
        add(memory)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"rewards": np.array([0.0, np.nan])},
            r"reward is nan in b \(environment 1, step 1 of its episode, frame 7\)",
        ),
        (
            {"observations": np.array([[0, 0, 0], [0, -np.inf, 0]], dtype=np.float32)},
            r"observation is -inf in b \(environment 1, step 1",
        ),
        (
            {"rewards": np.array([-1e30, 0.0])},
            r"reward is -1\S* in a \(environment 0, step 1 .*\); expected numbers below 1e\+30",
        ),
        ({"rewards": np.zeros(3)}, r"rewards has shape \(3,\); expected \(2,\)"),
        ({"tasks": np.array([0, 2])}, r"numbers 0 to 2; start\(\) named 2"),
        (
            {"observations": np.zeros((2, 4), dtype=np.float32)},
            r"observation has shape \(2, 4\); expected \(2, 3\)",
        ),
        (
            {"observations": np.zeros((2, 3), dtype=np.uint8)},
            "observation has dtype uint8; the memory began with float32",
        ),
        (
            {"observations": {"x": np.zeros((2, 3), dtype=np.float32)}},
            r"the observation has keys \['x'\]; the memory began with no keys",
        ),
        ({"actions": np.zeros((2, 1), dtype=np.int64)}, r"actions has shape \(2, 1\)"),
        ({"actions": np.array(["a", "b"])}, "a memory keeps arrays of numbers"),
    ],
)
def test_a_bad_step_is_refused_and_changes_nothing(changed, message):
    memory = started(tasks=["a", "b"])
    add(memory, tasks=np.array([0, 1]))
    before = memory.state_tensors()
    with pytest.raises(ValueError, match=message):
        add(memory, time=7, **{"tasks": np.array([0, 1]), **changed})
    for name, array in memory.state_tensors().items():
        np.testing.assert_array_equal(array, before[name])
    add(memory)
    assert memory.steps(memory.rows()).tolist() == [0, 0, 1, 1]
