"""Ids of environments whose sensors changed, such as `contrastive/DoorKey-5x5-Codes1-v0`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import gymnasium as gym

from .grid_sensors import Codes, Colours
from .picture_sensors import ChannelsMixed, HueTurned, Inverted, Noise, Pictures
from .pictures import PictureObservation
from .sensors import ChangedSensors, Sensor
from .tile_set import TileSet
from .vector_sensors import KNOWN_SCALES, Distractors, Mixed, Rotated, Units

NAMESPACE = "contrastive"
COLOUR_DOSES = (2, 3, 4, 5)
NUMBERS = tuple(range(1, 10))
"""The numbers of each family that have ids."""

_DOORKEYS = ("MiniGrid-DoorKey-5x5-v0", "MiniGrid-DoorKey-6x6-v0", "MiniGrid-DoorKey-8x8-v0")
_CODED = (
    *_DOORKEYS,
    "MiniGrid-Unlock-v0",
    "MiniGrid-KeyCorridorS3R1-v0",
    "MiniGrid-Dynamic-Obstacles-Random-5x5-v0",
    "BabyAI-GoToRedBall-v0",
)
_DRAWN = _DOORKEYS[:2]
_PICTURE_FAMILIES = (HueTurned, Inverted, ChannelsMixed, Noise, TileSet)
_VECTOR_FAMILIES = (Units, Rotated, Mixed, Distractors)


@dataclass(frozen=True, kw_only=True)
class ChangedEnvironment:
    """An environment that a sensor shows in another way."""

    base_id: str
    """Id of the plain environment, with the same rules, actions and rewards."""
    sensor: Sensor
    """The function from its observations to the changed ones."""


def sensor_of(env_id: str) -> ChangedEnvironment | None:
    """The plain environment and the sensor behind one of our sensor ids; None for other ids."""
    return SENSOR_IDS.get(env_id)


def make_changed(*, changed: ChangedEnvironment, **settings: Any) -> gym.Env[Any, Any]:
    """Make the environment of a sensor id."""
    import minigrid  # noqa: F401  (registers the base)

    base = gym.make(changed.base_id, disable_env_checker=True, **settings)
    if changed.sensor.reads == "picture":
        base = PictureObservation(base)
    return ChangedSensors(base, changed.sensor)


def _changed() -> Iterator[ChangedEnvironment]:
    for base_id in _DOORKEYS:
        for dose in COLOUR_DOSES:
            yield ChangedEnvironment(base_id=base_id, sensor=Colours(number=dose))
    for base_id in _CODED:
        for number in NUMBERS:
            yield ChangedEnvironment(base_id=base_id, sensor=Codes(number=number))
    for base_id in _DRAWN:
        yield ChangedEnvironment(base_id=base_id, sensor=Pictures())
        for picture_family in _PICTURE_FAMILIES:
            for number in NUMBERS:
                drawn = picture_family(number=number)
                yield ChangedEnvironment(base_id=base_id, sensor=drawn)
    for base_id, scale in KNOWN_SCALES.items():
        for vector_family in _VECTOR_FAMILIES:
            for number in NUMBERS:
                sensor = vector_family(number=number, scale=scale)
                yield ChangedEnvironment(base_id=base_id, sensor=sensor)


def _id_of(changed: ChangedEnvironment) -> str:
    """Its id; `Pictures`, which draws nothing at random, has no number."""
    sensor = changed.sensor
    number = "" if isinstance(sensor, Pictures) else sensor.number
    return f"{NAMESPACE}/{_short(changed.base_id)}-{sensor.family}{number}-v0"


def _short(base_id: str) -> str:
    return base_id.removeprefix("MiniGrid-").removeprefix("BabyAI-").rpartition("-v")[0]


SENSOR_IDS: Mapping[str, ChangedEnvironment] = MappingProxyType(
    {_id_of(changed): changed for changed in _changed()}
)
"""The environments by id."""


def sensor_families() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Each family with its numbers, such as `Codes1-9`: a summary, and its environments' names.

    An id is `contrastive/`, the environment's name, `-`, the family with one number, and `-v0`.
    """
    families: dict[str, list[ChangedEnvironment]] = {}
    for changed in SENSOR_IDS.values():
        families.setdefault(changed.sensor.family, []).append(changed)
    rows = {}
    for family, members in families.items():
        numbers = sorted({each.sensor.number for each in members})
        label = f"{family}{numbers[0]}-{numbers[-1]}" if numbers[-1] else family
        names = tuple(dict.fromkeys(_short(each.base_id) for each in members))
        summary = (type(members[0].sensor).__doc__ or "").partition("\n\n")[0]
        rows[label] = (" ".join(summary.split()), names)
    return rows
