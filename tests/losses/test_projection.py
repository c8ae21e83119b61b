"""Distinct anchors have one query each: the same loss and gradients as one query for every row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from contrastive_distillation.losses import ContrastiveDistillation, projection
from contrastive_distillation.losses.projection import distinct_queries


def head() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 4)


def test_equal_observations_share_a_query() -> None:
    features = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))[[0, 1, 0, 2, 1, 0]]
    found, inverse = distinct_queries(head(), features, np.array([7, 5, 7, -9, 5, 7]))
    assert found.shape == (3, 4)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    expected, none = distinct_queries(head(), features, np.arange(6))
    assert none is None
    torch.testing.assert_close(found[inverse], expected)


def test_features_that_differ_are_never_joined() -> None:
    features = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))  # as dropout gives
    found, inverse = distinct_queries(head(), features, np.zeros(6, np.int64))
    assert inverse is None
    assert found.shape == (6, 4)


@pytest.mark.parametrize("weighted", [False, True])
def test_terms_and_gradients_equal_those_of_a_query_each(
    learner, teacher, filled, monkeypatch, weighted
) -> None:
    negatives = "value_contrast" if weighted else "uniform"
    loss = ContrastiveDistillation(teacher=teacher, n_negatives=16, negatives=negatives)
    loss.build(learner)
    batch = loss.sample(
        filled(n_values=2), 60, np.random.default_rng(0), filled(seed=5, n_values=2)
    )
    parameters = [*learner.encoder.parameters(), *loss.head_parameters()]
    assert len(np.unique(batch.target.hashes)) < 20

    def terms_and_gradients() -> tuple[list[float], list[torch.Tensor], dict[str, float]]:
        terms = loss(learner, batch)
        gradients = torch.autograd.grad(sum(terms.values()), parameters)
        return [term.item() for term in terms.values()], list(gradients), dict(loss.metrics)

    terms, gradients, metrics = terms_and_gradients()
    monkeypatch.setattr(projection, "DISTINCT_SHARE", 0.0)
    plain_terms, plain_gradients, plain_metrics = terms_and_gradients()
    assert terms == pytest.approx(plain_terms, rel=1e-5)
    assert metrics == pytest.approx(plain_metrics)
    torch.testing.assert_close(gradients, plain_gradients)
    assert max(float(gradient.abs().max()) for gradient in gradients) > 1e-3
