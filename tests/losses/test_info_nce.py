"""InfoNCE against its formula in loops, and where the formula has a closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from contrastive_distillation.losses import info_nce


def naive(positive: Tensor, negative: Tensor, mask: Tensor, log_weights: Tensor) -> list[float]:
    losses = []
    for b in range(len(positive)):
        total = math.exp(positive[b])
        for k in range(negative.shape[1]):
            if mask[b, k]:
                total += math.exp(log_weights[b, k]) * math.exp(negative[b, k])
        losses.append(-math.log(math.exp(positive[b]) / total))
    return losses


def problem(seed: int, n_anchors: int, n_negatives: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    positive = torch.randn(n_anchors, generator=generator, dtype=torch.float64)
    negative = torch.randn(n_anchors, n_negatives, generator=generator, dtype=torch.float64)
    mask = torch.rand(n_anchors, n_negatives, generator=generator) < 0.6
    weights = torch.rand(n_anchors, n_negatives, generator=generator, dtype=torch.float64)
    weights[torch.rand(n_anchors, n_negatives, generator=generator) < 0.2] = 0.0
    return positive, negative, mask, weights.log()


@given(seed=st.integers(0, 2**32 - 1), n_anchors=st.integers(0, 6), n_negatives=st.integers(0, 6))
def test_against_loops(seed: int, n_anchors: int, n_negatives: int) -> None:
    positive, negative, mask, log_weights = problem(seed, n_anchors, n_negatives)
    losses = info_nce(positive, negative, mask=mask, log_weights=log_weights)
    assert losses.shape == (n_anchors,)
    np.testing.assert_allclose(losses, naive(positive, negative, mask, log_weights), atol=1e-12)
    everything, ones = torch.ones_like(mask), torch.zeros_like(log_weights)
    np.testing.assert_allclose(
        info_nce(positive, negative), naive(positive, negative, everything, ones), atol=1e-12
    )


@pytest.mark.parametrize("n_negatives", [1, 7, 128])
def test_equal_logits(n_negatives: int) -> None:
    losses = info_nce(torch.full((3,), 2.5), torch.full((3, n_negatives), 2.5))
    np.testing.assert_allclose(losses, math.log(n_negatives + 1), rtol=1e-6)


def test_by_hand() -> None:
    positive, negative = torch.log(torch.tensor([2.0])), torch.log(torch.tensor([[3.0, 5.0]]))
    half = torch.log(torch.tensor([[0.5, 1.0]]))
    assert info_nce(positive, negative).item() == pytest.approx(math.log(10 / 2))
    weighted = info_nce(positive, negative, log_weights=half)
    assert weighted.item() == pytest.approx(math.log(8.5 / 2))
    masked = info_nce(positive, negative, mask=torch.tensor([[True, False]]), log_weights=half)
    assert masked.item() == pytest.approx(math.log(3.5 / 2))


def test_gradient_is_that_of_the_formula() -> None:
    positive, negative, mask, log_weights = problem(0, 4, 5)
    positive.requires_grad_(), negative.requires_grad_()
    log_weights = log_weights.clamp(min=-5.0)
    assert torch.autograd.gradcheck(
        lambda p, n: info_nce(p, n, mask=mask, log_weights=log_weights), (positive, negative)
    )


@pytest.mark.parametrize("how", ["mask", "weights", "no negatives"])
def test_without_usable_negatives_exactly_zero_and_zero_gradient(how: str) -> None:
    n_negatives = 0 if how == "no negatives" else 3
    positive = torch.tensor([3.7, -0.2], requires_grad=True)
    negative = torch.randn(2, n_negatives, requires_grad=True)
    mask = log_weights = None
    if how == "mask":
        mask = torch.zeros(2, 3, dtype=torch.bool)
    if how == "weights":
        log_weights = torch.full((2, 3), -torch.inf)
    losses = info_nce(positive, negative, mask=mask, log_weights=log_weights)
    assert losses.tolist() == [0.0, 0.0]
    losses.sum().backward()
    assert positive.grad is not None
    assert positive.grad.tolist() == [0.0, 0.0]
    assert negative.grad is not None
    assert (negative.grad == 0).all()


def test_masked_logits_have_no_influence() -> None:
    positive, negative = torch.zeros(1), torch.tensor([[1.0, torch.nan, 1e30]], requires_grad=True)
    loss = info_nce(positive, negative, mask=torch.tensor([[True, False, False]]))
    assert loss.item() == pytest.approx(math.log(1 + math.e))
    loss.sum().backward()
    assert negative.grad is not None
    assert torch.isfinite(negative.grad).all()
    assert negative.grad[0, 1:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("size", [200.0, -200.0])
def test_large_logits(size: float) -> None:
    positive = torch.tensor([size], requires_grad=True)
    negative = torch.tensor([[-size, 0.0]], requires_grad=True)
    loss = info_nce(positive, negative)
    assert loss.item() == pytest.approx(max(0.0, -2 * size))
    loss.sum().backward()
    assert positive.grad is not None
    assert torch.isfinite(positive.grad).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positive_logits": torch.zeros(2, 1)}, r"positive_logits has shape \(2, 1\)"),
        ({"negative_logits": torch.zeros(3, 4)}, r"shape \(3, 4\); expected \(2, K\)"),
        ({"mask": torch.ones(2, 3, dtype=torch.bool)}, r"mask has shape \(2, 3\)"),
        ({"mask": torch.ones(2, 4)}, r"expected torch\.bool, True = usable"),
        ({"log_weights": torch.zeros(4)}, r"log_weights has shape \(4,\)"),
        ({"negative_logits": torch.zeros(2, 4, dtype=torch.int64)}, "must be floating point"),
    ],
)
def test_wrong_shapes(arguments: dict[str, Tensor], message: str) -> None:
    good = {"positive_logits": torch.zeros(2), "negative_logits": torch.zeros(2, 4)}
    with pytest.raises(ValueError, match=message):
        info_nce(**{**good, **arguments})
