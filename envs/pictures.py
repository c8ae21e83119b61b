"""Grid views as pictures, assembled from a table of tiles.

The result equals minigrid's `RGBImgPartialObsWrapper(tile_size=8)`, which draws every tile of
every view: visible cells are highlighted, and the agent is a red triangle over the object that it
carries, in the middle of the bottom row.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

TILE_SIZE = 8
VIEW_SIZE = 7
PICTURE_SHAPE = (3, VIEW_SIZE * TILE_SIZE, VIEW_SIZE * TILE_SIZE)

N_TYPES, N_COLOURS, N_STATES = 11, 6, 4
_N_CELLS = N_TYPES * N_COLOURS * N_STATES
_AGENT_CELL = (VIEW_SIZE // 2, VIEW_SIZE - 1)
_AGENT_LOOKS_UP = 3


@lru_cache(maxsize=1)
def drawn_tiles() -> NDArray[np.uint8]:
    """All tiles, (2, cells, 3, 8, 8): without and with the agent on them.

    A cell is (type, colour, state), state fastest.
    """
    from minigrid.core.grid import Grid
    from minigrid.core.world_object import WorldObj

    tiles = np.zeros((2, _N_CELLS, 3, TILE_SIZE, TILE_SIZE), dtype=np.uint8)
    for cell in range(_N_CELLS):
        kind, rest = divmod(cell, N_COLOURS * N_STATES)
        colour, state = divmod(rest, N_STATES)
        try:
            obj = WorldObj.decode(kind, colour, state)
        except (AssertionError, KeyError, ValueError):  # such an object does not exist
            continue
        for agent in (False, True):
            tile = Grid.render_tile(
                obj,
                agent_dir=_AGENT_LOOKS_UP if agent else None,
                highlight=kind != 0,
                tile_size=TILE_SIZE,
            )
            tiles[int(agent), cell] = tile.transpose(2, 0, 1)
    return tiles


def draw_pictures(
    images: NDArray[np.uint8] | Mapping[str, NDArray[Any]],
    *,
    tiles: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Draw grid views as pictures.

    Args:
        images: views (N, 7, 7, 3) uint8, or grid observations, which hold them as `image`.
        tiles: other tiles in the order of `drawn_tiles`; None for minigrid's.

    Returns: (N, 3, 56, 56) uint8.
    """
    views = images["image"] if isinstance(images, Mapping) else images
    cells = views[..., 0].astype(np.intp) * N_COLOURS + views[..., 1]
    cells = cells * N_STATES + views[..., 2]
    tiles = drawn_tiles() if tiles is None else tiles
    drawn = tiles[0][cells]  # (N, column, row, 3, 8, 8)
    column, row = _AGENT_CELL
    drawn[:, column, row] = tiles[1][cells[:, column, row]]
    return np.ascontiguousarray(drawn.transpose(0, 3, 2, 4, 1, 5)).reshape(-1, *PICTURE_SHAPE)


def picture_space() -> spaces.Box:
    """The space of picture observations: uint8 (3, 56, 56), channel first."""
    return spaces.Box(0, 255, PICTURE_SHAPE, np.uint8)


class PictureObservation(gym.ObservationWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Convert MiniGrid's raw observation to the picture of the agent's view."""

    def __init__(self, env: gym.Env[dict[str, Any], Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.observation_space = picture_space()

    def observation(self, observation: dict[str, Any]) -> NDArray[np.uint8]:
        """The picture (3, 56, 56) of the raw observation."""
        picture: NDArray[np.uint8] = draw_pictures(observation["image"][np.newaxis])[0]
        return picture
