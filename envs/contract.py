"""Gymnasium's interface, checked where an environment of the user's own may not keep it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

_NUMBERS = "biuf"


class ContractError(ValueError):
    """An environment returns something else than Gymnasium's interface or its spaces say."""


class Contract(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """An environment whose observations have the shapes and dtypes of its space.

    Observations of other dtypes are cast to the space's. A reward or a flag may be an array of one
    element.

    Raises ContractError from `reset` and `step` for everything else: results that are not tuples
    of two and five, other shapes, numbers that the space's dtype cannot hold, numbers outside a
    discrete space.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode: observation and info."""
        try:
            returned: Any = self.env.reset(seed=seed, options=options)
        except (TypeError, ValueError) as error:
            if "reset() got an unexpected keyword argument" in str(error):
                raise ContractError(
                    "its reset() must take seed= and options=, as Gymnasium's environments do"
                ) from error
            if "values to unpack (expected 2" in str(error):
                raise ContractError(_OLD_RESET) from error
            raise
        if not (
            isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], dict)
        ):
            raise ContractError(_OLD_RESET)
        return as_declared(returned[0], self.env.observation_space), returned[1]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step: observation, reward, terminated, truncated and info."""
        try:
            returned: Any = self.env.step(action)
        except ValueError as error:
            if "values to unpack (expected 5" in str(error):
                raise ContractError(_OLD_STEP) from error
            raise
        if not (isinstance(returned, tuple) and len(returned) == 5):
            raise ContractError(_OLD_STEP)
        observation, reward, terminated, truncated, info = returned
        if not isinstance(info, dict):
            raise ContractError(f"its step() returned {info!r} as info, expected a dict")
        return (
            as_declared(observation, self.env.observation_space),
            float(_one_number(reward, "reward")),
            bool(_one_number(terminated, "terminated")),
            bool(_one_number(truncated, "truncated")),
            info,
        )


_OLD_RESET = (
    "its reset() must return a tuple (observation, info), as Gymnasium's environments do; those of "
    "Gym before 0.26 returned the observation alone"
)
_OLD_STEP = (
    "its step() must return a tuple (observation, reward, terminated, truncated, info), as "
    "Gymnasium's environments do; those of Gym before 0.26 returned four values"
)


def as_declared(value: Any, space: spaces.Space[Any], name: str = "observation") -> Any:
    """An observation with the shapes and dtypes of its space.

    Args:
        value: the observation, or one part of it.
        space: its space. Values of spaces that hold no numbers stay as they are.
        name: what errors call it.

    Raises ContractError if the observation does not fit the space.
    """
    if isinstance(space, spaces.Dict):
        if not isinstance(value, Mapping):
            raise ContractError(
                f"its {name} is of type {type(value).__name__}, its space {space} needs a dict"
            )
        missing = [key for key in space.spaces if key not in value]
        if missing:
            raise ContractError(f"its {name} lacks {missing[0]!r}, which its space has")
        return {
            key: as_declared(value[key], part, f"{name} {key!r}")
            for key, part in space.spaces.items()
        }
    if isinstance(space, spaces.Discrete):
        number = _cast(value, (), np.dtype(np.int64), name)
        if not 0 <= number - space.start < space.n:
            raise ContractError(f"its {name} is {number}, which is not in {space}")
        return int(number)
    if isinstance(space, spaces.MultiDiscrete):
        numbers = _cast(value, space.nvec.shape, np.dtype(space.dtype), name)
        if np.any(numbers < space.start) or np.any(numbers >= space.start + space.nvec):
            raise ContractError(f"its {name} is {numbers.tolist()}, which is not in {space}")
        return numbers
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return _cast(value, space.shape, np.dtype(space.dtype), name)
    return value


def _cast(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """`value` as an array of this shape and dtype."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ContractError(f"its {name} is not an array of one shape") from error
    if array.shape != shape and array.size == 1 and shape in ((), (1,)):
        array = array.reshape(shape)
    if array.shape != shape:
        raise ContractError(f"its {name} has shape {array.shape}, its space says {shape}")
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in _NUMBERS:
        raise ContractError(f"its {name} holds {array.dtype}, its space says {dtype}")
    with np.errstate(invalid="ignore", over="ignore"):
        cast = array.astype(dtype)
    if dtype.kind != "f" and not np.array_equal(cast, array):
        wrong = array[cast != array].flat[0]
        raise ContractError(f"its {name} holds {wrong}, which its space's {dtype} cannot hold")
    return cast


def _one_number(value: Any, name: str) -> Any:
    if isinstance(value, bool | float | int):
        return value
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in _NUMBERS:
        shape = f" of shape {array.shape}" if array.ndim else ""
        raise ContractError(f"its step() returned {value!r}{shape} as {name}, expected one number")
    return array.item()
