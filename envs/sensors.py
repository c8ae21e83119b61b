"""Sensors as data: the same environment, observed in another way.

A sensor is a pure function from a batch of observations to the batch that other sensors would
have shown. Rules, rewards and actions do not change. Each family of sensors is a frozen dataclass
whose `number` is the seed of all that the family draws; see `sensor_families` for the ids.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, overload

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Sensor(abc.ABC):
    """Call it with a batch of observations: an array (N, …), or a dict with the key `part`.

    Of a dict, all keys but `part` stay as they are. Raises ValueError for a number that is not a
    whole number in [0, 2³²).
    """

    number: int
    """The member of the family: the seed of all that it draws."""
    part: str = "image"
    """The key of a Dict observation that it changes."""

    reads: ClassVar[Literal["grid", "picture", "vector"]]
    """The kind of observation that it changes."""

    def __post_init__(self) -> None:
        whole = isinstance(self.number, int) and not isinstance(self.number, bool)
        if not whole or not 0 <= self.number < 2**32:
            raise ValueError(
                f"number of {self.family} must be a whole number in [0, 2³²), got {self.number!r}"
            )

    @property
    def family(self) -> str:
        """The name of its family, which its ids contain."""
        return type(self).__name__

    @overload
    def __call__(self, observations: NDArray[Any]) -> NDArray[Any]: ...

    @overload
    def __call__(self, observations: dict[str, Any]) -> dict[str, Any]: ...

    def __call__(self, observations: Any) -> Any:
        """The batch `observations` as this sensor shows it; the given arrays do not change."""
        if isinstance(observations, dict):
            return {**observations, self.part: self.change(observations[self.part])}
        return self.change(observations)

    def changed_space(self, space: spaces.Space[Any]) -> spaces.Space[Any]:
        """The space of the changed observations.

        Raises ValueError for a space that the sensor cannot read.
        """
        if isinstance(space, spaces.Dict) and self.part in space.spaces:
            changed = self.changed_space(space[self.part])
            return spaces.Dict({**space.spaces, self.part: changed})
        if isinstance(space, spaces.Box):
            return self.changed_box(space)
        raise ValueError(
            f"{self.family} changes a Box, or the Box with the key {self.part!r} of a Dict; the "
            f"observation space is {space}. For another key, set part= of the sensor."
        )

    @abc.abstractmethod
    def change(self, batch: NDArray[Any]) -> NDArray[Any]:
        """The changed batch (N, …), a new array."""

    @abc.abstractmethod
    def changed_box(self, box: spaces.Box) -> spaces.Box:
        """The space of the changed observations. Raises ValueError for a box that does not fit."""


class ChangedSensors(gym.ObservationWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Any environment, observed through a sensor.

    Raises ValueError if the sensor cannot read the environment's observations.
    """

    def __init__(self, env: gym.Env[Any, Any], sensor: Sensor) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, sensor=sensor)
        super().__init__(env)
        self.observation_space = sensor.changed_space(env.observation_space)
        self.sensor = sensor

    def observation(self, observation: Any) -> Any:
        """The observation as the sensor shows it."""
        if not isinstance(observation, Mapping):
            return self.sensor(np.asarray(observation)[np.newaxis])[0]
        part = self.sensor.part
        return {**observation, part: self.sensor(np.asarray(observation[part])[np.newaxis])[0]}


def numbered_draws(number: int, family: str) -> np.random.RandomState:
    """The random numbers of one member of a family.

    NumPy promises that the stream of `RandomState` never changes; that of `Generator` may, and
    then an id would name other sensors.
    """
    return np.random.RandomState([number, *family.encode()])


def derangement(n: int, draws: np.random.RandomState) -> NDArray[np.intp]:
    """A permutation of n ≥ 2 things that moves each of them, uniform over all of these."""
    if n < 2:
        raise ValueError(f"a derangement needs at least 2 things, got {n}")
    while True:
        order: NDArray[np.intp] = draws.permutation(n)
        if (order != np.arange(n)).all():
            return order
