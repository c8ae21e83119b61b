"""What an agent observes, the same from every backend.

MiniGrid and BabyAI give a grid (their view as integers) or its picture; other environments give
their own observations.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from .grid_sensors import Codes
from .mission import (
    MISSION_LENGTH,
    MISSION_VOCABULARY,
    encode_mission,
    mission_varies,
    warn_hidden_mission,
)
from .pictures import PictureObservation
from .registry import make_raw_env
from .sensor_ids import sensor_of

OBSERVATIONS = ("auto", "picture")
MISSIONS = ("auto", "on", "off")
GRID_SHAPE = (7, 7, 3)


def grid_space(*, mission: bool) -> spaces.Dict:
    """The space of grid observations: uint8 `image` (7, 7, 3), `direction` (1,), `mission` (32,).

    `image` holds (type, colour, state) for each cell of the agent's view, `direction` the
    direction in which the agent looks (0 right, 1 down, 2 left, 3 up), `mission` word tokens.
    """
    parts: dict[str, spaces.Space[Any]] = {
        "image": spaces.Box(0, 10, GRID_SHAPE, np.uint8),
        "direction": spaces.Box(0, 3, (1,), np.uint8),
    }
    if mission:
        parts["mission"] = spaces.Box(0, MISSION_VOCABULARY - 1, (MISSION_LENGTH,), np.uint8)
    return spaces.Dict(parts)


def has_grid(space: spaces.Space[Any]) -> bool:
    """Whether a raw observation space is MiniGrid's: a 7×7×3 uint8 image and a mission."""
    if not isinstance(space, spaces.Dict) or not {"image", "mission"} <= set(space.spaces):
        return False
    image = space["image"]
    return image.shape == GRID_SHAPE and image.dtype == np.uint8


class GridObservation(gym.ObservationWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Convert MiniGrid's raw observation (mission as text, direction as int) to `grid_space`."""

    def __init__(self, env: gym.Env[dict[str, Any], Any], *, mission: bool) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, mission=mission)
        super().__init__(env)
        self.observation_space = grid_space(mission=mission)
        self._with_mission = mission

    def observation(self, observation: dict[str, Any]) -> dict[str, NDArray[np.uint8]]:
        """The raw observation as arrays."""
        result = {
            "image": observation["image"],
            "direction": np.array([observation["direction"]], dtype=np.uint8),
        }
        if self._with_mission:
            result["mission"] = encode_mission(observation["mission"])
        return result


def make_env(
    env_id: str,
    *,
    observation: str = "auto",
    mission: str | bool = "auto",
    render_mode: str | None = None,
) -> gym.Env[Any, Any]:
    """One Gymnasium environment with the observations that `make_vec` gives.

    `observation="auto"` is the grid for MiniGrid and BabyAI, and the environment's own observation
    for others; `"picture"` is a picture of the grid. `mission` says whether the grid observation
    holds the mission: `"auto"` (if it varies), `"on"` or `"off"`. Raises UnknownNameError for an
    unknown id, ValueError for an observation that the environment does not have.
    """
    with_mission = resolve_mission([env_id], mission, observation)
    env = make_raw_env(env_id, render_mode=render_mode)
    return observe(env, env_id, observation=observation, mission=with_mission)


def shows_pictures(env_id: str) -> bool:
    """Whether the environment's own observations are pictures of a grid."""
    changed = sensor_of(env_id)
    return changed is not None and changed.sensor.reads == "picture"


def check_picture(env_id: str, space: spaces.Space[Any]) -> None:
    """Raise ValueError if an environment with the raw observation `space` cannot be drawn."""
    changed = sensor_of(env_id)
    if changed is not None and isinstance(changed.sensor, Codes):
        raise ValueError(
            f"environment {env_id!r} has other ids for the things in its grid, so that a picture "
            f"would show other things: observation='picture' is for {changed.base_id!r} and its "
            f"picture sensors, such as TileSet. Use observation='auto'."
        )
    if not has_grid(space) and not shows_pictures(env_id):
        raise ValueError(
            f"environment {env_id!r} does not have a grid to draw: observation='picture' is for "
            f"MiniGrid and BabyAI. Use observation='auto'."
        )


def observe(
    env: gym.Env[Any, Any], env_id: str, *, observation: str, mission: bool
) -> gym.Env[Any, Any]:
    """Wrap a raw environment so that it gives the requested observation."""
    if observation == "picture":
        try:
            check_picture(env_id, env.observation_space)
        except ValueError:
            env.close()
            raise
    if not has_grid(env.observation_space):
        return env
    if observation == "picture":
        return PictureObservation(env)
    return GridObservation(env, mission=mission)


def resolve_mission(env_ids: list[str], mission: str | bool, observation: str) -> bool:
    """Whether the observation holds the mission. Warns if it varies but is not observed."""
    if observation not in OBSERVATIONS:
        raise ValueError(f"observation must be one of {OBSERVATIONS}, got {observation!r}")
    if isinstance(mission, bool):
        mission = "on" if mission else "off"
    if mission not in MISSIONS:
        raise ValueError(f"mission must be one of {MISSIONS}, got {mission!r}")
    if observation == "picture" or mission == "off":
        warn_hidden_mission(env_ids)
        return False
    return mission == "on" or mission_varies(env_ids)
