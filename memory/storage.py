"""Memories as files: safetensors, checked before use, never pickle."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .episode_table import FIELDS, NONE
from .keep import KEEPS, Keep, make_keep
from .packing import pack, unpack
from .row_store import COLUMNS

if TYPE_CHECKING:
    from .base import Memory

FORMAT = "contrastive_distillation.memory"
VERSION = "2"
_READABLE = ("1", VERSION)  # of the first, nothing is packed

_NUMBERS = ("capacity", "n_envs", "n_written", "recent_from", "next_id")


def tensors_of(memory: Memory) -> dict[str, np.ndarray]:
    """The written part of every column, the stored episodes, and which of them are open."""
    n_rows = memory._places.end
    columns = {name: array[:n_rows].copy() for name, array in memory._store.arrays().items()}
    empty = memory._slots[:n_rows] == NONE
    for array in columns.values():
        array[empty] = 0  # what was there is forgotten
    episodes = memory._episodes
    slots = episodes.alive()
    table = {f"episodes/{name}": getattr(episodes, name)[slots] for name in FIELDS}
    is_open = memory._open_slots != NONE
    table["open_episodes"] = np.where(is_open, episodes.ids[memory._open_slots], NONE)
    table["task_map"] = memory._task_map.copy()
    return {**columns, **table, **memory._places.tensors()}


def metadata_of(memory: Memory) -> dict[str, str]:
    """What is no array, as text."""
    state = {
        "capacity": memory.capacity,
        "n_envs": memory.n_envs,
        "n_written": memory._places.n_written,
        "recent_from": memory._recent_from,
        "next_id": memory._episodes.next_id,
        "gamma": memory.gamma,
        "tasks": memory.tasks,
        "keep": memory.keep.name,
        "keep_state": memory.keep.state(),
    }
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": memory.kind,
        "state": json.dumps(state),
    }


def checked_settings(kind: str, metadata: Mapping[str, str], keep: Keep | None) -> tuple[int, Keep]:
    """Capacity and keep, of a state that is a memory of this kind and version.

    Where `keep` is given it must be of the state's name, and takes up what that remembered.
    """
    state = _checked_state(kind, metadata)
    name, remembered = state.get("keep", "fifo"), state.get("keep_state", {})
    _require(isinstance(name, str), f"keep is {name!r}, not a name")
    _require(isinstance(remembered, dict), f"keep_state is {remembered!r}, not a table")
    _require(
        keep is not None or name in KEEPS,
        f"its keep '{name}' is none of {', '.join(KEEPS)}; give an object of it: keep=...",
    )
    keep = make_keep(name if keep is None else keep)
    _require(keep.name == name, f"its keep is '{name}', not '{keep.name}'")
    keep.restore(remembered)
    return int(state["capacity"]), keep


def restore(memory: Memory, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Fills a fresh memory of the right capacity; ValueError if the state contradicts itself."""
    state = _checked_state(memory.kind, metadata)
    memory.n_envs, memory.gamma = state["n_envs"], float(state["gamma"])
    memory.tasks = tuple(state["tasks"])
    memory._places.n_written, memory._recent_from = state["n_written"], state["recent_from"]
    _restore_columns(memory, tensors)
    _restore_episodes(memory, tensors, state["next_id"])
    task_map = _tensor(tensors, "task_map", np.int64)
    _require(_within(task_map, 0, len(memory.tasks)), "task_map names tasks that are not there")
    memory._task_map = task_map.copy()
    rows = memory.rows()
    if len(rows):
        _require(
            _within(memory.task_ids(rows), 0, len(memory.tasks)),
            "task_ids names tasks that are not there",
        )


def _restore_columns(memory: Memory, tensors: Mapping[str, np.ndarray]) -> None:
    n_rows = memory._places.saved_rows(tensors)
    seen = {name: array for name, array in tensors.items() if name.split("/")[0] == "observations"}
    if n_rows == 0 and not seen:
        return
    _require(bool(seen), "it has rows but no observations")
    _require(len(seen) == 1 or "observations" not in seen, "observations are array and dict both")
    given = {**seen, "actions": _tensor(tensors, "actions")}
    given |= {name: _tensor(tensors, name, dtype) for name, dtype in COLUMNS.items()}
    filled = {}
    for name, array in given.items():
        _require(array.ndim >= 1 and len(array) == n_rows, f"{name} is not of {n_rows} rows")
        _require(array.dtype.kind in "biuf", f"{name} is of dtype {array.dtype}")
        _require(
            array.dtype.kind != "f" or bool(np.isfinite(array).all()),
            f"{name} has numbers that are not finite",
        )
        filled[name] = np.zeros((memory.capacity, *array.shape[1:]), dtype=array.dtype)
        filled[name][:n_rows] = array
    if "observations" in seen:
        memory._store.observations = filled["observations"]
    else:
        memory._store.observations = {name.split("/", 1)[1]: filled[name] for name in seen}
    memory._store.columns = {name: filled[name] for name in ("actions", *COLUMNS)}


def _restore_episodes(memory: Memory, tensors: Mapping[str, np.ndarray], next_id: int) -> None:
    table = memory._episodes
    saved = {
        name: _tensor(tensors, f"episodes/{name}", getattr(table, name).dtype.type)
        for name in FIELDS
    }
    n = len(saved["ids"])
    _require(all(a.shape == (n,) for a in saved.values()), "episode fields differ in length")
    _require(n <= table.n_slots, f"{n} episodes cannot lie in {memory.capacity} rows")
    _require(_within(saved["ids"], 0, next_id), "episode numbers are out of range")
    _require(bool((np.diff(saved["ids"]) > 0).all()), "episode numbers are not ascending")
    oldest, n_written = memory._places.oldest, memory._places.n_written
    where = type(memory._places).__name__.lower()
    _require(_within(saved["first"], oldest, n_written), f"an episode begins outside the {where}")
    _require(_within(saved["stride"], 1, memory.capacity + 1), "an episode's stride is wrong")
    _require(_within(saved["length"], 1, memory.capacity + 1), "an episode's length is wrong")
    _require(bool((saved["first_step"] >= 0).all()), "an episode's first step is below 0")
    last = saved["first"] + saved["stride"] * (saved["length"] - 1)
    _require(_within(last, oldest, n_written), f"an episode ends outside the {where}")
    slots = table.open(saved["first"], stride=1)
    for name in FIELDS:
        getattr(table, name)[slots] = saved[name]
    table.next_id, table.n_rows = next_id, int(saved["length"].sum())
    memory._places.restore(slots, tensors, memory._store.columns)
    _restore_open(memory, tensors, slots)


def _restore_open(memory: Memory, tensors: Mapping[str, np.ndarray], slots: np.ndarray) -> None:
    """Which episode each environment is in: the row it writes next must continue it."""
    table, n_envs, n_written = memory._episodes, memory.n_envs, memory._places.n_written
    open_ids = _tensor(tensors, "open_episodes", np.int64)
    _require(open_ids.shape == (n_envs,), f"open_episodes is not of shape ({n_envs},)")
    envs = np.flatnonzero(open_ids != NONE)
    of_envs = slots[np.isin(table.ids[slots], open_ids)]
    _require(
        sorted(open_ids[envs].tolist()) == table.ids[slots[table.is_open[slots]]].tolist(),
        "the open episodes are not those of the environments",
    )
    of_envs = of_envs[np.searchsorted(table.ids[of_envs], open_ids[envs])]
    following = table.first[of_envs] + table.stride[of_envs] * table.length[of_envs]
    _require(
        bool((table.stride[of_envs] == n_envs).all())
        and bool((following == n_written + envs).all()),
        "an open episode does not end with its environment's last row",
    )
    memory._open_slots = np.full(n_envs, NONE, dtype=np.int64)
    memory._open_slots[envs] = of_envs


def write_file(
    path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes beside `path` first and then moves there, so that no half file is ever found.

    Arrays that compress to half or less are packed; see `packing`.
    """
    path = Path(path)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(descriptor)
    try:
        save_file(pack(tensors), temporary, metadata=dict(metadata))
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_file(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata; ValueError for what is no memory's file, or one cut short."""
    try:
        with safe_open(str(path), framework="np") as file:
            names = list(file.keys())
            tensors, metadata = {n: file.get_tensor(n) for n in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file, or a damaged one: {error}") from error
    try:
        _check_format(metadata)
        return unpack(tensors), metadata
    except (ValueError, MemoryError) as error:
        raise ValueError(f"{path}: {error}") from error


def _check_format(metadata: Mapping[str, str]) -> None:
    _require(metadata.get("format") == FORMAT, "this is not a memory's file")
    version = metadata.get("version")
    _require(
        version in _READABLE,
        f"version {version} of the format; this program reads {' and '.join(_READABLE)}",
    )


def _checked_state(kind: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What `metadata_of` put under "state", of the right types and in range."""
    _check_format(metadata)
    found = metadata.get("kind")
    _require(found == kind, f"it holds a memory of kind '{found}', not '{kind}'")
    try:
        state: dict[str, Any] = json.loads(metadata.get("state", ""))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the memory's state cannot be read: {error}") from error
    _require(isinstance(state, dict), "the memory's state is not a table")
    for name in _NUMBERS:
        value = state.get(name)
        whole = type(value) is int and 0 <= value < 2**62
        _require(whole, f"{name} is {value!r}, not a whole number >= 0")
    gamma, tasks = state.get("gamma"), state.get("tasks")
    in_range = isinstance(gamma, int | float) and 0 <= gamma <= 1
    _require(in_range, f"gamma is {gamma!r}, not in [0, 1]")
    _require(
        isinstance(tasks, list) and all(isinstance(task, str) for task in tasks),
        f"tasks is {tasks!r}, not a list of names",
    )
    _require(state["capacity"] >= 1, "capacity is 0")
    _require(state["n_envs"] <= state["capacity"], "n_envs is above capacity")
    _require(state["recent_from"] <= state["n_written"], "recent_from is above n_written")
    return state


def _tensor(
    tensors: Mapping[str, np.ndarray], name: str, dtype: type[np.generic] | None = None
) -> np.ndarray:
    _require(name in tensors, f"{name} is missing")
    array = tensors[name]
    _require(
        dtype is None or (array.dtype == dtype and array.ndim == 1),
        f"{name} is of dtype {array.dtype} and shape {array.shape}, not {dtype} and one axis",
    )
    return array


def _within(numbers: np.ndarray, low: int, high: int) -> bool:
    """All in [low, high)?"""
    return bool(((numbers >= low) & (numbers < high)).all())


def _require(holds: bool, what_is_wrong: str) -> None:
    if not holds:
        raise ValueError(what_is_wrong)
