"""What the `image` of a MiniGrid environment holds, after MiniGrid's usual wrappers."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from .contract import ContractError

GRID_SHAPE = (7, 7, 3)
LARGEST_CELL_VALUE = 10
"""MiniGrid's object types reach 10, its colours 5, its states 3."""

Content = Literal["view", "cells", "flags", "other"]


def image_content(env: gym.Env[Any, Any]) -> Content:
    """What the `image` of an environment's observation holds, or the observation itself.

    * `"view"`: MiniGrid's own view, 7×7 cells of (type, colour, state);
    * `"cells"`: such cells of another size or of the whole grid (`ViewSizeWrapper`,
      `FullyObsWrapper`);
    * `"flags"`: zeros and ones (`OneHotPartialObsWrapper`);
    * `"other"`: anything else, such as a picture; always for environments that are not MiniGrid's.

    A wrapper that is not MiniGrid's counts as one that leaves the image as it is if the image's
    space is the same.
    """
    from minigrid import wrappers
    from minigrid.minigrid_env import MiniGridEnv

    if not isinstance(env.unwrapped, MiniGridEnv):
        return "other"
    pictures = wrappers.RGBImgObsWrapper | wrappers.RGBImgPartialObsWrapper
    content: Content = "view"
    for layer in reversed(_wrappers(env)):
        if isinstance(layer, wrappers.FullyObsWrapper | wrappers.ViewSizeWrapper):
            content = "cells"
        elif isinstance(layer, wrappers.OneHotPartialObsWrapper):
            content = "flags"
        elif isinstance(layer, pictures) or not _keeps_image(layer):
            content = "other"
    shape = getattr(_image_space(env.observation_space), "shape", None)
    return "cells" if content == "view" and shape != GRID_SHAPE else content


def cell_space(shape: tuple[int, ...]) -> spaces.Box:
    """The space of an image of cells."""
    return spaces.Box(0, LARGEST_CELL_VALUE, shape, np.uint8)


def as_cells(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image, if its cells are MiniGrid's.

    Raises ContractError, with the value, if an object's type, colour or state is above MiniGrid's.
    """
    if image.max() > LARGEST_CELL_VALUE:
        raise ContractError(
            f"the grid holds a cell {_largest_cell(image)} (type, colour, state); those of "
            f"MiniGrid go up to {LARGEST_CELL_VALUE}. Give objects of your own an id up to "
            f"{LARGEST_CELL_VALUE}, or pass a picture: minigrid.wrappers.RGBImgPartialObsWrapper"
        )
    return image


def _largest_cell(image: NDArray[np.uint8]) -> tuple[int, ...]:
    cells = image.reshape(-1, image.shape[-1])
    return tuple(int(value) for value in cells[cells.max(axis=1).argmax()])


def _wrappers(env: gym.Env[Any, Any]) -> list[gym.Wrapper[Any, Any, Any, Any]]:
    """The wrappers of an environment, the outermost first."""
    found = []
    while isinstance(env, gym.Wrapper):
        found.append(env)
        env = env.env
    return found


def _keeps_image(layer: gym.Wrapper[Any, Any, Any, Any]) -> bool:
    """Whether a wrapper leaves the space of the image as it is."""
    return _image_space(layer.observation_space) == _image_space(layer.env.observation_space)


def _image_space(space: spaces.Space[Any]) -> spaces.Space[Any] | None:
    return space.spaces.get("image") if isinstance(space, spaces.Dict) else space
