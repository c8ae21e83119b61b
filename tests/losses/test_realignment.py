"""The objectives of a realignment, each term against its formula in loops."""

from __future__ import annotations

import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from contrastive_distillation.losses import (
    OBJECTIVES,
    DynamicsSettings,
    Objective,
    SourceDynamics,
    WindowBatch,
    realignment_terms,
    weighted_sum,
)

K, N_ROWS, M, WIDTH, N_ACTIONS, N_RESTARTS = 2, 7, 6, 4, 3, 2


@pytest.fixture
def source() -> SourceDynamics:
    torch.manual_seed(0)
    settings = DynamicsSettings(n_steps=K, hidden=8, temperature=0.3)
    found = SourceDynamics(WIDTH, gym.spaces.Discrete(N_ACTIONS), settings).double()
    found.mean.copy_(torch.randn(WIDTH))
    found.random_mean.copy_(torch.randn(WIDTH))
    found.covariance.copy_(torch.randn(9, WIDTH).T.cov())
    return found.requires_grad_(False)


@pytest.fixture
def features() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N_RESTARTS, M, WIDTH, generator=generator, dtype=torch.float64)


@pytest.fixture
def batch() -> WindowBatch:
    generator = torch.Generator().manual_seed(2)
    seen = torch.randint(M, (N_ROWS, K + 1), generator=generator)
    chosen = torch.randint(N_ACTIONS, (N_ROWS, K), generator=generator)
    actions = torch.nn.functional.one_hot(chosen, N_ACTIONS).double()
    return WindowBatch(seen=seen, actions=actions, usual=seen[:, 0])


def predictions(source: SourceDynamics, features: Tensor, batch: WindowBatch) -> list[list[Tensor]]:
    """By step and row, of one restart's features (M, WIDTH)."""
    found: list[list[Tensor]] = [[] for _ in range(K)]
    for b in range(len(batch.seen)):
        z = features[batch.seen[b, 0]] - source.mean
        for i in range(K):
            z = source.dynamics(z, batch.actions[b, i])
            found[i].append(z)
    return found


def contrast_by_loops(
    source: SourceDynamics, features: Tensor, batch: WindowBatch, keys: list[int] | None = None
) -> float:
    """`L_dyn`, with the rows' positives as keys, or the observations `keys`."""
    predicted = predictions(source, features, batch)
    losses = []
    for i in range(K):
        for b in range(len(batch.seen)):
            positive = int(batch.seen[b, i + 1])

            def score(o: int, z: Tensor = predicted[i][b]) -> float:
                key = features[o] - source.mean
                cosine = float(z @ key / z.norm() / key.norm())
                return math.exp(cosine / source.settings.temperature)

            others = batch.seen[:, i + 1].tolist() if keys is None else keys
            negatives = [o for o in others if o != positive]
            if batch.nearest is not None:
                negatives = nearest(source, features, positive, negatives, batch.nearest)
            total = score(positive) + sum(score(o) for o in negatives)
            losses.append(-math.log(score(positive) / total))
    return sum(losses) / len(losses)


def nearest(
    source: SourceDynamics, features: Tensor, positive: int, negatives: list[int], n: int
) -> list[int]:
    """Those of the n distinct observations nearest to the positive by cosine."""

    def nearness(o: int) -> float:
        x, y = features[o] - source.mean, features[positive] - source.mean
        return float(x @ y / x.norm() / y.norm())

    chosen = sorted(set(negatives), key=nearness, reverse=True)[:n]
    return [o for o in negatives if o in chosen]


def squared_error_by_loops(source: SourceDynamics, features: Tensor, batch: WindowBatch) -> float:
    predicted = predictions(source, features, batch)
    errors = [
        float((predicted[i][b] - (features[batch.seen[b, i + 1]] - source.mean))[d]) ** 2
        for i in range(K)
        for b in range(len(batch.seen))
        for d in range(WIDTH)
    ]
    return sum(errors) / len(errors)


def inverse_by_loops(source: SourceDynamics, features: Tensor, batch: WindowBatch, n: int) -> float:
    losses = []
    for b in range(len(batch.seen)):
        for i in range(n):
            before = features[batch.seen[b, i]] - source.mean
            after = features[batch.seen[b, i + 1]] - source.mean
            logits = source.inverse.layers(torch.cat([before, after]))
            losses.append(-float(logits.log_softmax(dim=0) @ batch.actions[b, i]))
    return sum(losses) / len(losses)


def variance_by_loops(features: Tensor, batch: WindowBatch) -> float:
    """VICReg: `mean_d max(0, 1 - sqrt(var_d + ε))` and `Σ_{d≠e} cov_de² / D`, by a 25th."""
    rows = features[batch.usual].numpy()
    covariance = np.cov(rows.T)
    spread = [max(0.0, 1 - math.sqrt(covariance[d, d] + 1e-4)) for d in range(WIDTH)]
    others = sum(
        covariance[d, e] ** 2 for d in range(WIDTH) for e in range(WIDTH) if d != e
    )  # fmt: skip
    return sum(spread) / WIDTH + others / WIDTH / 25


def terms_of(name: str, features: Tensor, batch: WindowBatch, source: SourceDynamics) -> dict:
    return realignment_terms(OBJECTIVES[name], features, batch, source)


def test_contrast(source, features, batch) -> None:
    found = terms_of("contrast", features, batch, source)
    assert found.keys() == {"contrast"}
    wanted = [contrast_by_loops(source, each, batch) for each in features]
    np.testing.assert_allclose(found["contrast"], wanted, rtol=1e-9)


def test_contrast_with_more_observations_than_rows(source, features, batch) -> None:
    few = WindowBatch(seen=batch.seen[:3], actions=batch.actions[:3], usual=batch.usual)
    found = terms_of("contrast", features, few, source)["contrast"]
    wanted = [contrast_by_loops(source, each, few) for each in features]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_contrast_with_drawn_keys(source, features, batch) -> None:
    """A key drawn twice counts twice, one that shows the row's positive does not count."""
    keys = [0, 0, 0, 1, 4, 5, 5]
    drawn = replace(batch, keys=torch.tensor(keys))
    found = terms_of("contrast", features, drawn, source)["contrast"]
    wanted = [contrast_by_loops(source, each, drawn, keys) for each in features]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 4, 99])
def test_contrast_with_the_nearest_keys(source, features, batch, n) -> None:
    """Of each restart those nearest in its own features."""
    keys = [0, 0, 1, 3, 4, 5, 5]
    drawn = replace(batch, keys=torch.tensor(keys), nearest=n)
    found = terms_of("contrast", features, drawn, source)["contrast"]
    wanted = [contrast_by_loops(source, each, drawn, keys) for each in features]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_contrast_with_keys_that_all_show_the_positive(source, features, batch) -> None:
    alone = replace(batch, seen=torch.full_like(batch.seen, 3), keys=torch.tensor([3, 3]))
    assert terms_of("contrast", features, alone, source)["contrast"].tolist() == [0.0, 0.0]


def test_own_dynamics_take_the_place_of_the_sources(source, features, batch) -> None:
    torch.manual_seed(5)
    own = source.fresh_dynamics().double()
    found = realignment_terms(OBJECTIVES["own_dynamics"], features, batch, source, dynamics=own)
    found["contrast"].sum().backward()
    assert all((p.grad != 0).any() for p in own.parameters())
    source.dynamics = own
    again = terms_of("contrast", features, batch, source)
    torch.testing.assert_close(found["contrast"], again["contrast"])


def test_squared_error(source, features, batch) -> None:
    found = terms_of("squared_error", features, batch, source)
    wanted = [squared_error_by_loops(source, each, batch) for each in features]
    np.testing.assert_allclose(found["squared_error"], wanted, rtol=1e-9)


@pytest.mark.parametrize("changing", [True, False])
def test_inverse_dynamics(source, features, batch, changing) -> None:
    """Of the first step only, where only steps that change something begin a window."""
    source.settings = replace(source.settings, changing=changing)
    found = terms_of("inverse_dynamics", features, batch, source)["inverse"]
    n = 1 if changing else K
    wanted = [inverse_by_loops(source, each, batch, n) for each in features]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_statistics(source, features, batch) -> None:
    """Of the rows' anchors, as often as they are there, not centred by the source's mean."""
    found = terms_of("statistics", features, batch, source)["statistics"]
    for value, each in zip(found, features, strict=True):
        rows = each[batch.usual].numpy()
        covariance = source.covariance.numpy()
        off = ((rows.mean(axis=0) - source.random_mean.numpy()) ** 2).sum() / np.trace(covariance)
        wanted = off + ((np.cov(rows.T) - covariance) ** 2).sum() / (covariance**2).sum()
        assert float(value) == pytest.approx(wanted)


def test_variance(source, features, batch) -> None:
    found = terms_of("squared_error_variance", 0.3 * features, batch, source)["variance"]
    wanted = [variance_by_loops(0.3 * each, batch) for each in features]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective(name, source, features, batch) -> None:
    """Its gradient is that of its terms, no restart's depends on another, rows in any order."""
    objective = OBJECTIVES[name]
    assert objective.name == name

    def total(values: Tensor, rows: WindowBatch = batch) -> Tensor:
        return weighted_sum(objective, realignment_terms(objective, values, rows, source), 3.0)

    features.requires_grad_()
    assert torch.autograd.gradcheck(total, (features,))
    losses = total(features)
    assert losses.shape == (N_RESTARTS,)
    (gradient,) = torch.autograd.grad(losses[0], features)
    assert (gradient[0] != 0).any() and (gradient[1] == 0).all()
    order = torch.tensor([3, 0, 6, 1, 2, 5, 4])
    mixed = WindowBatch(
        seen=batch.seen[order], actions=batch.actions[order], usual=batch.usual[order]
    )
    torch.testing.assert_close(total(features, mixed), losses)
    assert all(parameter.grad is None for parameter in source.parameters())


def test_weighted_sum_by_hand() -> None:
    objective = Objective(name="all", line="", contrast=2.0, inverse=0.5, has_statistics=True)
    terms = {
        "contrast": torch.tensor([1.0, 2.0]),
        "inverse": torch.tensor([4.0, 0.0]),
        "statistics": torch.tensor([0.1, 0.2]),
    }
    assert weighted_sum(objective, terms, 10.0).tolist() == pytest.approx([5.0, 6.0])


def test_what_the_objectives_are() -> None:
    """Rivals differ in their terms, controls in how g came about."""
    terms = {
        name: {
            part
            for part in ("contrast", "inverse", "squared_error", "variance", "has_statistics")
            if getattr(objective, part)
        }
        for name, objective in OBJECTIVES.items()
    }
    assert terms["contrast_statistics"] == {"contrast", "has_statistics"}
    assert terms["contrast_inverse_statistics"] == {"contrast", "inverse", "has_statistics"}
    assert terms["statistics"] == {"has_statistics"}
    assert terms["inverse_dynamics_statistics"] == {"inverse", "has_statistics"}
    assert terms["squared_error_variance"] == {"squared_error", "variance"}
    for name in ("random_dynamics", "shuffled_actions", "own_dynamics"):
        assert terms[name] == {"contrast"}
    by_error = {name for name, each in OBJECTIVES.items() if each.criterion == "squared_error"}
    assert by_error == {name for name in OBJECTIVES if name.startswith("squared_error")}
    assert [n for n, each in OBJECTIVES.items() if each.learns_dynamics] == ["own_dynamics"]
    assert [n for n, each in OBJECTIVES.items() if each.shuffled_actions] == ["shuffled_actions"]
