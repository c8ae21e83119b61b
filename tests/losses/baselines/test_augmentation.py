"""Second views: what may change in them, and what may not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_distillation.losses.baselines.augmentation import (
    augmented,
    cell_dropout,
    is_picture,
    random_shift,
)


def shifted_by_hand(picture: np.ndarray, down: int, right: int) -> np.ndarray:
    """One picture (C, H, W): pad with its edges, then cut out."""
    pad = 4
    padded = np.pad(picture, ((0, 0), (pad, pad), (pad, pad)), mode="edge")
    _, height, width = picture.shape
    return padded[:, pad + down : pad + down + height, pad + right : pad + right + width]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), n_pixels=st.integers(0, 4), last=st.booleans())
def test_a_random_shift_is_one_of_the_shifts(seed: int, n_pixels: int, last: bool) -> None:
    generator = np.random.default_rng(seed)
    pictures = generator.integers(0, 256, (3, 3, 18, 20), dtype=np.uint8)
    given_ = np.moveaxis(pictures, 1, 3) if last else pictures
    found = random_shift(given_, generator, n_pixels)
    assert found.dtype == np.uint8 and found.shape == given_.shape
    found = np.moveaxis(found, 3, 1) if last else found
    offsets = range(-n_pixels, n_pixels + 1)
    for before, after in zip(pictures, found, strict=True):
        shifts = [shifted_by_hand(before, down, right) for down in offsets for right in offsets]
        assert any((after == shift).all() for shift in shifts)


def test_every_shift_occurs() -> None:
    pictures = np.arange(400, dtype=np.uint16).reshape(1, 1, 20, 20).repeat(500, axis=0)
    found = random_shift(pictures, np.random.default_rng(0), 1)
    assert len(np.unique(found.reshape(500, -1), axis=0)) == 9


def test_cells_are_dropped_whole_and_in_proportion() -> None:
    grids = np.full((200, 7, 7, 3), 5, dtype=np.uint8)
    dropped = cell_dropout(grids, np.random.default_rng(0), 0.3)
    assert dropped.dtype == np.uint8
    assert set(np.unique(dropped)) == {0, 5}
    assert (dropped.min(axis=3) == dropped.max(axis=3)).all()
    assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.02)


def test_a_dict_is_augmented_part_by_part() -> None:
    generator = np.random.default_rng(0)
    observations = {
        "image": np.full((50, 7, 7, 3), 5, dtype=np.uint8),
        "direction": np.ones((50, 1), dtype=np.int64),
        "speed": np.ones((50, 4), dtype=np.float32),
        "camera": generator.integers(0, 255, (50, 20, 20, 3), dtype=np.uint8),
    }
    before = {key: part.copy() for key, part in observations.items()}
    view = augmented(observations, generator)
    assert isinstance(view, dict)
    assert (view["direction"] == 1).all()
    assert (view["image"] == 0).any()
    assert (view["camera"] != before["camera"]).any()
    assert view["speed"].dtype == np.float32
    assert (view["speed"] == view["speed"][:, :1]).all()
    assert len(np.unique(view["speed"][:, 0])) == 50
    assert np.abs(view["speed"] - 1).max() <= 0.2
    for key, part in observations.items():
        assert (part == before[key]).all(), "the originals stay"


def test_pictures_only_and_nothing() -> None:
    generator = np.random.default_rng(0)
    grids = np.full((50, 7, 7, 3), 5, dtype=np.uint8)
    vectors = np.ones((50, 4), dtype=np.float32)
    pictures = generator.integers(0, 255, (50, 3, 20, 20), dtype=np.uint8)
    for untouched in (grids, vectors):
        assert augmented(untouched, generator, kind="pictures") is untouched
    assert (augmented(pictures, generator, kind="pictures") != pictures).any()
    assert augmented(pictures, generator, kind="none") is pictures


@pytest.mark.parametrize("shape", [(2, 3, 36, 36), (2, 56, 56, 3), (2, 4, 84, 84)])
def test_pictures_are_known(shape: tuple[int, ...]) -> None:
    assert is_picture(np.zeros(shape))
    assert not is_picture(np.zeros((2, 7, 7, 3)))
