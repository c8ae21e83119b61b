"""Latent dynamics: the losses against their formulas in loops, actions as vectors, statistics."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contrastive_distillation.losses import (
    InverseDynamics,
    LatentDynamics,
    action_vectors,
    latent_dynamics_losses,
    statistics_loss,
)
from contrastive_distillation.losses.latent_dynamics import keys_in_batch

TEMPERATURE = 0.3


def cosine(x: Tensor, y: Tensor) -> float:
    return float(x @ y / x.norm() / y.norm())


def info_nce_over_rows(predicted: Tensor, features: Tensor, later: Tensor) -> list[list[float]]:
    """Each row against the positives of the other rows, but those that show its own positive."""
    k, n_rows = later.shape
    losses = []
    for i in range(k):
        losses.append([])
        for b in range(n_rows):
            positive = features[later[i, b]]
            own = math.exp(cosine(predicted[i, b], positive) / TEMPERATURE)
            total = own
            for other in range(n_rows):
                if later[i, other] != later[i, b]:
                    key = features[later[i, other]]
                    total += math.exp(cosine(predicted[i, b], key) / TEMPERATURE)
            losses[-1].append(-math.log(own / total))
    return losses


def in_batch(predicted: Tensor, features: Tensor, later: Tensor) -> Tensor:
    keys = keys_in_batch(features, later)
    return latent_dynamics_losses(
        predicted, keys.keys, keys.positives, keys.log_weights, temperature=TEMPERATURE
    )


def problem(seed: int, *, k: int, n_rows: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.randn(k, n_rows, 5, generator=generator, dtype=torch.float64)
    features = torch.randn(m, 5, generator=generator, dtype=torch.float64)
    return predicted, features, torch.randint(m, (k, n_rows), generator=generator)


SIZES = {"seed": st.integers(0, 2**31), "k": st.integers(1, 3), "n_rows": st.integers(1, 6)}


@settings(max_examples=60, deadline=None)
@given(**SIZES, m=st.integers(1, 12))
def test_against_loops(seed: int, k: int, n_rows: int, m: int) -> None:
    """Both forms: distinct keys with counts (m <= n_rows), and a key for each row."""
    predicted, features, later = problem(seed, k=k, n_rows=n_rows, m=m)
    losses = in_batch(predicted, features, later)
    assert losses.shape == (k, n_rows)
    wanted = info_nce_over_rows(predicted, features, later)
    np.testing.assert_allclose(losses, wanted, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(**SIZES, m=st.integers(1, 12), data=st.data())
def test_a_permutation_of_the_batch_permutes_the_losses(seed, k, n_rows, m, data) -> None:
    predicted, features, later = problem(seed, k=k, n_rows=n_rows, m=m)
    order = data.draw(st.permutations(range(n_rows)))
    losses = in_batch(predicted, features, later)
    np.testing.assert_allclose(
        in_batch(predicted[:, order], features, later[:, order]), losses[:, order], atol=1e-12
    )
    numbers = torch.tensor(data.draw(st.permutations(range(m))))
    renumbered = torch.empty_like(features)
    renumbered[numbers] = features
    np.testing.assert_allclose(in_batch(predicted, renumbered, numbers[later]), losses, atol=1e-12)


def test_an_observation_that_no_row_has_later_is_no_key() -> None:
    predicted, features, later = problem(0, k=2, n_rows=6, m=4)
    later = later.clamp(max=2)  # as the anchors, which need not be among the positives
    changed = features.clone()
    changed[3] = 100.0
    torch.testing.assert_close(
        in_batch(predicted, features, later), in_batch(predicted, changed, later)
    )


def test_by_hand() -> None:
    """The prediction hits its positive; one other key is orthogonal, one opposite, twice."""
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    predicted = torch.tensor([[[5.0, 0.0]] * 4])
    losses = in_batch(predicted, features, torch.tensor([[0, 1, 2, 2]]))
    e = math.exp(1 / TEMPERATURE)
    total = e + 1 + 2 / e
    # a row whose positive is seen twice counts itself once, and the other of them not at all
    rest = e + 1 + 1 / e
    wanted = [-math.log(e / total), -math.log(1 / total)]
    wanted += [-math.log(1 / e / rest)] * 2
    np.testing.assert_allclose(losses[0], wanted, rtol=1e-5)


@pytest.mark.parametrize("m", [1, 20])
def test_without_negatives_exactly_zero(m: int) -> None:
    """All rows show one observation later: nothing is to be told apart."""
    predicted, features, _ = problem(0, k=2, n_rows=5, m=m)
    predicted.requires_grad_()
    losses = in_batch(predicted, features, torch.zeros(2, 5, dtype=torch.int64))
    assert (losses == 0.0).all()
    losses.sum().backward()
    assert predicted.grad is not None
    assert predicted.grad.abs().max() < 1e-12


@pytest.mark.parametrize("m", [4, 9])
def test_gradient_is_that_of_the_formula_on_both_sides(m: int) -> None:
    predicted, features, later = problem(1, k=2, n_rows=5, m=m)
    predicted.requires_grad_(), features.requires_grad_()
    assert torch.autograd.gradcheck(lambda p, f: in_batch(p, f, later), (predicted, features))


def test_restarts_are_apart() -> None:
    parts = [problem(seed, k=2, n_rows=5, m=m) for seed, m in ((0, 4), (1, 4))]
    later = parts[0][2]
    together = in_batch(
        torch.stack([part[0] for part in parts]), torch.stack([part[1] for part in parts]), later
    )
    for found, (predicted, features, _) in zip(together, parts, strict=True):
        torch.testing.assert_close(found, in_batch(predicted, features, later))


@pytest.mark.parametrize("residual", [False, True])
def test_predictions_are_steps_of_g_one_after_the_other(residual: bool) -> None:
    torch.manual_seed(0)
    g = LatentDynamics(4, 3, hidden=8, residual=residual).double()
    features, actions = torch.randn(2, 5, 4).double(), torch.randn(5, 3, 3).double()
    found = g.predict(features, actions)
    assert found.shape == (2, 3, 5, 4)
    for r in range(2):
        for b in range(5):
            z = features[r, b]
            for i in range(3):
                change = g.layers(torch.cat([z, actions[b, i]]))
                z = z + change if residual else change
                torch.testing.assert_close(found[r, i, b], z)
    assert torch.autograd.gradcheck(
        lambda f, a: g.predict(f, a), (features.requires_grad_(), actions.requires_grad_())
    )


SPACES: list[tuple[gym.Space[Any], list[Any], list[list[float]]]] = [
    (gym.spaces.Discrete(3), [0, 2], [[1, 0, 0], [0, 0, 1]]),
    (gym.spaces.Discrete(3, start=-1), [-1, 1], [[1, 0, 0], [0, 0, 1]]),
    (gym.spaces.Discrete(2, start=5), [[6], [5]], [[0, 1], [1, 0]]),
    (gym.spaces.MultiDiscrete([2, 3]), [[1, 0], [0, 2]], [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]),
    (
        gym.spaces.MultiDiscrete([2, 2], start=[3, -1]),
        [[3, 0], [4, -1]],
        [[1, 0, 0, 1], [0, 1, 1, 0]],
    ),
    (gym.spaces.MultiDiscrete([[2], [2]]), [[[1], [0]]], [[0, 1, 1, 0]]),
    (gym.spaces.MultiBinary(3), [[1, 0, 1]], [[1, 0, 1]]),
    (gym.spaces.MultiBinary((2, 2)), [[[1, 0], [0, 1]]], [[1, 0, 0, 1]]),
    (gym.spaces.Box(-2, 6, (2,)), [[-2, 6], [2, 0]], [[-1, 1], [0, -0.5]]),
    (gym.spaces.Box(0, 1, (1, 2)), [[[0.25, 1.0]]], [[-0.5, 1.0]]),
    (gym.spaces.Box(-np.inf, np.inf, (1,)), [[7.5]], [[7.5]]),
    (gym.spaces.Box(np.float32([0, 0]), np.float32([np.inf, 4])), [[7, 1]], [[7, -0.5]]),
    (gym.spaces.Box(-3e38, 3e38, (1,)), [[0.5]], [[0.5]]),
    (gym.spaces.Box(0, 255, (1,), dtype=np.uint8), [[255]], [[1.0]]),
]


@pytest.mark.parametrize(("space", "actions", "wanted"), SPACES, ids=[str(s[0]) for s in SPACES])
def test_actions_as_vectors(space, actions, wanted) -> None:
    array = np.array(actions, dtype=space.dtype)
    found = action_vectors(space, array)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted)
    assert found.shape[1] == gym.spaces.flatdim(space)
    assert action_vectors(space, array[:0]).shape == (0, gym.spaces.flatdim(space))


def test_small_integers_do_not_overflow() -> None:
    found = action_vectors(gym.spaces.Discrete(300, start=-100), np.array([-100, 100], np.int8))
    assert found.argmax(axis=1).tolist() == [0, 200]


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (gym.spaces.Discrete(3), 3),
        (gym.spaces.Discrete(3), -1),
        (gym.spaces.Discrete(3, start=2), 1),
        (gym.spaces.MultiDiscrete([2, 3]), [0, -1]),
        (gym.spaces.MultiDiscrete([2, 3]), [2, 0]),
    ],
)
def test_actions_of_another_space(space, action) -> None:
    with pytest.raises(ValueError, match="the memory is of another action space"):
        action_vectors(space, np.array([action]))


def test_actions_that_have_no_vectors() -> None:
    with pytest.raises(ValueError, match=r"actions of Text.* have no latent dynamics; expected a"):
        action_vectors(gym.spaces.Text(3), np.array(["a"]))


def inverse_by_loops(
    head: InverseDynamics, space: gym.Space[Any], before: Tensor, after: Tensor, actions: np.ndarray
) -> list[float]:
    losses = []
    for b in range(len(before)):
        given = head.layers(torch.cat([before[b], after[b]])).tolist()
        action = np.reshape(actions[b], -1)
        if isinstance(space, gym.spaces.Box):
            losses.append(sum((g - float(a)) ** 2 for g, a in zip(given, action, strict=True)))
        elif isinstance(space, gym.spaces.MultiBinary):
            parts = zip(given, action, strict=True)
            losses.append(sum(math.log(1 + math.exp(-g if a else g)) for g, a in parts))
        else:
            sizes = [space.n] if isinstance(space, gym.spaces.Discrete) else space.nvec.reshape(-1)
            total = 0.0
            for size, a in zip(sizes, action, strict=True):
                logits, given = given[:size], given[size:]
                total -= logits[int(a)] - math.log(sum(math.exp(x) for x in logits))
            losses.append(total)
    return losses


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(4),
        gym.spaces.MultiDiscrete([2, 3]),
        gym.spaces.MultiBinary(3),
        gym.spaces.Box(-1, 1, (2,)),
    ],
    ids=str,
)
def test_inverse_dynamics_against_loops(space) -> None:
    torch.manual_seed(0)
    space.seed(0)
    head = InverseDynamics(5, space, hidden=8).double()
    before, after = torch.randn(2, 7, 5).double()
    actions = np.stack([np.asarray(space.sample()) for _ in range(7)])
    vectors = torch.as_tensor(action_vectors(space, actions)).double()
    found = head.loss(before, after, vectors)
    wanted = inverse_by_loops(head, space, before, after, actions)
    np.testing.assert_allclose(found.detach(), wanted, rtol=1e-9)
    both = head.loss(torch.stack([before, after]), torch.stack([after, before]), vectors)
    torch.testing.assert_close(both[0], found)
    torch.testing.assert_close(both[1], head.loss(after, before, vectors))
    assert torch.autograd.gradcheck(
        lambda b, a: head.loss(b, a, vectors), (before.requires_grad_(), after.requires_grad_())
    )


def test_statistics_by_hand() -> None:
    """Mean (1, 2) and covariance ((2, 4), (4, 8)) of two rows.

    They are off by (1, 1) and by ((1, 4), (4, 6)): `|mean - μ|² / tr Σ = 2 / 3`,
    `|cov - Σ|² / |Σ|² = (1 + 16 + 16 + 36) / (1 + 4)`.
    """
    features = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
    mean, covariance = torch.tensor([0.0, 1.0]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    found = statistics_loss(features, mean, covariance)
    assert float(found) == pytest.approx(2 / 3 + 69 / 5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(2, 8))
def test_statistics_are_those_of_numpy(seed: int, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, n, 3, generator=generator, dtype=torch.float64)
    mean, *others = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    covariance = torch.stack(others).T.cov()
    found = statistics_loss(features, mean, covariance)
    for value, rows in zip(found, features.numpy(), strict=True):
        off_mean = ((rows.mean(axis=0) - mean.numpy()) ** 2).sum() / np.trace(covariance)
        error = np.cov(rows.T) - covariance.numpy()
        wanted = off_mean + (error**2).sum() / (covariance.numpy() ** 2).sum()
        assert float(value) == pytest.approx(wanted)
    shuffled = features[:, torch.randperm(n, generator=generator)]
    torch.testing.assert_close(statistics_loss(shuffled, mean, covariance), found)


def test_statistics_of_the_source_itself_are_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    found = statistics_loss(features, features.mean(dim=0), features.T.cov())
    assert float(found) == pytest.approx(0.0, abs=1e-20)
    features.requires_grad_()
    mean, covariance = torch.zeros(4).double(), torch.eye(4).double()
    assert torch.autograd.gradcheck(lambda f: statistics_loss(f, mean, covariance), (features,))


def test_statistics_need_two_rows() -> None:
    with pytest.raises(ValueError, match="statistics of 1 rows; 2 or more are needed"):
        statistics_loss(torch.zeros(1, 3), torch.zeros(3), torch.eye(3))


def test_by_distance_is_the_formula_with_the_prediction_as_one_more_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    features = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    widths = torch.rand(2, 4, generator=generator, dtype=torch.float64) + 0.3
    later = torch.tensor([[0, 1, 2], [1, 1, 0]])
    usable = keys_in_batch(features, later)
    found = latent_dynamics_losses(
        predicted,
        usable.keys,
        usable.positives,
        usable.log_weights,
        temperature=TEMPERATURE,
        widths=widths,
    )
    for i in range(2):
        for b in range(3):
            scores = [-(((predicted[i, b] - key) / widths[i]) ** 2).sum() / 2 for key in features]
            own = math.exp(scores[later[i, b]])
            others = [math.exp(scores[o]) for o in later[i].tolist() if o != later[i, b]]
            assert float(found[i, b]) == pytest.approx(-math.log(own / (own + sum(others) + 1)))


def test_by_distance_stays_exact_and_attracts_where_all_other_keys_are_far() -> None:
    keys = torch.tensor([[1.0, 1.0], [-1.0, 0.5]]).requires_grad_(True)
    predicted = (keys.detach() + 0.001)[None]
    later = torch.tensor([[0, 1]])
    usable = keys_in_batch(keys, later)
    losses = latent_dynamics_losses(
        predicted,
        usable.keys,
        usable.positives,
        usable.log_weights,
        temperature=TEMPERATURE,
        widths=torch.full((1, 2), 0.001),
    )
    assert losses.tolist()[0] == pytest.approx([math.log(1 + math.e)] * 2, rel=1e-3)
    losses.sum().backward()
    assert keys.grad is not None
    assert (keys.grad < -100).all()
