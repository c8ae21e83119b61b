"""Spaces that agents read: numbers from 0 on, arrays instead of scalars, words as numbers.

Stable-Baselines3 counts the values of Discrete and MultiDiscrete spaces from 0, whatever their
`start`, and does not read scalars or text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from .mission import MISSION_LENGTH, MISSION_VOCABULARY, encode_mission


@dataclass(frozen=True)
class Conversion:
    """One part of an observation, or an action, in another space."""

    space: spaces.Space[Any]
    """The space in which the agent sees it."""
    convert: Callable[[Any], Any]
    """From the environment to the agent; of an action, from the agent to the environment."""
    compared: spaces.Space[Any] | None = None
    """The space by which environments are compared; None: `space`."""


class PlainObservation(gym.ObservationWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Convert some parts of an observation; parts with None are left out.

    `conversions` names the parts of a Dict; a plain observation is the part `""`.
    """

    def __init__(
        self, env: gym.Env[Any, Any], conversions: Mapping[str, Conversion | None]
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, conversions=conversions)
        super().__init__(env)
        self._conversions = dict(conversions)
        self.observation_space = self._converted(lambda each: each.space)
        self.compared_space = self._converted(lambda each: each.compared or each.space)

    def _converted(self, choose: Callable[[Conversion], spaces.Space[Any]]) -> spaces.Space[Any]:
        """The space with every converted part replaced by the one that `choose` returns."""
        space = self.env.observation_space
        if not isinstance(space, spaces.Dict):
            (only,) = self._conversions.values()
            assert only is not None
            return choose(only)
        parts = dict(space.spaces)
        for key, conversion in self._conversions.items():
            if conversion is None:
                del parts[key]
            else:
                parts[key] = choose(conversion)
        return spaces.Dict(parts)

    def observation(self, observation: Any) -> Any:
        """The converted observation."""
        if not isinstance(observation, dict):
            (only,) = self._conversions.values()
            assert only is not None
            return only.convert(observation)
        converted = dict(observation)
        for key, conversion in self._conversions.items():
            value = converted.pop(key)
            if conversion is not None:
                converted[key] = conversion.convert(value)
        return converted


class PlainAction(gym.ActionWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Convert an agent's action to the environment's."""

    def __init__(self, env: gym.Env[Any, Any], conversion: Conversion) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, conversion=conversion)
        super().__init__(env)
        self._convert = conversion.convert
        self.action_space = conversion.space
        self.compared_space = conversion.compared or conversion.space

    def action(self, action: Any) -> Any:
        """The environment's action."""
        return self._convert(action)


def plain_observation(space: spaces.Space[Any]) -> Conversion | None:
    """The conversion of an observation's part; None if the agent reads it as it is."""
    plain = _plain(space)
    if plain is None:
        return None
    first = getattr(space, "start", 0)
    convert = partial(_to_plain, first=first, shape=plain.shape or ())
    return Conversion(plain, convert, compared=space)


def plain_action(space: spaces.Space[Any]) -> Conversion | None:
    """The conversion of an action; None if the environment takes the agent's as it is."""
    plain = _plain(space)
    if plain is None:
        return None
    first = getattr(space, "start", 0)
    convert = partial(_from_plain, first=first, shape=space.shape or (), dtype=space.dtype)
    return Conversion(plain, convert, compared=space)


def plain_mission() -> Conversion:
    """The conversion of a mission outside a grid observation: one number for each word."""
    space = spaces.MultiDiscrete([MISSION_VOCABULARY] * MISSION_LENGTH)
    return Conversion(space, encode_mission_as_numbers)


def encode_mission_as_numbers(mission: str) -> NDArray[np.int64]:
    """`encode_mission` as int64, the dtype of MultiDiscrete."""
    return encode_mission(mission).astype(np.int64)


def _plain(space: spaces.Space[Any]) -> spaces.Space[Any] | None:
    """The plain space that holds as many values; None if the space is plain itself."""
    if isinstance(space, spaces.Discrete) and space.start != 0:
        return spaces.Discrete(int(space.n))
    if isinstance(space, spaces.MultiDiscrete) and (np.any(space.start) or space.nvec.ndim != 1):
        return spaces.MultiDiscrete(space.nvec.reshape(-1))
    if isinstance(space, spaces.MultiBinary) and len(space.shape) != 1:
        return spaces.MultiBinary(math.prod(space.shape))
    if isinstance(space, spaces.Box) and space.shape == ():
        low, high = space.low.reshape(1), space.high.reshape(1)
        return spaces.Box(low, high, dtype=space.dtype.type)
    return None


def _to_plain(value: Any, *, first: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.reshape(np.asarray(value) - first, shape)


def _from_plain(action: Any, *, first: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    moved = (np.reshape(action, shape) + first).astype(dtype)
    return int(moved) if shape == () and np.issubdtype(dtype, np.integer) else moved
