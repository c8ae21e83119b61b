"""Hashes of whole observations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastive_distillation.memory import concatenate, hash_observations, n_observations, take


@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["uint8", "int64", "float32", "float64", "bool"]),
    n_numbers=st.integers(1, 9),
)
def test_equal_observations_hash_equal_and_others_do_not(
    seed: int, dtype: str, n_numbers: int
) -> None:
    generator = np.random.default_rng(seed)
    array = generator.integers(0, 3, (40, n_numbers)).astype(dtype)
    extra = generator.integers(0, 2, (40, 1), dtype=np.uint8)
    hashes = hash_observations({"a": array, "b": extra})
    both = np.concatenate([array, extra.astype(dtype)], axis=1)
    same = (both[:, None] == both[None]).all(axis=2)
    np.testing.assert_array_equal(hashes[:, None] == hashes, same)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32, np.float64])
def test_every_single_bit_counts(dtype: type) -> None:
    """A linear hash over wide units loses differences that sit in their top bits."""
    zeros = np.zeros((1, 5), dtype=dtype)
    n_bits = zeros.nbytes * 8
    flipped = np.zeros((n_bits, zeros.nbytes), dtype=np.uint8)
    flipped[np.arange(n_bits), np.arange(n_bits) // 8] = 1 << (np.arange(n_bits) % 8)
    hashes = hash_observations(np.concatenate([zeros, flipped.view(dtype)]))
    assert len(np.unique(hashes)) == n_bits + 1


def test_many_grids_do_not_collide() -> None:
    generator = np.random.default_rng(0)
    grids = generator.integers(0, 11, (100_000, 7, 7, 3), dtype=np.uint8)
    assert len(np.unique(hash_observations(grids))) == len(grids)


def test_does_not_depend_on_layout_order_of_keys_or_company() -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 9, (8, 5, 4), dtype=np.uint8)
    direction = generator.integers(0, 4, 8)
    hashes = hash_observations({"image": image, "direction": direction})
    again = hash_observations({"direction": direction, "image": np.asfortranarray(image)})
    np.testing.assert_array_equal(hashes, again)
    alone = [hash_observations({"image": image[i : i + 1], "direction": direction[i : i + 1]})
             for i in range(8)]  # fmt: skip
    np.testing.assert_array_equal(hashes, np.concatenate(alone))
    assert hashes.dtype == np.int64


def test_is_the_same_in_every_process() -> None:
    """Hashes go into files: this number must never change."""
    assert hash_observations(np.arange(6, dtype=np.uint8)[None]).tolist() == [3631358741380577066]


def test_take_and_concatenate() -> None:
    observations = {"a": np.arange(6).reshape(3, 2), "b": np.arange(3)}
    joined = concatenate([take(observations, np.array([2, 0])), take(observations, slice(1, 2))])
    assert isinstance(joined, dict)
    assert joined["b"].tolist() == [2, 0, 1]
    assert n_observations(joined) == 3
    assert concatenate([np.arange(2), np.arange(3)]).tolist() == [0, 1, 0, 1, 2]
    with pytest.raises(ValueError, match="different keys"):
        concatenate([observations, {"a": np.zeros((1, 2))}])
    with pytest.raises(ValueError, match="dtype object"):
        hash_observations(np.array([[None]]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
@pytest.mark.parametrize("shape", [(1, 40_001), (70, 33_001), (9, 2, 700), (600, 7), (3, 4_704)])
def test_hashes_are_the_sum_that_they_are_said_to_be(
    shape: tuple[int, ...], dtype: type[np.generic]
) -> None:
    """Lines of few and of many units, and batches so large that they are cut."""
    generator = np.random.default_rng(1)
    array = generator.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    array[0] = np.iinfo(dtype).max  # the largest sums there are, signs aside
    before = generator.integers(0, 255, (len(array), 6), np.uint8)
    width = array.dtype.itemsize * array[0].size
    units = array.reshape(len(array), -1).view(np.uint8 if width % 2 else np.uint16)
    units = np.concatenate([before.view(np.uint16).astype(np.uint64), units], axis=1)
    constants = np.random.Generator(np.random.PCG64(20_221_211))
    multipliers = constants.integers(0, 2**64, size=units.shape[1], dtype=np.uint64) | np.uint64(1)
    expected = [
        sum(x * c for x, c in zip(line, multipliers.tolist(), strict=True)) % 2**64
        for line in units[[0, -1]].tolist()
    ]
    found = hash_observations({"a": before, "b": array})[[0, -1]].view(np.uint64)
    assert found.tolist() == expected
