"""Augmented temporal contrast, against the formula written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from contrastive_distillation.losses import ATC


@pytest.fixture
def loss(learner):
    torch.manual_seed(3)
    atc = ATC(code_dim=5, hidden_dim=7)
    atc.build(learner)
    return atc


def test_the_formula(loss, learner, filled):
    batch = loss.sample(filled(), 12, np.random.default_rng(0))
    with torch.no_grad():  # the average is not a copy any more
        for parameter in loss.target.parameters():
            parameter.mul_(0.5)
    found = loss(learner, batch)["atc"].detach()
    weights = loss.bilinear.weight
    logits = np.zeros((12, 12))
    with torch.no_grad():
        for i in range(12):
            code = loss.compressor(learner.encoder(batch.anchors[i : i + 1]))[0]
            prediction = code + loss.residual(code)
            for j in range(12):
                key = loss.target.head(loss.target.encoder(batch.positives[j : j + 1]))[0]
                logits[i, j] = float(prediction @ (weights @ key))
    losses = []
    for i in range(12):
        others = [j for j in range(12) if batch.usable[i, j]]
        total = math.exp(logits[i, i]) + sum(math.exp(logits[i, j]) for j in others)
        losses.append(-math.log(math.exp(logits[i, i]) / total))
    assert float(found) == pytest.approx(sum(losses) / 12, rel=1e-5)


def test_positives_come_three_steps_later(learner, filled, monkeypatch):
    atc, memory, asked = ATC(), filled(), []
    atc.build(learner)
    monkeypatch.setattr(memory, "observations", lambda rows: asked.append(rows) or rows)
    batch = atc.sample(memory, 20, np.random.default_rng(0))
    anchors, positives = asked
    assert (memory.steps(positives) == memory.steps(anchors) + 3).all()
    assert (memory.episodes(positives) == memory.episodes(anchors)).all()
    twins = memory.hashes(positives)[:, None] == memory.hashes(positives)
    assert (batch.usable == ~twins).all()


def test_gradient_reaches_encoder_and_heads_but_no_average(loss, learner, filled):
    loss(learner, loss.sample(filled(), 12, np.random.default_rng(0)))["atc"].backward()
    assert all((p.grad != 0).any() for p in learner.encoder.parameters())
    assert all(p.grad is not None for p in loss.head_parameters())
    assert all(p.grad is None for p in loss.target.parameters())
    assert len(loss.head_parameters()) == 2 + 4 + 1


def test_the_average_follows_after_a_step(loss, learner):
    with torch.no_grad():
        loss.compressor.weight.add_(1.0)
    before = loss.target.head.weight.clone()
    loss.after_step(learner)
    torch.testing.assert_close(loss.target.head.weight, before + 0.01)


def test_too_few_rows_are_waited_for(loss, filled):
    assert loss.sample(filled(n_steps=3), 12, np.random.default_rng(0)) is None


def test_equal_observations_give_exactly_nothing(loss, learner, filled):
    batch = loss.sample(filled(n_values=1), 12, np.random.default_rng(0))
    found = loss(learner, batch)["atc"]
    found.backward()
    assert float(found) == 0.0
    assert (learner.encoder.layer.weight.grad == 0).all()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("offset", 0, "offset is 0; it must be 1 or more"),
        ("offset", 1.5, r"offset is 1\.5; expected a whole number"),
        ("momentum", 1.0, r"momentum is 1\.0; it must lie in \[0, 1\)"),
        ("code_dim", 0, "code_dim is 0"),
        ("hidden_dim", "wide", "hidden_dim is 'wide'; expected a number"),
        ("augmentation", "all", "augmentation is 'all'; expected one of auto, pictures, none"),
    ],
)
def test_out_of_range(name, value, message):
    with pytest.raises(ValueError, match=message):
        ATC(**{name: value})
