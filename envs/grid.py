"""Grid observations: what an agent sees of MiniGrid and BabyAI, the same from every backend."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from .mission import MISSION_LENGTH, MISSION_VOCABULARY, encode_mission
from .pictures import PICTURE_SHAPE, draw_pictures

GRID_SHAPE = (7, 7, 3)


def grid_space(*, mission: bool) -> spaces.Dict:
    """The grid observation: uint8 `image` (7, 7, 3), `direction` (1,), tokens `mission` (32,).

    `image` holds (type, colour, state) for each cell of the agent's view, `direction` is where
    the agent looks (0 right, 1 down, 2 left, 3 up).
    """
    parts: dict[str, spaces.Space[Any]] = {
        "image": spaces.Box(0, 10, GRID_SHAPE, np.uint8),
        "direction": spaces.Box(0, 3, (1,), np.uint8),
    }
    if mission:
        parts["mission"] = spaces.Box(0, MISSION_VOCABULARY - 1, (MISSION_LENGTH,), np.uint8)
    return spaces.Dict(parts)


def picture_space() -> spaces.Box:
    """The picture observation: uint8 (3, 56, 56), channel first."""
    return spaces.Box(0, 255, PICTURE_SHAPE, np.uint8)


def has_grid(space: spaces.Space[Any]) -> bool:
    """Whether a raw observation space is MiniGrid's: a 7×7×3 uint8 image and a mission."""
    if not isinstance(space, spaces.Dict) or not {"image", "mission"} <= set(space.spaces):
        return False
    image = space["image"]
    return image.shape == GRID_SHAPE and image.dtype == np.uint8


class GridObservation(gym.ObservationWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """MiniGrid's raw observation (mission as text, direction as int) as `grid_space` has it."""

    def __init__(self, env: gym.Env[dict[str, Any], Any], *, mission: bool) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, mission=mission)
        super().__init__(env)
        self.observation_space = grid_space(mission=mission)
        self._with_mission = mission

    def observation(self, observation: dict[str, Any]) -> dict[str, NDArray[np.uint8]]:
        """One raw observation as arrays."""
        result = {
            "image": observation["image"],
            "direction": np.array([observation["direction"]], dtype=np.uint8),
        }
        if self._with_mission:
            result["mission"] = encode_mission(observation["mission"])
        return result


class PictureObservation(gym.ObservationWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """MiniGrid's raw observation as the picture of the agent's view."""

    def __init__(self, env: gym.Env[dict[str, Any], Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.observation_space = picture_space()

    def observation(self, observation: dict[str, Any]) -> NDArray[np.uint8]:
        """The picture (3, 56, 56) of one raw observation."""
        picture: NDArray[np.uint8] = draw_pictures(observation["image"][np.newaxis])[0]
        return picture
