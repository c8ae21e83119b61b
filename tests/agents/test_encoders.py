"""Encoding each distinct observation once gives the plain path's outputs and gradients."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_distillation.agents import GridEncoder, PictureEncoder, VectorEncoder
from contrastive_distillation.agents.distinct_rows import distinct_rows

GRID = gym.spaces.Dict(
    image=gym.spaces.Box(0, 10, (7, 7, 3), np.uint8),
    direction=gym.spaces.Box(0, 3, (1,), np.uint8),
    mission=gym.spaces.Box(0, 50, (32,), np.uint8),
)


def grid_batch(n_rows: int, n_distinct: int, seed: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, n_distinct, n_rows)
    parts = {
        "image": rng.integers(0, 11, (n_distinct, 7, 7, 3)),
        "direction": rng.integers(0, 4, (n_distinct, 1)),
        "mission": rng.integers(0, 51, (n_distinct, 32)),
    }
    return {key: torch.tensor(part[chosen], dtype=torch.float32) for key, part in parts.items()}


@settings(max_examples=30, deadline=None)
@given(n_rows=st.integers(1, 80), n_distinct=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_distinct_once_equals_the_plain_path(n_rows: int, n_distinct: int, seed: int) -> None:
    torch.manual_seed(0)
    encoder = GridEncoder(GRID, features_dim=16).double()
    batch = grid_batch(n_rows, n_distinct, seed)
    direction = torch.randn(n_rows, 16, dtype=torch.float64)
    results = []
    for encode_distinct in (False, True):
        encoder.encode_distinct = encode_distinct
        encoder.zero_grad()
        features = encoder(batch)
        (features * direction).sum().backward()
        results.append((features, [p.grad.clone() for p in encoder.parameters()]))
    (plain, plain_gradients), (once, once_gradients) = results
    torch.testing.assert_close(once, plain, rtol=1e-10, atol=1e-10)
    for expected, found in zip(plain_gradients, once_gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(n_rows=st.integers(1, 40), n_distinct=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_distinct_pictures_once_equal_the_plain_path(
    n_rows: int, n_distinct: int, seed: int
) -> None:
    torch.manual_seed(0)
    encoder = PictureEncoder(gym.spaces.Box(0, 255, (3, 37, 36), np.uint8), features_dim=8).double()
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (n_distinct, 3, 37, 36))
    pictures[1:, :, 1:] = pictures[:1, :, 1:]  # told apart by their first lines alone
    batch = torch.tensor(pictures[rng.integers(0, n_distinct, n_rows)]) / 255.0
    direction = torch.randn(n_rows, 8, dtype=torch.float64)
    results = []
    for encode_distinct in (False, True):
        encoder.encode_distinct = encode_distinct
        encoder.zero_grad()
        features = encoder(batch.double())
        (features * direction).sum().backward()
        results.append([features, *(p.grad.clone() for p in encoder.parameters())])
    for plain, once in zip(*results, strict=True):
        torch.testing.assert_close(once, plain, rtol=1e-8, atol=1e-10)


def test_repeated_pictures_are_encoded_once_and_others_as_they_are() -> None:
    encoder = PictureEncoder(gym.spaces.Box(0, 255, (3, 36, 36), np.uint8), features_dim=8)
    encoded: list[int] = []
    encoder.convolutions.register_forward_pre_hook(lambda _, x: encoded.append(len(x[0])))
    pictures = torch.rand(20, 3, 36, 36)
    encoder(pictures)
    encoder(pictures[torch.arange(20) % 3])
    assert encoded == [20, 3]


def test_pictures_whose_hashes_collide_are_encoded_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = PictureEncoder(gym.spaces.Box(0, 255, (3, 36, 36), np.uint8), features_dim=8)
    pictures = torch.rand(6, 3, 36, 36)
    expected = encoder(pictures)
    multipliers = "contrastive_distillation.agents.distinct_rows._multipliers"
    zeros = lambda width, device: torch.zeros(width, dtype=torch.int64)  # noqa: E731
    monkeypatch.setattr(multipliers, zeros)  # every hash collides
    assert torch.equal(encoder(pictures), expected)


@pytest.mark.parametrize("encode_distinct", [False, True])
@pytest.mark.parametrize("size", [(7, 7), (8, 7), (9, 9), (8, 10)])
def test_both_paths_equal_embeddings_and_then_convolutions(
    encode_distinct: bool, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    space = gym.spaces.Dict({**GRID.spaces, "image": gym.spaces.Box(0, 10, (*size, 3), np.uint8)})
    encoder = GridEncoder(space, features_dim=16, encode_distinct=encode_distinct).double()
    batch = grid_batch(20, 20, seed=1)
    batch["image"] = torch.randint(0, 11, (20, *size, 3)).double()
    batch["mission"][:3] = 0  # no word at all
    batch["mission"][3:8, 5:] = 0
    rows, columns = size
    padding = (0, 0, 0, 1 - columns % 2, 0, 1 - rows % 2)  # to odd numbers
    shown = torch.nn.functional.pad(batch["image"], padding).long()
    embedded = sum(encoder.cells(shown[..., channel] + 11 * channel) for channel in range(3))
    views = encoder.convolutions(embedded.permute(0, 3, 1, 2))
    directions = encoder.directions(batch["direction"][:, 0].long())
    words = encoder.words(batch["mission"].long())
    expected = encoder.linear(torch.cat([views, directions, words], dim=1))
    torch.testing.assert_close(encoder(batch), expected, rtol=1e-10, atol=1e-10)


@settings(max_examples=50, deadline=None)
@given(n_rows=st.integers(1, 200), n_distinct=st.integers(1, 60), seed=st.integers(0, 2**31))
def test_representatives_stand_for_equal_rows(n_rows: int, n_distinct: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = torch.tensor(rng.integers(0, 3, (n_distinct, 5))[rng.integers(0, n_distinct, n_rows)])
    representatives, inverse = distinct_rows(codes)
    assert torch.equal(codes[representatives][inverse], codes)
    assert len(representatives) == len(torch.unique(codes, dim=0))


def test_distinct_rows_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    distinct_rows(torch.zeros(3, 17, dtype=torch.int64))
    assert torch.equal(torch.get_rng_state(), before)


def test_widths() -> None:
    picture = PictureEncoder(gym.spaces.Box(0, 255, (3, 56, 56), np.uint8), features_dim=32)
    assert picture(torch.zeros(2, 3, 56, 56)).shape == (2, 32)
    vector = VectorEncoder(gym.spaces.Box(-1, 1, (4,)), features_dim=8, hidden_dims=(6, 7))
    assert vector(torch.zeros(5, 4)).shape == (5, 8)


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (gym.spaces.Dict(direction=GRID["direction"]), "with the key 'image'"),
        (gym.spaces.Dict({**GRID.spaces, "battery": GRID["direction"]}), "not see .* 'battery'"),
        (gym.spaces.Dict(image=gym.spaces.Box(0, 255, (7, 7, 3), np.uint8)), "from 0 to 10"),
        (gym.spaces.Dict(image=gym.spaces.Box(0, 1, (7, 7, 3))), "whole numbers"),
        (gym.spaces.Dict(image=gym.spaces.Box(0, 1, (7, 7, 20), np.uint8)), "20 channels"),
        (
            gym.spaces.Dict(image=GRID["image"], direction=gym.spaces.Discrete(4)),
            r"'direction' is Discrete\(4\)",
        ),
    ],
)
def test_what_a_grid_encoder_would_misread_is_refused(space: gym.spaces.Dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        GridEncoder(space)


def test_small_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        PictureEncoder(gym.spaces.Box(0, 255, (3, 20, 20), np.uint8))


@pytest.mark.parametrize("shape", [(3, 3, 3), (5, 8, 3), (7, 7, 3), (9, 12, 3)])
@pytest.mark.parametrize("with_direction", [False, True])
def test_grids_of_any_size_are_seen_whole(shape: tuple[int, ...], with_direction: bool) -> None:
    """Every cell and the direction count, in both paths alike."""
    parts = {"image": gym.spaces.Box(0, 10, shape, np.uint8)}
    if with_direction:
        parts["direction"] = GRID["direction"]
    torch.manual_seed(0)
    encoder = GridEncoder(gym.spaces.Dict(parts))
    torch.nn.init.normal_(encoder.cells.weight)
    image = torch.randint(0, 11, (1, *shape)).float()
    seen = {"image": image, "direction": torch.ones(1, 1)}
    n_cells = shape[0] * shape[1]
    many = {key: value.repeat(n_cells + 1, *[1] * (value.ndim - 1)) for key, value in seen.items()}
    for cell in range(n_cells):
        many["image"].view(n_cells + 1, n_cells, 3)[cell, cell] += 1
    many["image"] %= 11
    features = encoder(many)
    encoder.encode_distinct = False
    torch.testing.assert_close(encoder(many), features)
    for cell in range(n_cells):
        assert not torch.equal(features[cell], features[-1]), cell
    if with_direction:
        assert not torch.equal(encoder({**seen, "direction": torch.zeros(1, 1)}), features[-1:])
