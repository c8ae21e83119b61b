"""The auxiliary gradient's size and direction, against the formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_distillation.agents.balance import (
    ReferenceNorm,
    add_flattened,
    balanced,
    flattened,
)


def gradient(seed: int, scale: float = 1.0) -> torch.Tensor:
    return torch.tensor(scale * np.random.default_rng(seed).standard_normal(10))


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(1e-6, 1e6),
    weight=st.floats(0.01, 10),
    reference=st.floats(1e-3, 10),
)
def test_norm_is_weight_times_reference_whatever_the_raw_size(
    seed: int, scale: float, weight: float, reference: float
) -> None:
    auxiliary, rl = gradient(seed, scale), gradient(seed + 1)
    added = balanced(auxiliary, rl, balance="norm", weight=weight, reference=reference).numpy()
    assert np.linalg.norm(added) == pytest.approx(weight * reference, rel=1e-6)
    direction = auxiliary / auxiliary.norm()
    np.testing.assert_allclose(added, weight * reference * direction, rtol=1e-5, atol=1e-9)


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000))
def test_project_drops_only_what_is_against_the_rl_gradient(seed: int) -> None:
    auxiliary, rl = gradient(seed), gradient(seed + 1)
    scaled = balanced(auxiliary, rl, balance="norm", weight=0.3, reference=2.0).numpy()
    added = balanced(auxiliary, rl, balance="project", weight=0.3, reference=2.0).numpy()
    r = rl.numpy()
    if scaled @ r >= 0:
        np.testing.assert_allclose(added, scaled)
    else:
        assert added @ r == pytest.approx(0.0, abs=1e-7)
        np.testing.assert_allclose(added, scaled - (scaled @ r) / (r @ r) * r, rtol=1e-6)


def test_none_is_the_plain_product() -> None:
    auxiliary, rl = gradient(0), gradient(1)
    added = balanced(auxiliary, rl, balance="none", weight=0.25, reference=99.0)
    np.testing.assert_allclose(added, 0.25 * auxiliary)


@pytest.mark.parametrize("balance", ["norm", "project", "none"])
def test_a_zero_gradient_adds_nothing(balance: str) -> None:
    zero, rl = torch.zeros(7), torch.ones(7)
    assert torch.equal(balanced(zero, rl, balance=balance, weight=1.0, reference=1.0), zero)


def test_project_without_an_rl_gradient_keeps_the_auxiliary_one() -> None:
    kept = balanced(
        gradient(0), torch.zeros(10).double(), balance="project", weight=1.0, reference=0.5
    )
    assert float(kept.norm()) == pytest.approx(0.5)


def test_gradients_in_one_line_and_back() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (1, 2))]
    given = [torch.arange(6.0).reshape(2, 3).T.contiguous().T, None, torch.ones(1, 2)]
    line = flattened(given, like=parameters)
    assert line.tolist() == [0, 1, 2, 3, 4, 5, 0, 0, 0, 0, 1, 1]
    parameters[1].grad = torch.full((4,), 2.0)
    add_flattened(parameters, line)
    add_flattened(parameters, line)  # now to gradients that are there
    for parameter, gradient, before in zip(parameters, given, (0, 2, 0), strict=True):
        expected = before + 2 * (torch.zeros(4) if gradient is None else gradient)
        assert torch.equal(parameter.grad, expected)
    assert line.tolist() == [0, 1, 2, 3, 4, 5, 0, 0, 0, 0, 1, 1]  # left as it was


def test_reference_falls_back_to_a_tenth_of_the_running_median() -> None:
    reference = ReferenceNorm(initial=0.05)
    assert reference.update(0.0) == 0.05
    assert reference.update(1.0) == 1.0
    assert [reference.update(x) for x in (2.0, 3.0)] == [2.0, 3.0]
    assert reference.update(0.0) == pytest.approx(0.2)
    assert list(reference.remembered) == [1.0, 2.0, 3.0]
