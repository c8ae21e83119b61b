"""Sensors of pictures, uint8 with three colour channels, first (3, H, W) or last (H, W, 3)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from .pictures import draw_pictures, drawn_tiles
from .sensors import Sensor, derangement, numbered_draws

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class PictureSensor(Sensor):
    """A sensor that changes each pixel on its own, unless a subclass says otherwise."""

    reads: ClassVar[Literal["grid", "picture", "vector"]] = "picture"

    def changed_box(self, box: spaces.Box) -> spaces.Box:
        """The same shape. Raises ValueError unless it is uint8 with three channels."""
        if box.dtype != np.uint8 or len(box.shape) != 3 or 3 not in (box.shape[0], box.shape[-1]):
            raise ValueError(
                f"{self.family} changes pictures of three colours, uint8 (3, height, width) or "
                f"(height, width, 3); these are {box.dtype} {box.shape}. Put the sensor around the "
                f"environment before grey scales and frame stacks."
            )
        return spaces.Box(0, 255, box.shape, np.uint8)

    def change(self, batch: Pixels) -> Pixels:
        """Pictures (N, …) as the sensor shows them."""
        if batch.shape[1] == 3:
            return self._change(batch)
        changed = self._change(np.moveaxis(batch, -1, 1))
        return np.ascontiguousarray(np.moveaxis(changed, 1, -1))

    def draw(self, views: Pixels) -> Pixels:
        """`change(draw_pictures(views))` of grid views (N, 7, 7, 3), from changed tiles."""
        return draw_pictures(views, tiles=_changed_tiles(self))

    def _change(self, batch: Pixels) -> Pixels:
        """Pictures (N, 3, H, W) as the sensor shows them."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Pictures(PictureSensor):
    """A grid becomes its picture, and a picture stays as it is."""

    number: int = 0

    def __call__(self, observations: Any) -> Any:
        """Pictures (N, 3, 56, 56) of grid observations, which hold views as `image`."""
        if isinstance(observations, Mapping):
            return draw_pictures(observations)
        return super().__call__(observations)

    def _change(self, batch: Pixels) -> Pixels:
        return batch.copy()


@dataclass(frozen=True, kw_only=True)
class HueTurned(PictureSensor):
    """Every hue is turned by one angle between 60° and 300°; greys stay."""

    @property
    def angle(self) -> float:
        """In degrees."""
        return float(numbered_draws(self.number, self.family).uniform(60, 300))

    def _change(self, batch: Pixels) -> Pixels:
        return turn_hue(batch, self.angle)


@dataclass(frozen=True, kw_only=True)
class Inverted(PictureSensor):
    """The negative, with a contrast of each channel: 255 (1 - x / 255)^γ, γ from 0.8 to 1.25."""

    def _change(self, batch: Pixels) -> Pixels:
        channels = np.arange(3)[:, np.newaxis, np.newaxis]
        changed: Pixels = _negatives(self.number)[channels, batch]
        return changed


@dataclass(frozen=True, kw_only=True)
class ChannelsMixed(PictureSensor):
    """Each channel becomes a mean of all three, at least half of it another channel."""

    def _change(self, batch: Pixels) -> Pixels:
        shares = np.rint(mixture(self.number) * 2**16).astype(np.int32)  # exact sums
        red, green, blue = (shares[:, i, None, None] * batch[:, i : i + 1] for i in range(3))
        mixed: Pixels = ((red + green + blue + 2**15) >> 16).astype(np.uint8)
        return mixed


@dataclass(frozen=True, kw_only=True)
class Noise(PictureSensor):
    """One of 64 fixed patterns of noise, from -30 to 30, is added to each picture.

    A checksum of the picture chooses the pattern, so that the sensor is a function: equal pictures
    have equal noise.
    """

    def draw(self, views: Pixels) -> Pixels:
        """`change(draw_pictures(views))` of grid views (N, 7, 7, 3)."""
        return self.change(draw_pictures(views))

    def _change(self, batch: Pixels) -> Pixels:
        patterns = _patterns(self.number, batch.shape[1:])
        chosen = [zlib.crc32(each.tobytes()) % len(patterns) for each in batch]
        noise = patterns[np.array(chosen, dtype=np.intp)]
        noisy: Pixels = np.clip(batch + noise, 0, 255).astype(np.uint8)
        return noisy


def turn_hue(batch: Pixels, angle: float) -> Pixels:
    """Pictures (N, 3, H, W) with every hue turned by `angle` degrees, in HSV."""
    red, green, blue = np.moveaxis(batch.astype(np.float32), 1, 0)
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    divisor = np.where(chroma > 0, chroma, 1)
    hue = np.where(value == blue, 4 + (red - green) / divisor, 0)
    hue = np.where(value == green, 2 + (blue - red) / divisor, hue)
    hue = np.where(value == red, (green - blue) / divisor, hue) + np.float32(angle / 60)
    places = (np.array([5, 3, 1], dtype=np.float32)[:, None, None] + hue[:, None]) % 6
    ramp = np.clip(np.minimum(places, 4 - places), 0, 1)
    turned: Pixels = np.rint(value[:, None] - chroma[:, None] * ramp).astype(np.uint8)
    return turned


@lru_cache(maxsize=64)
def mixture(number: int) -> NDArray[np.float64]:
    """(3, 3) the share of each old channel (column) in each of `ChannelsMixed`'s (row)."""
    draws = numbered_draws(number, "ChannelsMixed")
    shares: NDArray[np.float64] = np.eye(3)[derangement(3, draws)]
    return (shares + draws.dirichlet(np.ones(3), size=3)) / 2


@lru_cache(maxsize=64)
def _negatives(number: int) -> Pixels:
    """(3, 256) the new value of each value, by channel."""
    powers = 1.25 ** numbered_draws(number, "Inverted").uniform(-1, 1, (3, 1))
    return np.rint(255 * (1 - np.arange(256) / 255) ** powers).astype(np.uint8)


@lru_cache(maxsize=8)
def _patterns(number: int, shape: tuple[int, ...]) -> NDArray[np.int16]:
    """The 64 patterns of `Noise`."""
    return numbered_draws(number, "Noise").randint(-30, 31, (64, *shape)).astype(np.int16)


@lru_cache(maxsize=64)
def _changed_tiles(sensor: PictureSensor) -> Pixels:
    """The tiles of MiniGrid's pictures as the sensor shows them."""
    tiles = drawn_tiles()
    return sensor.change(tiles.reshape(-1, *tiles.shape[2:])).reshape(tiles.shape)
