"""Files of memories: safetensors, checked before use, never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .eviction import EVICTIONS, EvictionPolicy, make_eviction
from .packing import pack, unpack

FORMAT = "contrastive_distillation.memory"
VERSION = "2"
_READABLE = ("1", VERSION)  # nothing is packed in version 1

_NUMBERS = ("capacity", "n_envs", "n_written", "recent_from", "next_id")


@dataclass(frozen=True)
class MemoryState:
    """The numbers and names of a memory; its arrays are stored beside them."""

    capacity: int
    n_envs: int
    n_written: int
    recent_from: int
    """Serial of the first recent row."""
    next_id: int
    """Number of the next episode."""
    gamma: float
    tasks: tuple[str, ...]
    keep: str
    keep_state: Mapping[str, Any]

    def metadata(self, kind: str) -> dict[str, str]:
        """The state as a file's metadata; `kind` is the memory's name in `MEMORIES`."""
        state = json.dumps(asdict(self))
        return {"format": FORMAT, "version": VERSION, "kind": kind, "state": state}

    @classmethod
    def from_metadata(cls, kind: str, metadata: Mapping[str, str]) -> MemoryState:
        """The state that `metadata` gave; ValueError for another kind, version or type."""
        state = _checked_state(kind, metadata)
        name, remembered = state.get("keep", "fifo"), state.get("keep_state", {})
        require(isinstance(name, str), f"keep is {name!r}, not a name")
        require(isinstance(remembered, dict), f"keep_state is {remembered!r}, not a table")
        return cls(
            **{number: state[number] for number in _NUMBERS},
            gamma=float(state["gamma"]),
            tasks=tuple(state["tasks"]),
            keep=name,
            keep_state=remembered,
        )

    def restored_keep(self, keep: EvictionPolicy | None) -> EvictionPolicy:
        """The memory's eviction policy; `keep` is a new object of it, if it has no name."""
        require(
            keep is not None or self.keep in EVICTIONS,
            f"its keep '{self.keep}' is not one of {', '.join(EVICTIONS)}; pass an object of its "
            "class as keep=...",
        )
        keep = make_eviction(self.keep if keep is None else keep)
        require(keep.name == self.keep, f"its keep is '{self.keep}', not '{keep.name}'")
        keep.restore(self.keep_state)
        return keep


def write_file(
    path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write tensors and metadata to a file, whole or not at all.

    Arrays that compress to half their size or less are packed; see `packing`.
    """
    packed = pack(tensors)
    replace_file(Path(path), lambda part: save_file(packed, part, metadata=dict(metadata)))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Replace a file by what `write` writes; a reader sees the old file or the new one.

    Args:
        path: the file.
        write: writes a file at the path that it receives, which is in the same directory.
    """
    part = path.with_name(f"{path.stem}.writing{path.suffix}")
    try:
        write(part)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_file(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read tensors and metadata; ValueError if the file is damaged or not a memory's."""
    try:
        with safe_open(str(path), framework="np") as file:
            names = list(file.keys())
            tensors, metadata = {n: file.get_tensor(n) for n in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or is damaged: {error}") from error
    try:
        _check_format(metadata)
        return unpack(tensors), metadata
    except (ValueError, MemoryError) as error:
        raise ValueError(f"{path}: {error}") from error


def _check_format(metadata: Mapping[str, str]) -> None:
    require(metadata.get("format") == FORMAT, "this is not a memory's file")
    version = metadata.get("version")
    require(
        version in _READABLE,
        f"version {version} of the format; this program reads {' and '.join(_READABLE)}",
    )


def _checked_state(kind: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The table under "state", with values of the right types and in range."""
    _check_format(metadata)
    found = metadata.get("kind")
    require(found == kind, f"it holds a memory of kind '{found}', not '{kind}'")
    try:
        state: dict[str, Any] = json.loads(metadata.get("state", ""))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the memory's state cannot be read: {error}") from error
    require(isinstance(state, dict), "the memory's state is not a table")
    for name in _NUMBERS:
        value = state.get(name)
        whole = type(value) is int and 0 <= value < 2**62
        require(whole, f"{name} is {value!r}, not a whole number >= 0")
    gamma, tasks = state.get("gamma"), state.get("tasks")
    in_range = isinstance(gamma, int | float) and 0 <= gamma <= 1
    require(in_range, f"gamma is {gamma!r}, not in [0, 1]")
    require(
        isinstance(tasks, list) and all(isinstance(task, str) for task in tasks),
        f"tasks is {tasks!r}, not a list of names",
    )
    require(state["capacity"] >= 1, "capacity is 0")
    require(state["n_envs"] <= state["capacity"], "n_envs is above capacity")
    require(state["recent_from"] <= state["n_written"], "recent_from is above n_written")
    return state


def tensor_of(
    tensors: Mapping[str, np.ndarray], name: str, dtype: type[np.generic] | None = None
) -> np.ndarray:
    """The array called `name`, of one axis where `dtype` is given; ValueError if it is missing."""
    require(name in tensors, f"{name} is missing")
    array = tensors[name]
    require(
        dtype is None or (array.dtype == dtype and array.ndim == 1),
        f"{name} is of dtype {array.dtype} and shape {array.shape}, not {dtype} and one axis",
    )
    return array


def within(numbers: np.ndarray, low: int, high: int) -> bool:
    """Whether all numbers are in [low, high)."""
    return bool(((numbers >= low) & (numbers < high)).all())


def require(holds: bool, message: str) -> None:
    """ValueError with this message unless `holds`."""
    if not holds:
        raise ValueError(message)
