"""A second view of observations: pictures shifted, grid cells dropped, vectors scaled."""

from __future__ import annotations

import numpy as np

from contrastive_distillation.memory import Observations

AUGMENTATIONS = ("auto", "pictures", "none")
"""Augment all kinds of observations (`auto`), pictures only, or none."""

_SMALLEST_PICTURE = 16  # pixels; what has fewer rows or columns is a grid of cells


def augmented(
    observations: Observations,
    generator: np.random.Generator,
    *,
    kind: str = "auto",
    shift: int = 4,
    drop: float = 0.1,
    scale: float = 0.2,
) -> Observations:
    """Another view of each of B observations, part by part of a dict; the originals stay.

    * Pictures (B, C, H, W) or (B, H, W, C), 16 pixels or more each way: a random shift by up to
      `shift` pixels, edges repeated (Kostrikov et al. 2020, arXiv 2004.13649; CURL's random crop
      is the same up to the picture's size).
    * Grids (B, H, W, channels) of identifiers, smaller: each cell becomes 0 in every channel
      ("unseen" in MiniGrid) with probability `drop`. Ours: a shift would move the agent.
    * Float vectors (B, D): multiplied by one number from [1 - scale, 1 + scale], random amplitude
      scaling (Laskin et al. 2020, arXiv 2004.14990), which keeps signs and ratios.
    * Whole numbers that are neither (a direction, words of a mission) stay as they are.

    Args:
        observations: (B, ...) or a dict of such.
        generator: the only source of chance.
        kind: one of `AUGMENTATIONS`.
        shift: pixels, >= 0.
        drop: probability of each cell, in [0, 1].
        scale: in [0, 1].
    """
    if kind == "none":
        return observations
    if isinstance(observations, dict):
        views = {}
        for key in sorted(observations):
            view = augmented(
                observations[key], generator, kind=kind, shift=shift, drop=drop, scale=scale
            )
            assert isinstance(view, np.ndarray)
            views[key] = view
        return views
    if observations.ndim == 4:
        if is_picture(observations):
            return random_shift(observations, generator, shift)
        if kind == "auto" and observations.dtype.kind in "iu":
            return cell_dropout(observations, generator, drop)
    elif kind == "auto" and observations.dtype.kind == "f" and observations.ndim == 2:
        factors = generator.uniform(1.0 - scale, 1.0 + scale, (len(observations), 1))
        scaled: np.ndarray = (observations * factors).astype(observations.dtype)
        return scaled
    return observations


def is_picture(observations: np.ndarray) -> bool:
    """Whether (B, a, b, c) are pictures: two of the three lengths are 16 pixels or more."""
    return bool(sorted(observations.shape[1:])[1] >= _SMALLEST_PICTURE)


def random_shift(pictures: np.ndarray, generator: np.random.Generator, n_pixels: int) -> np.ndarray:
    """Each picture moved by up to `n_pixels` along each axis, its edges repeated.

    Args:
        pictures: (B, C, H, W), or (B, H, W, C); the channels' axis is the shortest.
    """
    first = pictures.shape[1] <= min(pictures.shape[2:])
    moved = pictures if first else np.moveaxis(pictures, 3, 1)
    n, _, height, width = moved.shape
    down, right = generator.integers(-n_pixels, n_pixels + 1, (2, n, 1))
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + right, 0, width - 1)
    index = np.arange(n)[:, None, None]
    moved = np.moveaxis(moved, 1, 3)[index, rows[:, :, None], columns[:, None, :]]
    return np.ascontiguousarray(np.moveaxis(moved, 3, 1)) if first else moved


def cell_dropout(grids: np.ndarray, generator: np.random.Generator, share: float) -> np.ndarray:
    """Grids (B, H, W, channels) with cells set to 0 in all channels, each with chance `share`."""
    kept = generator.random(grids.shape[:3]) >= share
    dropped: np.ndarray = grids * kept[..., None].astype(grids.dtype)
    return dropped
