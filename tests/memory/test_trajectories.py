"""Windows of steps over distinct observations, against loops over the memory's rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_distillation.memory import RANDOM_ACTIONS, EpisodicMemory, Memory, Trajectories


def memory_of(paths: list[list[int]], *, tasks: tuple[str, ...] = ("a",)) -> EpisodicMemory:
    """A memory of one environment: each path an episode, its numbers the observations.

    The action of the n-th step is n; the tasks alternate from path to path.
    """
    memory = EpisodicMemory(capacity=1000)
    memory.start(n_envs=1, gamma=0.9, tasks=tasks)
    time = 0
    for number, path in enumerate(paths):
        for i, seen in enumerate(path):
            memory.add(
                observations=np.array([[seen, 1]], dtype=np.uint8),
                actions=np.array([time]),
                rewards=np.zeros(1),
                terminated=np.array([i == len(path) - 1]),
                truncated=np.zeros(1, dtype=bool),
                tasks=np.array([number % len(tasks)]),
                time=time,
            )
            time += 1
    return memory


def seen_by(steps: Trajectories) -> list[int]:
    """The number that each step of `memory_of` shows."""
    assert isinstance(steps.observations, np.ndarray)
    return steps.observations[steps.indices][:, 0].tolist()


def windows_by_loops(steps: Trajectories, k: int, *, changing: bool) -> list[int]:
    found = []
    for start in range(len(steps)):
        window = range(start, start + k + 1)
        if window[-1] >= len(steps) or len({int(steps.episodes[i]) for i in window}) > 1:
            continue
        if not changing or steps.indices[start] != steps.indices[start + 1]:
            found.append(start)
    return found


def assert_equal(one: Trajectories, other: Trajectories) -> None:
    for name in ("indices", "actions", "episodes", "random"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype, name
    np.testing.assert_equal(one.observations, other.observations)


def test_steps_of_a_memory() -> None:
    steps = Trajectories.from_memory(memory_of([[4, 4, 5], [6, 4]]))
    assert seen_by(steps) == [4, 4, 5, 6, 4]
    assert steps.actions.tolist() == [0, 1, 2, 3, 4]
    assert steps.episodes.tolist() == [0, 0, 0, 1, 1]
    assert (len(steps), steps.n_distinct, steps.n_episodes) == (5, 3, 2)
    assert not steps.random.any()


def test_windows_by_hand() -> None:
    """The second step of the first episode changes nothing; no window leaves its episode."""
    steps = Trajectories.from_memory(memory_of([[1, 2, 2, 3], [4, 5], [6, 7, 8]]))
    assert steps.windows(1).tolist() == [0, 2, 4, 6, 7]
    assert steps.windows(1, changing=False).tolist() == [0, 1, 2, 4, 6, 7]
    assert steps.windows(2).tolist() == [0, 6]
    assert steps.windows(2, changing=False).tolist() == [0, 1, 6]
    assert steps.windows(3).tolist() == [0]
    assert steps.windows(4).tolist() == []
    assert steps.windows(99).tolist() == []


@pytest.mark.parametrize("n_steps", [0, -1])
def test_a_window_has_steps(n_steps: int) -> None:
    steps = Trajectories.from_memory(memory_of([[1, 2]]))
    with pytest.raises(ValueError, match=f"n_steps is {n_steps}; it must be 1 or more"):
        steps.windows(n_steps)


PATHS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=5)


@settings(max_examples=30, deadline=None)
@given(paths=PATHS, k=st.integers(1, 5), changing=st.booleans(), data=st.data())
def test_windows_of_any_steps(paths, k, changing, data) -> None:
    """Also where steps are missing: a window has its k + 1 steps, one directly after the other."""
    memory = memory_of(paths)
    rows = memory.rows()
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    steps = Trajectories.from_memory(memory, rows[kept])
    found = steps.windows(k, changing=changing).tolist()
    assert found == windows_by_loops(steps, k, changing=changing)
    wanted, time = [], 0
    for path in paths:
        times = range(time, time + len(path))
        for start in times:
            inside = all(t in times and kept[t] for t in range(start, start + k + 1))
            if inside and not (changing and path[start - time] == path[start + 1 - time]):
                wanted.append(start)
        time += len(path)
    assert steps.actions[found].tolist() == wanted


@settings(max_examples=30, deadline=None)
@given(paths=PATHS, seed=st.integers(0, 99))
def test_the_order_of_the_rows_does_not_matter(paths, seed) -> None:
    memory = memory_of(paths)
    mixed = np.random.default_rng(seed).permutation(memory.rows())
    assert_equal(Trajectories.from_memory(memory, mixed), Trajectories.from_memory(memory))


def test_a_missing_step_parts_an_episode() -> None:
    memory = memory_of([[1, 2, 3, 4, 5]])
    steps = Trajectories.from_memory(memory, np.delete(memory.rows(), 2))
    assert steps.episodes.tolist() == [0, 0, 1, 1]
    assert steps.windows(1).tolist() == [0, 2]
    assert steps.windows(2).tolist() == []
    whole = Trajectories.from_memory(memory)
    assert_equal_steps(whole.of_steps(np.arange(5) != 2), steps)


def assert_equal_steps(one: Trajectories, other: Trajectories) -> None:
    assert seen_by(one) == seen_by(other)
    assert one.episodes.tolist() == other.episodes.tolist()
    assert one.actions.tolist() == other.actions.tolist()


def test_interleaved_environments(filled) -> None:
    """Each step of a window follows the one before in the memory's own episode, dicts included."""
    memory: Memory = filled(n_envs=5, n_steps=40)
    steps = Trajectories.from_memory(memory)
    starts = steps.windows(3, changing=False)
    rows = memory.rows()
    rows = rows[np.lexsort((memory.steps(rows), memory.episodes(rows)))]
    for i in range(4):
        later, inside = memory.later_rows(rows[starts], np.full(len(starts), i))
        assert inside.all()
        np.testing.assert_array_equal(rows[starts + i], later)
        seen = memory.observations(later)
        for key, array in steps.observations.items():
            np.testing.assert_array_equal(array[steps.indices[starts + i]], seen[key])
    n_windows = sum(int(inside) for inside in memory.later_rows(rows, np.full(len(rows), 3))[1])
    assert len(starts) == n_windows


def test_random_steps_are_those_of_the_task_of_random_actions() -> None:
    steps = Trajectories.from_memory(
        memory_of([[1, 2], [3, 4, 5], [6]], tasks=("a", RANDOM_ACTIONS))
    )
    assert steps.random.tolist() == [False, False, True, True, True, False]
    assert seen_by(steps.of_random_actions()) == [3, 4, 5]
    mixed = steps.of_steps(np.array([True] * 6))
    assert_equal(mixed, steps)


def test_others_between_random_steps_part_them() -> None:
    whole = Trajectories.from_memory(memory_of([[1, 2, 3, 4]]))
    mixed = Trajectories(
        observations=whole.observations,
        indices=whole.indices,
        actions=whole.actions,
        episodes=whole.episodes,
        random=np.array([True, False, True, True]),
    )
    found = mixed.of_random_actions()
    assert found.episodes.tolist() == [0, 1, 1]
    assert found.windows(1).tolist() == [1]


def test_parts_by_episode_and_by_number() -> None:
    steps = Trajectories.from_memory(memory_of([[1, 2], [3], [4, 5]]))
    found = steps.of_episodes(np.array([True, False, True]))
    assert seen_by(found) == [1, 2, 4, 5]
    assert found.episodes.tolist() == [0, 0, 1, 1]
    assert seen_by(steps.first(3)) == [1, 2, 3]
    assert_equal(steps.first(99), steps)
    assert len(steps.first(0)) == 0
    assert steps.first(0).windows(1).tolist() == []
    assert steps.first(0).n_episodes == 0


@settings(max_examples=30, deadline=None)
@given(first=PATHS, second=PATHS, k=st.integers(1, 3))
def test_joined_trajectories(first, second, k) -> None:
    """All steps of both; no window from one into the other; equal observations are one."""
    parts = [Trajectories.from_memory(memory_of(paths)) for paths in (first, second)]
    joined = Trajectories.join(parts)
    assert seen_by(joined) == [*seen_by(parts[0]), *seen_by(parts[1])]
    assert joined.n_episodes == parts[0].n_episodes + parts[1].n_episodes
    assert joined.n_distinct == len(set(seen_by(joined)))
    expected = [*parts[0].windows(k), *(parts[1].windows(k) + len(parts[0]))]
    assert joined.windows(k).tolist() == expected


def test_what_cannot_be_joined() -> None:
    steps = Trajectories.from_memory(memory_of([[1, 2]]))
    with pytest.raises(ValueError, match="there are no trajectories to join"):
        Trajectories.join([])
    other = Trajectories.from_tensors({**steps.tensors(), "observations/": np.zeros((2, 3))})
    with pytest.raises(ValueError, match="must match exactly"):
        Trajectories.join([steps, other])


def test_an_empty_memory_has_no_steps() -> None:
    with pytest.raises(ValueError, match="the memory is empty"):
        Trajectories.from_memory(EpisodicMemory(capacity=10))


@pytest.mark.parametrize("kind", ["array", "dict", "long", "empty"])
def test_kept_in_arrays(kind: str, filled) -> None:
    memory = filled(n_steps=250, capacity=1500) if kind == "long" else filled()
    steps = Trajectories.from_memory(memory_of([[1, 2, 2], [3]]) if kind == "array" else memory)
    if kind == "empty":
        steps = steps.first(0)
    tensors = steps.tensors()
    assert_equal(Trajectories.from_tensors(tensors), steps)
    if kind == "long":
        assert tensors["episodes"].nbytes < steps.episodes.nbytes / 2


def changed(**arrays: object) -> dict[str, np.ndarray]:
    tensors = Trajectories.from_memory(memory_of([[1, 2, 2], [3]])).tensors()
    return {**tensors, **{name: np.asarray(array) for name, array in arrays.items()}}


@pytest.mark.parametrize("name", ["indices", "actions", "episodes", "random", "observations/"])
def test_a_missing_array(name: str) -> None:
    tensors = changed()
    del tensors[name]
    with pytest.raises(ValueError, match=f"trajectories lack {name.strip('/')}"):
        Trajectories.from_tensors(tensors)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("indices", [0, 1, 2, 3], "do not fit"),  # only three are distinct
        ("indices", [0, 1, 1, -1], "do not fit"),
        ("indices", [0, 1, 1], "do not fit"),
        ("indices", [[0], [1], [1], [2]], "do not fit"),
        ("indices", [0.0, 1.0, 1.0, np.nan], "indices of trajectories are of dtype float64"),
        ("actions", [0, 1, 2], "do not fit"),
        ("actions", 0, "do not fit"),
        ("actions", ["up"] * 4, "actions of trajectories are of dtype"),
        ("episodes", [0, 0, 0], "do not fit"),
        ("episodes", [1, 1, 1, 2], "not numbered one after the other"),
        ("episodes", [0, 0, 0, 2], "not numbered one after the other"),
        ("episodes", [0, 1, 0, 1], "not numbered one after the other"),
        ("episodes", [0.0, 0.0, 0.0, 1.0], "episodes of trajectories are of dtype float64"),
        ("random", [False] * 3, "do not fit"),
        ("random", np.zeros((4, 2), dtype=bool), "do not fit"),
        ("random", [0, 1, 0, 2], "random of trajectories are of dtype int64"),
        ("observations/", 0, "do not fit"),
        ("observations/other", np.zeros((3, 2)), "do not fit"),
        ("packed", np.frombuffer(b'{"indices": 1}', np.uint8), "'indices' cannot be unpacked"),
        ("packed", np.frombuffer(b"{", np.uint8), "packed cannot be read"),
    ],
)
def test_damaged_arrays(name: str, array: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trajectories.from_tensors(changed(**{name: array}))


def test_parts_of_a_dict_have_one_length(filled) -> None:
    tensors = Trajectories.from_memory(filled()).tensors()
    tensors["observations/direction"] = np.zeros((1, 1), dtype=np.uint8)
    with pytest.raises(ValueError, match="do not fit"):
        Trajectories.from_tensors(tensors)
