"""Other colours for the same grid: a permutation of the six colour ids.

Under a permutation equal colours stay equal, so a key still has the colour of its door. A
permutation moves at least two colours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RED, GREEN, BLUE, PURPLE, YELLOW, GREY = range(6)
_ORDER = (YELLOW, BLUE, GREEN, GREY, RED)
_FIRST_COLOURED = 2  # types 0 (unseen) and 1 (empty) have no colour


def colour_permutation(n_moved: int) -> NDArray[np.uint8]:
    """The new id of each colour, (6,) uint8, if `n_moved` colours are permuted in a cycle.

    2 exchanges yellow and blue (DoorKey's key and door), 3 adds green (the goal), 4 grey (the
    walls) and 5 red. Raises ValueError for any number but 0, 2, 3, 4 or 5.
    """
    if n_moved not in (0, 2, 3, 4, 5):
        raise ValueError(f"n_moved must be 0, 2, 3, 4 or 5 colours, got {n_moved}")
    new_colours = np.arange(6, dtype=np.uint8)
    moved = list(_ORDER[:n_moved])
    new_colours[moved] = moved[1:] + moved[:1]
    return new_colours


def permute_colours(images: NDArray[np.uint8], new_colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grid views `images` (…, 7, 7, 3) with the colour of every object replaced."""
    result = images.copy()
    coloured = images[..., 0] >= _FIRST_COLOURED
    result[..., 1] = np.where(coloured, new_colours[images[..., 1]], images[..., 1])
    return result
