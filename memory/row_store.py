"""The columns of a memory: arrays with one entry for each of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from .observations import (
    Int64Array,
    Observations,
    layout,
    named_arrays,
    take,
)
from .ring_buffer import Part
from .storage import require, tensor_of

COLUMNS: dict[str, type[np.generic]] = {
    "rewards": np.float32,
    "returns": np.float32,
    "return_known": np.bool_,
    "task_ids": np.int32,
    "times": np.int64,
    "hashes": np.int64,
}
"""Columns of one number per row. Observations and actions take the agent's shapes and dtypes."""


class Step(NamedTuple):
    """One step of n environments."""

    observations: Observations
    actions: np.ndarray
    """(n, ...)"""
    rewards: np.ndarray
    """(n,) float32"""
    task_ids: Int64Array
    """(n,)"""
    times: Int64Array
    """(n,)"""


class RowStore:
    """Arrays of `capacity` rows, allocated at the first write with the shapes of its step.

    Rows that were never written take no physical memory (`np.zeros`), so it grows with use.
    """

    def __init__(self, *, capacity: int) -> None:
        self.capacity = capacity
        self.observations: Observations | None = None
        self.columns: dict[str, np.ndarray] = {}
        self._fits: object = None  # layout of the last step that passed `check`

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays().values())

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name; observations are `observations` or `observations/<key>`."""
        if self.observations is None:
            return {}
        seen = {
            f"observations/{key}" if isinstance(self.observations, dict) else "observations": array
            for key, array in named_arrays(self.observations)
        }
        return {**seen, **self.columns}

    def take_observations(self, rows: np.ndarray) -> Observations:
        """(n, ...) or a dict of such: a copy."""
        if self.observations is None:
            raise ValueError("the memory is empty: nothing was added yet")
        return take(self.observations, rows)

    def take(self, column: str, rows: np.ndarray) -> np.ndarray:
        """(n, ...): a copy."""
        if not self.columns:
            raise ValueError("the memory is empty: nothing was added yet")
        picked: np.ndarray = self.columns[column][rows]
        return picked

    def write(self, parts: Sequence[Part], step: Step, hashes: Int64Array) -> None:
        """Write the n rows of a step to the rows in `parts`, with the hashes of the observations.

        Their returns are unknown until later. The step must have passed `check`.
        """
        if self.observations is None:
            self._allocate(step)
        columns = self.columns
        for to, of in parts:
            if isinstance(self.observations, dict):
                assert isinstance(step.observations, dict)
                for key, array in self.observations.items():
                    array[to] = step.observations[key][of]
            else:
                assert self.observations is not None
                self.observations[to] = np.asarray(step.observations)[of]
            columns["actions"][to] = step.actions[of]
            columns["rewards"][to] = step.rewards[of]
            columns["returns"][to] = 0.0
            columns["return_known"][to] = False
            columns["task_ids"][to] = step.task_ids[of]
            columns["times"][to] = step.times[of]
            columns["hashes"][to] = hashes[of]

    def state(self, occupied: np.ndarray) -> dict[str, np.ndarray]:
        """Copies of the first n rows; those that are not `occupied` (n,) bool are 0."""
        columns = {name: array[: len(occupied)].copy() for name, array in self.arrays().items()}
        for array in columns.values():
            array[~occupied] = 0
        return columns

    def restore(self, tensors: Mapping[str, np.ndarray], n_rows: int) -> None:
        """Read the columns from `tensors` of `n_rows` rows; ValueError if they do not fit."""
        seen = {name: a for name, a in tensors.items() if name.split("/")[0] == "observations"}
        if n_rows == 0 and not seen:
            return
        require(bool(seen), "it has rows but no observations")
        require(
            len(seen) == 1 or "observations" not in seen, "observations are array and dict both"
        )
        given = {**seen, "actions": tensor_of(tensors, "actions")}
        given |= {name: tensor_of(tensors, name, dtype) for name, dtype in COLUMNS.items()}
        filled = {}
        for name, array in given.items():
            require(array.ndim >= 1 and len(array) == n_rows, f"{name} is not of {n_rows} rows")
            require(array.dtype.kind in "biuf", f"{name} is of dtype {array.dtype}")
            require(
                array.dtype.kind != "f" or bool(np.isfinite(array).all()),
                f"{name} has numbers that are not finite",
            )
            filled[name] = np.zeros((self.capacity, *array.shape[1:]), dtype=array.dtype)
            filled[name][:n_rows] = array
        if "observations" in seen:
            self.observations = filled["observations"]
        else:
            self.observations = {name.split("/", 1)[1]: filled[name] for name in seen}
        self.columns = {name: filled[name] for name in ("actions", *COLUMNS)}

    def _allocate(self, step: Step) -> None:
        def column(like: np.ndarray) -> np.ndarray:
            return np.zeros((self.capacity, *like.shape[1:]), dtype=like.dtype)

        if isinstance(step.observations, dict):
            self.observations = {key: column(array) for key, array in step.observations.items()}
        else:
            self.observations = column(step.observations)
        numbers = {name: np.zeros(self.capacity, dtype=dtype) for name, dtype in COLUMNS.items()}
        self.columns = {"actions": column(step.actions), **numbers}

    def check(self, observations: Observations, actions: np.ndarray, n: int) -> None:
        """Check that n rows fit the stored ones in shape and dtype; ValueError otherwise."""
        fits = (n, actions.shape, actions.dtype, layout(observations))
        if self.columns and fits == self._fits:
            return
        if isinstance(observations, dict) and not observations:
            raise ValueError("the observation is a dict without keys; expected at least one")
        stored = {} if self.observations is None else dict(named_arrays(self.observations))
        given = dict(named_arrays(observations))
        if stored and stored.keys() != given.keys():
            raise ValueError(
                f"the observation has {_keys(given)}; the memory began with {_keys(stored)}"
            )
        for key, array in given.items():
            label = f"observation '{key}'" if key else "observation"
            _check_array(label, array, n, stored.get(key))
        _check_array("actions", actions, n, self.columns.get("actions"))
        self._fits = fits


def _check_array(label: str, array: np.ndarray, n: int, stored: np.ndarray | None) -> None:
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{label} has dtype {array.dtype}; a memory keeps arrays of numbers")
    shape = array.shape[1:] if stored is None else stored.shape[1:]
    if array.shape != (n, *shape):
        raise ValueError(f"{label} has shape {array.shape}; expected {(n, *shape)}")
    # Hashes depend on the bytes of observations. Actions are sometimes float64.
    casting: Literal["same_kind", "no"] = "same_kind" if label == "actions" else "no"
    if stored is not None and not np.can_cast(array.dtype, stored.dtype, casting):
        raise ValueError(f"{label} has dtype {array.dtype}; the memory began with {stored.dtype}")


def _keys(arrays: dict[str, np.ndarray]) -> str:
    return "no keys" if list(arrays) == [""] else f"keys {sorted(arrays)}"
