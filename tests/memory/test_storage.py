"""Memories as files: exact, and checked before use."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from contrastive_distillation.memory import EVICTIONS, EpisodicMemory, Memory, ReplayMemory


def assert_equal(one: Memory, other: Memory) -> None:
    assert one.metadata() == other.metadata()
    ours, theirs = one.state_tensors(), other.state_tensors()
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        assert array.tobytes() == theirs[name].tobytes(), name


@pytest.mark.parametrize(
    ("kind", "keep"), [(ReplayMemory, "fifo"), *((EpisodicMemory, keep) for keep in EVICTIONS)]
)
@pytest.mark.parametrize("n_steps", [0, 3, 200])
def test_saved_and_loaded_it_goes_on_identically(
    tmp_path, filled, step, kind, keep, n_steps
) -> None:
    memory = filled(kind=kind, keep=keep, n_steps=n_steps)
    memory.begin_rollout()
    memory.save(tmp_path / "memory.safetensors")
    loaded = kind.load(tmp_path / "memory.safetensors")
    assert_equal(memory, loaded)
    for time in range(150):
        one_step = step(np.random.default_rng(time), 6, n_tasks=2)
        memory.add(**one_step, time=time)
        loaded.add(**one_step, time=time)
        assert_equal(memory, loaded)
        ours = memory.sample(20, np.random.default_rng(0), recent=True)
        theirs = loaded.sample(20, np.random.default_rng(0), recent=True)
        np.testing.assert_array_equal(ours.rows, theirs.rows)
    assert list(tmp_path.iterdir()) == [tmp_path / "memory.safetensors"]


def test_array_observations_and_float_bits_survive(tmp_path) -> None:
    memory = EpisodicMemory(capacity=10)
    memory.start(n_envs=2, gamma=1 / 3, tasks=["ä"])
    observations = np.random.default_rng(0).normal(size=(2, 3))
    memory.add(
        observations=observations,
        actions=np.zeros((2, 4), dtype=np.float32),
        rewards=np.array([1e-30, -0.0]),
        terminated=np.array([True, False]),
        truncated=np.array([False, False]),
        tasks=np.zeros(2, dtype=int),
        time=1,
    )
    memory.save(tmp_path / "m")
    loaded = EpisodicMemory.load(tmp_path / "m")
    assert_equal(memory, loaded)
    assert loaded.gamma == 1 / 3
    np.testing.assert_array_equal(loaded.observations(loaded.rows()), observations)


def test_a_failed_save_leaves_the_old_file(tmp_path, filled, monkeypatch) -> None:
    path = tmp_path / "memory.safetensors"
    filled().save(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        filled(seed=1).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def one_line(error: pytest.ExceptionInfo[ValueError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("n_bytes", [0, 5, 100, -1, -1000])
def test_truncated_files(tmp_path, filled, n_bytes) -> None:
    path = tmp_path / "memory.safetensors"
    filled().save(path)
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match="damaged") as error:
        EpisodicMemory.load(path)
    assert str(path) in one_line(error)


def test_foreign_files(tmp_path, filled) -> None:
    path = tmp_path / "memory.safetensors"
    path.write_text("hello")
    with pytest.raises(ValueError, match="not a safetensors file"):
        EpisodicMemory.load(path)
    save_file({"weights": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="this is not a memory's file"):
        EpisodicMemory.load(path)
    save_file({"packed": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="this is not a memory's file"):
        EpisodicMemory.load(path)
    save_file({"packed": np.zeros(3)}, path, metadata={**filled().metadata(), "version": "3"})
    with pytest.raises(ValueError, match="version 3 of the format; this program reads 1 and 2"):
        EpisodicMemory.load(path)
    filled(kind=ReplayMemory).save(path)
    with pytest.raises(ValueError, match="a memory of kind 'replay', not 'episodic'"):
        EpisodicMemory.load(path)
    with pytest.raises(FileNotFoundError):
        EpisodicMemory.load(tmp_path / "nothing")


def with_state(metadata: dict[str, str], **changes: object) -> dict[str, str]:
    return {**metadata, "state": json.dumps({**json.loads(metadata["state"]), **changes})}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capacity": 0}, "capacity is 0"),
        ({"capacity": -4}, "capacity is -4, not a whole number"),
        ({"capacity": 2.5}, "capacity is 2.5"),
        ({"n_written": None}, "n_written is None"),
        ({"n_written": 5}, "is not of 5 rows"),
        ({"gamma": 1.5}, r"gamma is 1.5, not in \[0, 1\]"),
        ({"gamma": float("nan")}, "gamma is nan"),
        ({"tasks": "task-0"}, "not a list of names"),
        ({"tasks": ["only one"]}, "tasks that are not there"),
        ({"n_envs": 5}, "open_episodes is not of shape"),
        ({"next_id": 3}, "episode numbers are out of range"),
        ({"keep": 3}, "keep is 3, not a name"),
        ({"keep": "mine"}, "its keep 'mine' is not one of fifo"),
        ({"keep_state": []}, r"keep_state is \[\], not a table"),
        ({"recent_from": 10**9}, "recent_from is above n_written"),
    ],
)
def test_wrong_numbers(filled, changes, message) -> None:
    memory = filled()
    with pytest.raises(ValueError, match=message):
        EpisodicMemory.from_state(memory.state_tensors(), with_state(memory.metadata(), **changes))


def test_wrong_version_or_state(filled) -> None:
    memory = filled()
    tensors, metadata = memory.state_tensors(), memory.metadata()
    with pytest.raises(ValueError, match="version 99 of the format; this program reads 1 and 2"):
        EpisodicMemory.from_state(tensors, {**metadata, "version": "99"})
    for state in ("{", "[]", "[" * 100_000):
        with pytest.raises(ValueError, match="the memory's state"):
            EpisodicMemory.from_state(tensors, {**metadata, "state": state})


def test_older_files_do_not_say_keep(filled) -> None:
    memory = filled()
    state = json.loads(memory.metadata()["state"])
    for name in ("keep", "keep_state"):
        del state[name]
    older = {**memory.metadata(), "state": json.dumps(state)}
    assert_equal(EpisodicMemory.from_state(memory.state_tensors(), older), memory)


def test_older_files_are_not_packed(tmp_path, filled) -> None:
    memory = filled()
    older = {**memory.metadata(), "version": "1"}
    save_file(memory.state_tensors(), tmp_path / "memory.safetensors", metadata=older)
    assert_equal(EpisodicMemory.load(tmp_path / "memory.safetensors"), memory)


def test_a_file_of_repeating_rows_is_small(tmp_path, filled) -> None:
    memory = filled(capacity=10_000, n_steps=2000)
    memory.save(tmp_path / "memory.safetensors")
    n_bytes = sum(array.nbytes for array in memory.state_tensors().values())
    assert (tmp_path / "memory.safetensors").stat().st_size < n_bytes / 2
    packed, metadata = load_file(tmp_path / "memory.safetensors"), memory.metadata()
    save_file({**packed, "packed": packed["packed"][:-1]}, tmp_path / "broken", metadata=metadata)
    with pytest.raises(ValueError, match="packed cannot be read") as error:
        EpisodicMemory.load(tmp_path / "broken")
    assert str(tmp_path / "broken") in one_line(error)


def changed(array: np.ndarray, index: object, value: object) -> np.ndarray:
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("rewards", lambda a: None, "rewards is missing"),
        ("rewards", lambda a: changed(a, 3, np.nan), "rewards has numbers that are not finite"),
        ("returns", lambda a: changed(a, 3, np.inf), "returns has numbers that are not finite"),
        ("rewards", lambda a: a.astype(np.float64), "rewards is of dtype float64"),
        ("hashes", lambda a: a[:-1], "hashes is not of 500 rows"),
        ("actions", lambda a: a[:-1], "actions is not of 500 rows"),
        ("observations/image", lambda a: a[:-1], "observations/image is not of 500 rows"),
        ("task_ids", lambda a: a + 9, "task_ids names tasks that are not there"),
        ("task_map", lambda a: a + 9, "task_map names tasks that are not there"),
        ("episodes/first", lambda a: changed(a, 0, -1), "an episode begins outside the memory"),
        ("episodes/length", lambda a: changed(a, -1, 400), "an episode ends outside the memory"),
        ("episodes/length", lambda a: changed(a, -1, 0), "an episode's length is wrong"),
        ("episodes/length", lambda a: changed(a, 0, a[0] + 1), "two episodes claim one row"),
        ("episodes/ids", lambda a: changed(a, 0, a[1]), "episode numbers are not ascending"),
        ("episodes/first_step", lambda a: a - 99, "first step is below 0"),
        ("episodes/stride", lambda a: a[:-1], "episode fields differ in length"),
        ("episodes/is_open", lambda a: ~a, "the open episodes are not those"),
        ("open_episodes", lambda a: a[::-1].copy(), "does not end with its environment's last row"),
    ],
)
def test_wrong_tensors(filled, name, change, message) -> None:
    memory = filled()
    tensors = memory.state_tensors()
    tensors[name] = change(tensors[name])
    if tensors[name] is None:
        del tensors[name]
    with pytest.raises(ValueError, match=message):
        EpisodicMemory.from_state(tensors, memory.metadata())
