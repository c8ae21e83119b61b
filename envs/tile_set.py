"""MiniGrid's pictures, drawn with another set of tiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from .picture_sensors import PictureSensor, Pixels
from .pictures import N_COLOURS, N_STATES, N_TYPES, PICTURE_SHAPE, TILE_SIZE, drawn_tiles
from .sensors import numbered_draws

_BLOCKS = 4  # a new tile consists of 4×4 blocks
_N_TILE_BYTES = 3 * TILE_SIZE**2
_LEVELS = (30, 130, 230)  # of red, green and blue


@dataclass(frozen=True, kw_only=True)
class TileSet(PictureSensor):
    """Every object has another drawing, every colour another colour, and so has the agent.

    It changes the pictures of MiniGrid's views alone (`draw_pictures`). Equal tiles stay equal
    and different ones different.
    """

    def changed_box(self, box: spaces.Box) -> spaces.Box:
        """The same space. Raises ValueError unless it is that of MiniGrid's pictures."""
        if box.dtype != np.uint8 or box.shape != PICTURE_SHAPE:
            raise ValueError(
                f"TileSet draws MiniGrid's pictures, uint8 {PICTURE_SHAPE}, with other tiles; "
                f"these are {box.dtype} {box.shape}. Use HueTurned, Inverted, ChannelsMixed or "
                f"Noise."
            )
        return box

    def _change(self, batch: Pixels) -> Pixels:
        n, channels, height, width = batch.shape
        rows, columns, size = height // TILE_SIZE, width // TILE_SIZE, TILE_SIZE
        tiles = batch.reshape(n, channels, rows, size, columns, size).transpose(0, 2, 4, 1, 3, 5)
        drawn = new_tiles(self.number)[_recognise(tiles.reshape(-1, _N_TILE_BYTES))]
        drawn = drawn.reshape(tiles.shape).transpose(0, 3, 1, 4, 2, 5)
        return np.ascontiguousarray(drawn).reshape(batch.shape)


@lru_cache(maxsize=16)
def new_tiles(number: int) -> Pixels:
    """(tiles, 3, 8, 8) the drawings of `TileSet`, in the order of `_distinct_tiles`.

    An object is half of the blocks of its tile, in its colour, on a common background. Where the
    agent stands, half of the tile is a negative.
    """
    draws = numbered_draws(number, "TileSet")
    levels = np.stack(np.meshgrid(*[_LEVELS] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    background, *palette = levels[draws.permutation(len(levels))[: N_COLOURS + 1]]
    shapes = [[_half(draws) for _ in range(N_STATES)] for _ in range(N_TYPES)]
    agent = _half(draws)
    tiles, parts = [], (2, N_TYPES, N_COLOURS, N_STATES)
    for index in _distinct_tiles()[1]:
        with_agent, kind, colour, state = np.unravel_index(index, parts)
        foreground, behind = palette[colour][:, None, None], background[:, None, None]
        tile = np.where(shapes[kind][state], foreground, behind)
        tiles.append(np.where(agent & bool(with_agent), 255 - tile, tile))
    return np.array(tiles, dtype=np.uint8)


def _half(draws: np.random.RandomState) -> NDArray[np.bool_]:
    """(8, 8) a random half of a tile's blocks."""
    chosen = draws.permutation(_BLOCKS**2).reshape(_BLOCKS, _BLOCKS) < _BLOCKS**2 // 2
    size = TILE_SIZE // _BLOCKS
    half: NDArray[np.bool_] = chosen.repeat(size, axis=0).repeat(size, axis=1)
    return half


@lru_cache(maxsize=1)
def _distinct_tiles() -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """The checksum of each distinct tile, in rising order, and a (agent, cell) that it draws."""
    checksums = _checksums(drawn_tiles().reshape(-1, _N_TILE_BYTES))
    return np.unique(checksums, return_index=True)


def _recognise(tiles: Pixels) -> NDArray[np.intp]:
    """The number of each of the tiles (N, 192) in `_distinct_tiles`."""
    known, _ = _distinct_tiles()
    checksums = _checksums(tiles)
    places = np.minimum(np.searchsorted(known, checksums), len(known) - 1)
    if (known[places] != checksums).any():
        raise ValueError(
            "TileSet got a picture with a tile that MiniGrid does not draw; it changes the "
            "pictures of make_env(..., observation='picture') alone"
        )
    return places


def _checksums(tiles: Pixels) -> NDArray[np.int64]:
    weights = np.random.RandomState(0).randint(1, 2**52, tiles.shape[1], dtype=np.int64)
    return tiles.astype(np.int64) @ weights
