"""Grid views as pictures, by looking tiles up instead of drawing them.

The result equals minigrid's `RGBImgPartialObsWrapper(tile_size=8)`, which draws each tile of
each view anew: cells that are seen are highlighted, and the agent is a red triangle on top of
whatever it carries, in the middle of the bottom row.
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
    """All tiles, (2, cells, 3, 8, 8): without the agent on it, and with."""
    from minigrid.core.grid import Grid
    from minigrid.core.world_object import WorldObj

    tiles = np.zeros((2, _N_CELLS, 3, TILE_SIZE, TILE_SIZE), dtype=np.uint8)
    for cell in range(_N_CELLS):
        kind, rest = divmod(cell, _N_COLOURS * _N_STATES)
        colour, state = divmod(rest, _N_STATES)
        try:
            thing = WorldObj.decode(kind, colour, state)
        except (AssertionError, KeyError, ValueError):  # no such thing: never seen
            continue
        for agent in (False, True):
            tile = Grid.render_tile(
                thing,
                agent_dir=_AGENT_LOOKS_UP if agent else None,
                highlight=kind != 0,
                tile_size=TILE_SIZE,
            )
            tiles[int(agent), cell] = tile.transpose(2, 0, 1)
    return tiles


def draw_pictures(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pictures (N, 3, 56, 56) of the grid views `images` (N, 7, 7, 3), both uint8."""
    cells = images[..., 0].astype(np.intp) * _N_COLOURS + images[..., 1]
    cells = cells * _N_STATES + images[..., 2]
    tiles = _tiles()
    drawn = tiles[0][cells]  # (N, column, row, 3, 8, 8)
    column, row = _AGENT_CELL
    drawn[:, column, row] = tiles[1][cells[:, column, row]]
    return np.ascontiguousarray(drawn.transpose(0, 3, 2, 4, 1, 5)).reshape(-1, *PICTURE_SHAPE)
