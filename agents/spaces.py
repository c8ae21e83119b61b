"""Whether two agents see the same: observation spaces and stored observations compared."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from .observation_encoder import Observations


def difference(theirs: gym.Space[Any], own: gym.Space[Any]) -> str | None:
    """The first difference of two observation spaces, in words; None if they are as good as equal.

    Floats of any width are alike. The bounds of float vectors are not compared, for they say little
    (another unit, another room); those of float pictures are, unless one of them is open.
    """
    others, parts = _parts(theirs), _parts(own)
    if others.keys() != parts.keys():
        return f"they have {_named(others)}, the model has {_named(parts)}"
    for name, part in parts.items():
        if not _is_same(others[name], part):
            place = f"'{name}' is " if name else ""
            return f"{place}{described(others[name])}, the model's {described(part)}"
    return None


def unsuited(observations: Observations, space: gym.Space[Any]) -> str | None:
    """How stored observations (N, ...) differ from those of a space, in words; None if they do not.

    Shapes, dtypes and, for whole numbers, values are compared.
    """
    stored = observations if isinstance(observations, dict) else {"": observations}
    parts = _parts(space)
    if stored.keys() != parts.keys():
        return f"they have {_named(stored)}, the model has {_named(parts)}"
    for name, part in parts.items():
        array, place = stored[name], f"'{name}' is " if name else ""
        if array.shape[1:] != part.shape or not _same_numbers(array.dtype, part.dtype):
            found = f"of shape {array.shape[1:]} and {array.dtype}"
            return f"{place}{found}, the model's {described(part)}"
        low, high = _range(part)
        if array.dtype.kind != "f" and not bool(((low <= array) & (array <= high)).all()):
            found = f"from {array.min()} to {array.max()}"
            return f"{place}{found}, the model's {described(part)}"
    return None


def described(space: gym.Space[Any]) -> str:
    """A space in a few words: Gymnasium prints every bound of a Box."""
    if not isinstance(space, gym.spaces.Box):
        return str(space)
    bounds = f"{space.low.min():g} to {space.high.max():g}"
    return f"Box({bounds}, {space.shape}, {space.dtype})"


def _parts(space: gym.Space[Any]) -> dict[str, gym.Space[Any]]:
    return dict(space.spaces) if isinstance(space, gym.spaces.Dict) else {"": space}


def _named(parts: dict[str, Any]) -> str:
    return "one array" if parts.keys() == {""} else f"the keys {sorted(parts)}"


def _is_same(theirs: gym.Space[Any], own: gym.Space[Any]) -> bool:
    if type(theirs) is not type(own):
        return False
    if not isinstance(theirs, gym.spaces.Box) or not isinstance(own, gym.spaces.Box):
        return bool(theirs == own)
    if theirs.shape != own.shape or not _same_numbers(theirs.dtype, own.dtype):
        return False
    if theirs.dtype.kind == "f" and len(theirs.shape) < 2:
        return True
    return _same_bounds(theirs.low, own.low) and _same_bounds(theirs.high, own.high)


def _same_numbers(theirs: Any, own: Any) -> bool:
    """Whether two dtypes hold the same kind of numbers."""
    theirs, own = np.dtype(theirs), np.dtype(own)
    return bool(theirs == own or theirs.kind == own.kind == "f")


def _same_bounds(theirs: np.ndarray, own: np.ndarray) -> bool:
    open_ = ~(_is_bound(theirs) & _is_bound(own))
    return bool((open_ | np.isclose(theirs, own, rtol=1e-4)).all())


def _is_bound(limit: np.ndarray) -> np.ndarray:
    """Where a bound is one: many declare the largest float where there is none."""
    largest = np.inf if limit.dtype.kind != "f" else 0.99 * np.finfo(np.float16).max
    return np.abs(limit.astype(np.float64)) < largest


def _range(space: gym.Space[Any]) -> tuple[Any, Any]:
    """The least and the largest value of each entry."""
    if isinstance(space, gym.spaces.Box):
        return space.low, space.high
    if isinstance(space, gym.spaces.MultiBinary):
        return 0, 1
    if isinstance(space, gym.spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    assert isinstance(space, gym.spaces.Discrete)
    return space.start, space.start + space.n - 1
