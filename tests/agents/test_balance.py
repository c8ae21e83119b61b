"""The auxiliary gradient's size and direction, against the formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_distillation.agents.balance import ReferenceNorm, balanced


def flat(gradients: list[torch.Tensor]) -> np.ndarray:
    return np.concatenate([g.numpy().ravel() for g in gradients])


def gradients(seed: int, scale: float = 1.0) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    return [torch.tensor(scale * rng.standard_normal(shape)) for shape in ((3, 2), (4,))]


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
    auxiliary, rl = gradients(seed, scale), gradients(seed + 1)
    added = flat(balanced(auxiliary, rl, balance="norm", weight=weight, reference=reference))
    assert np.linalg.norm(added) == pytest.approx(weight * reference, rel=1e-6)
    direction = flat(auxiliary) / np.linalg.norm(flat(auxiliary))
    np.testing.assert_allclose(added, weight * reference * direction, rtol=1e-5, atol=1e-9)


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000))
def test_project_drops_only_what_is_against_the_rl_gradient(seed: int) -> None:
    auxiliary, rl = gradients(seed), gradients(seed + 1)
    scaled = flat(balanced(auxiliary, rl, balance="norm", weight=0.3, reference=2.0))
    added = flat(balanced(auxiliary, rl, balance="project", weight=0.3, reference=2.0))
    r = flat(rl)
    if scaled @ r >= 0:
        np.testing.assert_allclose(added, scaled)
    else:
        assert added @ r == pytest.approx(0.0, abs=1e-7)
        np.testing.assert_allclose(added, scaled - (scaled @ r) / (r @ r) * r, rtol=1e-6)


def test_none_is_the_plain_product() -> None:
    auxiliary, rl = gradients(0), gradients(1)
    added = balanced(auxiliary, rl, balance="none", weight=0.25, reference=99.0)
    np.testing.assert_allclose(flat(added), 0.25 * flat(auxiliary))


@pytest.mark.parametrize("balance", ["norm", "project", "none"])
def test_a_zero_gradient_adds_nothing(balance: str) -> None:
    zero = [torch.zeros(3), torch.zeros(2, 2)]
    rl = [torch.ones(3), torch.ones(2, 2)]
    for gradient in balanced(zero, rl, balance=balance, weight=1.0, reference=1.0):
        assert torch.equal(gradient, torch.zeros_like(gradient))


def test_project_without_an_rl_gradient_keeps_the_auxiliary_one() -> None:
    auxiliary, rl = gradients(0), [torch.zeros(3, 2), torch.zeros(4)]
    kept = balanced(auxiliary, rl, balance="project", weight=1.0, reference=0.5)  # type: ignore[arg-type]
    assert np.linalg.norm(flat(kept)) == pytest.approx(0.5)


def test_reference_falls_back_to_a_tenth_of_the_running_median() -> None:
    reference = ReferenceNorm(initial=0.05)
    assert reference.update(0.0) == 0.05
    assert reference.update(1.0) == 1.0
    assert [reference.update(x) for x in (2.0, 3.0)] == [2.0, 3.0]
    assert reference.update(0.0) == pytest.approx(0.2)
    assert list(reference.remembered) == [1.0, 2.0, 3.0]
