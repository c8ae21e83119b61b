"""Kickstarting, against the formula written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from contrastive_distillation.losses import Kickstarting


@pytest.fixture
def loss(learner, source_policy):
    kickstarting = Kickstarting(source_policy=source_policy)
    kickstarting.build(learner)
    return kickstarting


def test_the_formula(loss, learner, source_policy, filled):
    batch = loss.sample(filled(), 9, np.random.default_rng(0))
    found = loss(learner, batch)["kickstarting"]
    total = 0.0
    for observation in batch:
        teacher = np.exp(source_policy.logits(observation[None])[0].numpy().astype(float))
        student = np.exp(learner.logits(observation[None])[0].detach().numpy().astype(float))
        teacher, student = teacher / teacher.sum(), student / student.sum()
        total += sum(t * math.log(t / s) for t, s in zip(teacher, student, strict=True))
    assert float(found) == pytest.approx(total / 9, rel=1e-5)


def test_its_gradient_is_that_of_the_papers_cross_entropy(loss, learner, source_policy, filled):
    batch = loss.sample(filled(), 9, np.random.default_rng(0))
    parameters = learner.logit_parameters()
    found = torch.autograd.grad(loss(learner, batch)["kickstarting"], parameters)
    teacher = source_policy.logits(batch).softmax(dim=1)
    cross_entropy = -(teacher * learner.logits(batch).log_softmax(dim=1)).sum(dim=1).mean()
    for one, other in zip(found, torch.autograd.grad(cross_entropy, parameters), strict=True):
        torch.testing.assert_close(one, other)


def test_a_student_like_its_teacher_pays_nothing(learner, filled):
    loss = Kickstarting(source_policy=learner.policy)
    loss.build(learner)
    found = loss(learner, loss.sample(filled(), 9, np.random.default_rng(0)))["kickstarting"]
    assert float(found) == pytest.approx(0.0, abs=1e-7)
    assert loss.metrics["agreement"] == 1.0


def test_observations_are_of_the_current_rollout(loss, filled):
    memory = filled()
    memory.begin_rollout()
    assert loss.sample(memory, 9, np.random.default_rng(0)) is None
    memory.add(
        observations=np.full((8, 4), 7, dtype=np.uint8),
        actions=np.zeros(8, dtype=np.int64),
        rewards=np.zeros(8),
        terminated=np.zeros(8, dtype=bool),
        truncated=np.zeros(8, dtype=bool),
        tasks=np.zeros(8, dtype=np.int64),
        time=0,
    )
    assert (loss.sample(memory, 9, np.random.default_rng(0)) == 7).all()


def test_the_weight_falls_with_each_update_to_its_floor(loss, learner):
    assert loss.term_weights(0.9) == {"kickstarting": 1.0}
    for _ in range(3):
        loss.after_step(learner)
    assert loss.term_weights(0.0) == {"kickstarting": 0.99998**3}
    loss.n_updates.fill_(10**6)
    assert loss.term_weights(0.0) == {"kickstarting": 0.44}


def test_the_papers_numbers(loss):
    """.75, multiplied by .99998 at each update, no lower than .33."""
    weight = Kickstarting.published.weight
    loss.n_updates.fill_(1000)
    assert weight * loss.term_weights(0)["kickstarting"] == pytest.approx(0.75 * 0.99998**1000)
    loss.n_updates.fill_(10**6)
    assert weight * loss.term_weights(0)["kickstarting"] == pytest.approx(0.33)


def test_the_count_is_in_the_state(loss, source_policy):
    loss.n_updates.fill_(17)
    again = Kickstarting(source_policy=source_policy)
    again.load_state_dict(loss.state_dict())
    assert int(again.n_updates) == 17


def test_it_changes_what_the_logits_depend_on(loss, learner):
    changed = {id(p) for p in loss.changed_parameters(learner)}
    policy = learner.policy
    wanted = [*policy.encoder.parameters(), *policy.actions.parameters()]
    assert changed == {id(p) for p in wanted}
    assert loss.head_parameters() == []


def test_a_source_is_needed(learner):
    with pytest.raises(ValueError, match="kickstarting needs the policy of a source agent: pass"):
        Kickstarting().build(learner)


@pytest.mark.parametrize("whose", ["agent", "source policy"])
def test_values_are_refused(learner, source_policy, whose):
    (learner if whose == "agent" else source_policy).acts_by = "values"
    with pytest.raises(ValueError, match=f"which this {whose} does not have; .* qdagger with DQN"):
        Kickstarting(source_policy=source_policy).build(learner)


@pytest.mark.parametrize("name", ["decay", "floor"])
def test_out_of_range(name):
    with pytest.raises(ValueError, match=rf"{name} is 1\.5; it must lie in \[0, 1\]"):
        Kickstarting(**{name: 1.5})
