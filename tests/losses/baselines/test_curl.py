"""CURL, against the formula written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from contrastive_distillation.losses import CURL


@pytest.fixture
def loss(learner):
    torch.manual_seed(3)
    curl = CURL()
    curl.build(learner)
    return curl


def test_the_formula(loss, learner, filled):
    batch = loss.sample(filled(), 10, np.random.default_rng(0))
    with torch.no_grad():  # the average is not a copy any more
        for parameter in loss.target.parameters():
            parameter.mul_(0.5)
        found = float(loss(learner, batch)["curl"])
        queries, keys = learner.encoder(batch.anchors), loss.target(batch.positives)
    logits = (queries @ loss.bilinear.weight.detach() @ keys.T).numpy()
    losses = []
    for i in range(10):
        row = [logits[i, j] for j in range(10) if batch.usable[i, j] or j == i]
        top = max(row)  # taken off, as in the paper's pseudo-code
        losses.append(-(logits[i, i] - top) + math.log(sum(math.exp(x - top) for x in row)))
    assert found == pytest.approx(sum(losses) / 10, rel=1e-5)


def test_views_are_of_the_same_observations(loss, learner, filled, monkeypatch):
    memory = filled()
    batch = loss.sample(memory, 10, np.random.default_rng(0))
    assert (batch.anchors == batch.positives).all()  # whole numbers, no picture: as they are
    floats = lambda rows: np.ones((len(rows), 4), dtype=np.float32)  # noqa: E731
    monkeypatch.setattr(memory, "observations", floats)
    batch = loss.sample(memory, 10, np.random.default_rng(0))
    assert (batch.anchors != batch.positives).all()


def test_gradient_reaches_encoder_and_product_but_no_average(loss, learner, filled):
    loss(learner, loss.sample(filled(), 12, np.random.default_rng(0)))["curl"].backward()
    assert all((p.grad != 0).any() for p in learner.encoder.parameters())
    assert (loss.bilinear.weight.grad != 0).any()
    assert all(p.grad is None for p in loss.target.parameters())
    assert loss.head_parameters() == [loss.bilinear.weight]


def test_the_average_follows_after_a_step(loss, learner):
    before = loss.target.average.layer.weight.clone()
    with torch.no_grad():
        learner.encoder.layer.weight.add_(1.0)
    loss.after_step(learner)
    torch.testing.assert_close(loss.target.average.layer.weight, before + 0.05)


def test_equal_observations_give_exactly_nothing(loss, learner, filled):
    found = loss(learner, loss.sample(filled(n_values=1), 12, np.random.default_rng(0)))["curl"]
    found.backward()
    assert float(found) == 0.0
    assert (learner.encoder.layer.weight.grad == 0).all()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("momentum", 1.0, r"momentum is 1\.0; it must lie in \[0, 1\)"),
        ("shift", -1, "shift is -1; it must be 0 or more"),
        ("drop", 1.5, r"drop is 1\.5; it must lie in \[0, 1\]"),
        ("scale", True, "scale is True; expected a number"),
        ("augmentation", "all", "expected one of auto, pictures, none"),
    ],
)
def test_out_of_range(name, value, message):
    with pytest.raises(ValueError, match=message):
        CURL(**{name: value})
