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
from .grid_views import GRID_SHAPE, Content, as_cells, cell_space, image_content
from .mission import (
    MISSION_LENGTH,
    MISSION_VOCABULARY,
    encode_mission,
    is_text,
    mission_varies,
    warn_hidden_mission,
)
from .pictures import PictureObservation
from .plain_spaces import (
    Conversion,
    PlainAction,
    PlainObservation,
    plain_action,
    plain_mission,
    plain_observation,
)
from .registry import make_raw_env
from .sensor_ids import sensor_of

OBSERVATIONS = ("auto", "picture")
MISSIONS = ("auto", "on", "off")
_GRID_KEYS = {"image", "direction", "mission"}


_DIRECTION = spaces.Box(0, 3, (1,), np.uint8)
_WORDS = spaces.Box(0, MISSION_VOCABULARY - 1, (MISSION_LENGTH,), np.uint8)


def grid_space(*, mission: bool) -> spaces.Dict:
    """The space of grid observations: uint8 `image` (7, 7, 3), `direction` (1,), `mission` (32,).

    `image` holds (type, colour, state) for each cell of the agent's view, `direction` the
    direction in which the agent looks (0 right, 1 down, 2 left, 3 up), `mission` word tokens.
    """
    parts: dict[str, spaces.Space[Any]] = {
        "image": cell_space(GRID_SHAPE),
        "direction": _DIRECTION,
    }
    if mission:
        parts["mission"] = _WORDS
    return spaces.Dict(parts)


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
            "image": as_cells(observation["image"]),
            "direction": _as_direction(observation["direction"]),
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


def check_picture(env_id: str, *, has_grid: bool) -> None:
    """Raise ValueError if an environment cannot be drawn; `has_grid`: it has MiniGrid's view."""
    changed = sensor_of(env_id)
    if changed is not None and isinstance(changed.sensor, Codes):
        raise ValueError(
            f"environment {env_id!r} has other ids for the things in its grid, so that a picture "
            f"would show other things: observation='picture' is for {changed.base_id!r} and its "
            f"picture sensors, such as TileSet. Use observation='auto'."
        )
    if not has_grid and not shows_pictures(env_id):
        raise ValueError(
            f"environment {env_id!r} does not have a grid to draw: observation='picture' is for "
            f"MiniGrid and BabyAI. Use observation='auto'."
        )


def observe(
    env: gym.Env[Any, Any], env_id: str, *, observation: str, mission: bool
) -> gym.Env[Any, Any]:
    """Wrap a raw environment so that it gives the requested observation in plain spaces."""
    space = env.observation_space
    content = image_content(env)
    is_view = content == "view" and isinstance(space, spaces.Dict)
    if observation == "picture":
        try:
            check_picture(env_id, has_grid=is_view)
        except ValueError:
            env.close()
            raise
    if observation == "picture" and is_view:
        env = PictureObservation(env)
    elif content == "view" and _is_minigrids(space):
        env = GridObservation(env, mission=mission)
    else:
        env = _converted(env, content, mission=mission)
    action = plain_action(env.action_space)
    return env if action is None else PlainAction(env, action)


def _is_minigrids(space: spaces.Space[Any]) -> bool:
    """Whether a raw observation has the parts that MiniGrid's has, with the mission as text."""
    if not isinstance(space, spaces.Dict) or set(space.spaces) != _GRID_KEYS:
        return False
    return is_text(space["mission"])


def compared_spaces(env: gym.Env[Any, Any]) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    """The observation and action space by which `observe`'s environments are compared.

    They are the environment's, but discrete spaces keep the `start` that it gave them.
    """
    action: spaces.Space[Any] = env.action_space
    if isinstance(env, PlainAction):
        action, env = env.compared_space, env.env
    if isinstance(env, PlainObservation):
        return env.compared_space, action
    return env.observation_space, action


def _converted(env: gym.Env[Any, Any], content: Content, *, mission: bool) -> gym.Env[Any, Any]:
    """The environment with every part of its observation in a plain space."""
    space = env.observation_space
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    is_grid = content in ("view", "cells") and set(parts) <= _GRID_KEYS
    conversions: dict[str, Conversion | None] = {}
    for key, part in parts.items():
        if key == "mission" and is_text(part):
            words = Conversion(_WORDS, encode_mission) if is_grid else plain_mission()
            conversions[key] = words if mission else None
            continue
        found = _grid_part(key, part, content) if is_grid or key in ("", "image") else None
        found = found or plain_observation(part)
        if found is not None:
            conversions[key] = found
    return PlainObservation(env, conversions) if conversions else env


def _grid_part(key: str, part: spaces.Space[Any], content: Content) -> Conversion | None:
    """The conversion of a part that MiniGrid's wrappers leave; None if it is not one of theirs."""
    if content == "flags" and key in ("", "image"):
        return Conversion(spaces.Box(0, 1, part.shape, np.uint8), np.asarray)
    if content == "other":
        return None
    if key == "":  # an image alone
        return Conversion(spaces.Dict(image=cell_space(part.shape or ())), _as_image)
    if key == "image":
        return Conversion(cell_space(part.shape or ()), as_cells)
    if key == "direction":
        return Conversion(_DIRECTION, _as_direction)
    if isinstance(part, spaces.MultiDiscrete) and part.nvec.max() <= 256:  # a mission's words
        words = spaces.Box(0, int(part.nvec.max()) - 1, part.shape, np.uint8)
        return Conversion(words, _as_bytes)
    return None


def _as_image(image: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    return {"image": as_cells(image)}


def _as_direction(direction: int) -> NDArray[np.uint8]:
    return np.array([direction], dtype=np.uint8)


def _as_bytes(words: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.asarray(words, np.uint8)


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
