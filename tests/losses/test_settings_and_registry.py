"""Losses by name, and numbers in range."""

from __future__ import annotations

import inspect
import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from contrastive_distillation.losses import (
    LOSSES,
    AuxiliaryLoss,
    ContrastiveDistillation,
    make_loss,
)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", 0.0, r"temperature is 0\.0; it must be above 0"),
        ("temperature", float("nan"), "temperature is nan; expected a finite number"),
        ("n_negatives", 0, "n_negatives is 0; it must be 1 or more"),
        ("n_negatives", 2.5, r"n_negatives is 2\.5; expected a whole number"),
        ("n_negatives", "many", "n_negatives is 'many'; expected a number"),
        ("projection_dim", 0, "projection_dim is 0; it must be 1 or more"),
        ("positive_offset", 0.9, r"positive_offset is 0\.9; it must be 1 or more"),
        ("momentum", 1.0, r"momentum is 1\.0; it must lie in \[0, 1\)"),
        ("momentum", -0.1, r"momentum is -0\.1; it must lie in"),
        ("target_weight", -1.0, r"target_weight is -1\.0; it must be 0 or more"),
        ("source_weight", -1.0, r"source_weight is -1\.0; it must be 0 or more"),
        ("window", -1, "window is -1; it must be 0 or more"),
        ("source_anneal", "slowly", "source_anneal is 'slowly'; expected one of"),
    ],
)
def test_out_of_range(name, value, message):
    with pytest.raises(ValueError, match=message):
        ContrastiveDistillation(**{name: value})


def test_unknown_negatives():
    with pytest.raises(ValueError, match=r"unknown negatives 'unifrom'\. Nearest: uniform"):
        ContrastiveDistillation(negatives="unifrom")


def test_no_term_left():
    with pytest.raises(ValueError, match="both 0: no term is left"):
        ContrastiveDistillation(target_weight=0, source_weight=0)


@pytest.mark.parametrize("name", LOSSES)
def test_keywords_are_those_of_the_constructor_without_the_source(name):
    parameters = inspect.signature(LOSSES[name]).parameters
    defaults = {key: parameter.default for key, parameter in parameters.items()}
    plain = {k: v for k, v in defaults.items() if k not in ("teacher", "source_policy", "dynamics")}
    assert make_loss(name).keywords() == plain


def test_by_name():
    loss = make_loss("contrastive_distillation", n_negatives=7)
    assert isinstance(loss, ContrastiveDistillation)
    assert loss.n_negatives == 7
    assert all(LOSSES[name].name == name for name in LOSSES)


class Inverse(AuxiliaryLoss):
    """The example of AuxiliaryLoss's docstring."""

    name = "inverse"

    def build(self, learner):
        n_actions = learner.policy.action_space.n
        self.head = nn.Linear(2 * learner.n_features, n_actions).to(learner.device)

    def forward(self, learner, batch):
        now, then = batch.observations, batch.next_observations
        pairs = torch.cat([learner.encoder(now), learner.encoder(then)], dim=1)
        actions = torch.as_tensor(batch.actions, device=learner.device).long().flatten()
        losses = F.cross_entropy(self.head(pairs), actions, reduction="none")
        known = torch.as_tensor(batch.has_next, device=learner.device)
        return {"inverse": (losses * known).sum() / known.sum().clamp(min=1)}


def test_the_documented_example_works(learner, filled):
    body = "".join(AuxiliaryLoss.__doc__.split())
    for line in (Inverse.build, Inverse.forward):
        source = __import__("inspect").getsource(line)
        assert "".join(source.split()) in body
    learner.policy.action_space = types.SimpleNamespace(n=3)
    loss = Inverse()
    loss.build(learner)
    terms = loss(learner, loss.sample(filled(), 16, np.random.default_rng(0)))
    terms["inverse"].backward()
    assert learner.encoder.layer.weight.grad.abs().sum() > 0
    assert loss.term_weights(0.5).get("inverse", 1.0) == 1.0
    assert [id(p) for p in loss.head_parameters()] == [id(p) for p in loss.head.parameters()]
    assert loss.changed_parameters(learner) == list(learner.encoder.parameters())


def test_default_sample_waits_for_rows(filled):
    memory = filled(n_steps=0)
    assert Inverse().sample(memory, 4, np.random.default_rng(0)) is None
    assert len(Inverse().sample(filled(), 4, np.random.default_rng(0))) == 4


def test_own_loss_by_path(monkeypatch):
    module = types.ModuleType("my_losses")
    module.Inverse = Inverse
    module.Other = int
    monkeypatch.setitem(sys.modules, "my_losses", module)
    assert isinstance(make_loss("my_losses:Inverse"), Inverse)
    with pytest.raises(ValueError, match=r"'Inverze' is not a subclass .* Nearest: Inverse"):
        make_loss("my_losses:Inverze")
    with pytest.raises(ValueError, match="'Other' is not a subclass of AuxiliaryLoss"):
        make_loss("my_losses:Other")
    with pytest.raises(ValueError, match="cannot import module 'no_such_module'"):
        make_loss("no_such_module:Loss")


def test_a_class_says_whether_it_takes_a_teacher_or_a_source_policy():
    class Taught(Inverse):
        def __init__(self, *, teacher=None):
            super().__init__()

    class Narrower(Taught):
        pass

    class Guided(Inverse):
        def __init__(self, *, source_policy=None):
            super().__init__()

    for loss, teacher, policy in (
        (Inverse, False, False),
        (Taught, True, False),
        (Narrower, True, False),
        (Guided, False, True),
        (LOSSES["contrastive_distillation"], True, False),
        (LOSSES["kickstarting"], False, True),
        (LOSSES["rehearsal"], False, False),
    ):
        assert (loss.takes_teacher, loss.takes_source_policy) == (teacher, policy), loss


def test_unknown_loss_or_setting():
    with pytest.raises(ValueError, match=r"unknown loss 'contrastive_dis'\. Nearest: contrastive_"):
        make_loss("contrastive_dis")
    with pytest.raises(ValueError, match=r"no setting 'temprature'\. Nearest: temperature"):
        make_loss("contrastive_distillation", temprature=1)


def test_forward_must_be_written(learner):
    class Empty(AuxiliaryLoss):
        name = "empty"

    with pytest.raises(NotImplementedError, match=r"Empty needs a forward\(learner, batch\)"):
        Empty()(learner, None)
