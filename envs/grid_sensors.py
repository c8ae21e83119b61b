"""Sensors of MiniGrid's and BabyAI's grids: other ids for the same things."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from .colours import colour_permutation, permute_colours
from .sensors import Sensor, derangement, numbered_draws

_N_IDS = (11, 6, 3)  # object types, colours, states
_N_VALUES = np.uint16(256)


@dataclass(frozen=True, kw_only=True)
class _GridSensor(Sensor):
    reads: ClassVar[Literal["grid", "picture", "vector"]] = "grid"

    def changed_box(self, box: spaces.Box) -> spaces.Box:
        """The same space. Raises ValueError unless it is of uint8 (height, width, 3)."""
        if box.dtype != np.uint8 or len(box.shape) != 3 or box.shape[-1] != 3:
            raise ValueError(
                f"{self.family} changes MiniGrid's views, uint8 (height, width, 3) of types, "
                f"colours and states; these observations are {box.dtype} {box.shape}. For vectors "
                f"there are Units, Rotated, Mixed and Distractors."
            )
        return box


@dataclass(frozen=True, kw_only=True)
class Codes(_GridSensor):
    """Every object type, every colour and the states 0 to 2 have another id.

    Each is a derangement: no id stays. Direction and mission do not change.
    """

    def change(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Grid views (…, 3) with the new ids."""
        return _look_up(new_codes(self.number), batch)

    def undo(self, batch: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The plain views (…, 3) behind the changed ones."""
        return _look_up(np.argsort(new_codes(self.number), axis=1).astype(np.uint8), batch)


@dataclass(frozen=True, kw_only=True)
class Colours(_GridSensor):
    """As many colours as the number says change places in a cycle.

    `colours.colour_permutation` names them.
    """

    def __post_init__(self) -> None:
        colour_permutation(self.number)

    def change(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Grid views (…, 3) in the new colours."""
        return permute_colours(batch, colour_permutation(self.number))

    def undo(self, batch: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The plain views (…, 3) behind the changed ones."""
        return permute_colours(batch, np.argsort(colour_permutation(self.number)).astype(np.uint8))


@lru_cache(maxsize=64)
def new_codes(number: int) -> NDArray[np.uint8]:
    """(3, 256) the new id of each type, colour and state of `Codes(number=number)`.

    Values that are not ids stay as they are.
    """
    codes = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    draws = numbered_draws(number, "Codes")
    for channel, n in enumerate(_N_IDS):
        codes[channel, :n] = derangement(n, draws)
    codes.flags.writeable = False
    return codes


def _look_up(codes: NDArray[np.uint8], batch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One look-up for all channels: each has its own part of the flat table."""
    places = batch + np.arange(3, dtype=np.uint16) * _N_VALUES
    changed: NDArray[np.uint8] = np.take(codes.ravel(), places)
    return changed
