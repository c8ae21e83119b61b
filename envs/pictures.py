"""Grid views as pictures, assembled from a table of tiles.

The result equals minigrid's `RGBImgPartialObsWrapper(tile_size=8)`, which draws every tile of
every view: visible cells are highlighted, and the agent is a red triangle over the object that it
carries, in the middle of the bottom row.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

TILE_SIZE = 8
VIEW_SIZE = 7
PICTURE_SHAPE = (3, VIEW_SIZE * TILE_SIZE, VIEW_SIZE * TILE_SIZE)

_N_TYPES, _N_COLOURS, _N_STATES = 11, 6, 4
_N_CELLS = _N_TYPES * _N_COLOURS * _N_STATES
_AGENT_CELL = (VIEW_SIZE // 2, VIEW_SIZE - 1)
_AGENT_LOOKS_UP = 3


@lru_cache(maxsize=1)
def _tiles() -> NDArray[np.uint8]:
    """All tiles, (2, cells, 3, 8, 8): without and with the agent on them."""
    from minigrid.core.grid import Grid
    from minigrid.core.world_object import WorldObj

    tiles = np.zeros((2, _N_CELLS, 3, TILE_SIZE, TILE_SIZE), dtype=np.uint8)
    for cell in range(_N_CELLS):
        kind, rest = divmod(cell, _N_COLOURS * _N_STATES)
        colour, state = divmod(rest, _N_STATES)
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


def draw_pictures(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw the grid views `images` (N, 7, 7, 3) as pictures (N, 3, 56, 56), both uint8."""
    cells = images[..., 0].astype(np.intp) * _N_COLOURS + images[..., 1]
    cells = cells * _N_STATES + images[..., 2]
    tiles = _tiles()
    drawn = tiles[0][cells]  # (N, column, row, 3, 8, 8)
    column, row = _AGENT_CELL
    drawn[:, column, row] = tiles[1][cells[:, column, row]]
    return np.ascontiguousarray(drawn.transpose(0, 3, 2, 4, 1, 5)).reshape(-1, *PICTURE_SHAPE)
