"""Losses on the whole policy, against their formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from contrastive_distillation.losses import EWC, L2SP, QDagger, Rehearsal
from contrastive_distillation.memory import EpisodicMemory


def built(kind, learner, **settings):
    loss = kind(**settings)
    loss.build(learner)
    return loss


@pytest.mark.parametrize("kind", [L2SP, EWC, QDagger])
def test_a_source_policy_is_needed(kind, learner):
    with pytest.raises(ValueError, match=f"{kind.name} needs the policy of a source agent"):
        kind().build(learner)


# -- weights near the source's --------------------------------------------------------------------


def test_l2_sp(learner, source_policy, filled):
    loss = built(L2SP, learner, source_policy=source_policy)
    found = loss(learner, loss.sample(filled(), 8, np.random.default_rng(0)))["l2_sp"]
    start, total = source_policy.weights, 0.0
    for name, parameter in learner.policy.named_parameters():
        for w, w0 in zip(parameter.flatten().tolist(), start[name].flatten().tolist(), strict=True):
            total += 0.5 * (w - w0) ** 2
    assert float(found.detach()) == pytest.approx(total, rel=1e-5)
    assert loss.metrics["distance"] == pytest.approx(math.sqrt(2 * total), rel=1e-5)


def test_l2_sp_pulls_what_is_new_to_zero(learner, source_policy, filled):
    """alpha = .1 and beta = .01: the gradient of a new weight is beta w."""
    learner.policy.extra = torch.nn.Linear(2, 2)
    loss = built(L2SP, learner, source_policy=source_policy)
    found = L2SP.published.weight * loss(learner, loss.sample(filled(), 8, None))["l2_sp"]
    found.backward()
    weight = learner.policy.extra.weight
    torch.testing.assert_close(weight.grad, 0.01 * weight.detach())
    weight = learner.policy.actions.weight
    pull = 0.1 * (weight.detach() - source_policy.actions.weight)
    torch.testing.assert_close(weight.grad, pull)


@pytest.mark.parametrize("kind", [L2SP, EWC])
def test_at_the_source_nothing_pulls(kind, learner, source_policy, filled):
    learner.policy.load_state_dict(source_policy.state_dict())
    loss = built(kind, learner, source_policy=source_policy)
    found = loss(learner, loss.sample(filled(), 8, np.random.default_rng(0)))[kind.name]
    found.backward()
    assert float(found.detach()) == 0.0
    assert (learner.policy.actions.weight.grad == 0).all()


def test_ewc(learner, source_policy, filled):
    loss = built(EWC, learner, source_policy=source_policy, n_fisher=7)
    source, asked = filled(seed=1), []
    source_policy.seen = asked
    found = loss(learner, loss.sample(filled(), 8, np.random.default_rng(0), source))["ewc"]
    (observations,) = asked
    assert len(observations) == 7
    fisher = source_policy.fisher_information(observations)
    total = 0.0
    for name, parameter in learner.policy.named_parameters():
        if name in fisher:
            total += 0.5 * float(
                (fisher[name] * (parameter - source_policy.weights[name]) ** 2).sum()
            )
    assert float(found.detach()) == pytest.approx(total, rel=1e-5)
    assert not any(name.startswith("value") for name in fisher)


def test_fisher_is_computed_once_and_kept(learner, source_policy, filled):
    loss = built(EWC, learner, source_policy=source_policy, n_fisher=7)
    source_policy.seen = []
    for seed in range(3):
        batch = loss.sample(filled(), 8, np.random.default_rng(seed))
    again = built(EWC, learner, source_policy=source_policy)
    again.load_state_dict(loss.state_dict())
    assert again.sample(filled(seed=3), 8, np.random.default_rng(9)) == ()
    assert len(source_policy.seen) == 1
    assert torch.equal(again(learner, batch)["ewc"], loss(learner, batch)["ewc"])


# -- actions like the source's --------------------------------------------------------------------


def test_rehearsal(learner, filled):
    loss, source = built(Rehearsal, learner), filled(seed=1)
    batch = loss.sample(filled(n_values=1), 9, np.random.default_rng(0), source)
    assert (batch.observations.sum(axis=1) > 0).all(), "from the source, not from the own memory"
    found = float(loss(learner, batch)["rehearsal"].detach())
    total = 0.0
    for observation, action in zip(batch.observations, batch.actions, strict=True):
        logits = learner.logits(observation[None])[0].detach().numpy().astype(float)
        total -= math.log(math.exp(logits[action]) / np.exp(logits).sum())
    assert found == pytest.approx(total / 9, rel=1e-5)


def test_rehearsal_pairs_actions_with_their_observations(learner):
    source = EpisodicMemory(capacity=100)
    source.start(n_envs=2, gamma=0.9, tasks=["a"])
    for time in range(20):
        actions = np.array([time % 3, (time + 1) % 3])
        source.add(
            observations=np.tile(actions[:, None], (1, 4)).astype(np.uint8),
            actions=actions,
            rewards=np.zeros(2),
            terminated=np.zeros(2, dtype=bool),
            truncated=np.zeros(2, dtype=bool),
            tasks=np.zeros(2, dtype=np.int64),
            time=time,
        )
    batch = built(Rehearsal, learner).sample(source, 30, np.random.default_rng(0), source)
    assert (batch.observations[:, 0] == batch.actions).all()


@pytest.mark.parametrize("source", [None, EpisodicMemory(capacity=10)])
def test_rehearsal_needs_a_source_memory(learner, filled, source):
    with pytest.raises(ValueError, match="rehearsal needs the memory of a source agent"):
        built(Rehearsal, learner).sample(filled(), 9, np.random.default_rng(0), source)


@pytest.mark.parametrize("kind", [Rehearsal, EWC])
def test_other_agents_are_refused(kind, learner, source_policy):
    learner.acts_by = "other"
    settings = {} if kind is Rehearsal else {"source_policy": source_policy}
    with pytest.raises(ValueError, match=f"{kind.name} needs the action probabilities or action v"):
        built(kind, learner, **settings)


# -- values like the source's ---------------------------------------------------------------------


@pytest.fixture
def dqn(learner, source_policy):
    learner.acts_by = source_policy.acts_by = "values"
    return learner


def test_qdagger(dqn, source_policy, filled):
    loss = built(QDagger, dqn, source_policy=source_policy, temperature=0.5)
    batch = loss.sample(filled(), 9, np.random.default_rng(0))
    found = float(loss(dqn, batch)["qdagger"].detach())
    total = 0.0
    for observation in batch:
        tables = []
        for policy in (source_policy, dqn):
            values = policy.logits(observation[None])[0].detach().numpy().astype(float)
            tables.append(np.exp(values / 0.5) / np.exp(values / 0.5).sum())
        total += sum(t * math.log(t / s) for t, s in zip(*tables, strict=True))
    assert found == pytest.approx(total / 9, rel=1e-5)


def with_returns(returns):
    """Each return is that of one episode of two steps; a last one has not ended."""
    memory = EpisodicMemory(capacity=500)
    memory.start(n_envs=1, gamma=0.5, tasks=["a"])
    for value in [*returns, None]:
        for step in range(2):
            memory.add(
                observations=np.zeros((1, 4), dtype=np.uint8),
                actions=np.zeros(1, dtype=np.int64),
                rewards=np.array([0.0 if step == 0 or value is None else value]),
                terminated=np.array([step == 1 and value is not None]),
                truncated=np.zeros(1, dtype=bool),
                tasks=np.zeros(1, dtype=np.int64),
                time=0,
            )
    return memory


@pytest.mark.parametrize(
    ("student", "teacher", "weight"),
    [
        ([3.0] * 12, [4.0] * 30, 0.25),  # 1 - 3/4
        ([1.0] * 5 + [3.0] * 10, [4.0] * 30, 0.25),  # the last ten
        ([5.0] * 12, [4.0] * 30, 0.0),  # the student is the better one
        ([0.0] * 12, [4.0] * 30, 1.0),
        ([3.0] * 9, [4.0] * 30, 1.0),  # fewer than ten episodes
        ([3.0] * 12, [], 1.0),
        ([-3.0] * 12, [-2.0] * 30, 0.5),  # below 0
        ([-1.0] * 12, [-2.0] * 30, 0.0),
        ([-9.0] * 12, [2.0] * 30, 1.0),
    ],
)
def test_qdagger_weight(dqn, source_policy, student, teacher, weight):
    loss = built(QDagger, dqn, source_policy=source_policy)
    loss.sample(with_returns(student), 4, np.random.default_rng(0), with_returns(teacher))
    assert loss.term_weights(0.5) == {"qdagger": pytest.approx(weight)}


def test_qdagger_looks_again_after_a_thousand_rows(dqn, source_policy):
    loss, teacher = built(QDagger, dqn, source_policy=source_policy), with_returns([4.0] * 20)
    loss.sample(with_returns([0.0] * 12), 4, np.random.default_rng(0), teacher)
    better = with_returns([3.0] * 12)
    loss.sample(better, 4, np.random.default_rng(0), teacher)
    assert loss.term_weights(0)["qdagger"] == 1.0
    again = built(QDagger, dqn, source_policy=source_policy)
    again.load_state_dict(loss.state_dict())
    assert again.term_weights(0)["qdagger"] == 1.0 and int(again.looked_at) == 26
    loss.sample(with_returns([3.0] * 600), 4, np.random.default_rng(0), teacher)
    assert loss.term_weights(0)["qdagger"] == 0.25


def test_qdagger_without_a_source_memory_weighs_1(dqn, source_policy):
    loss = built(QDagger, dqn, source_policy=source_policy)
    loss.sample(with_returns([9.0] * 12), 4, np.random.default_rng(0))
    assert loss.term_weights(0)["qdagger"] == 1.0


def test_qdagger_is_for_values(learner, source_policy):
    with pytest.raises(
        ValueError, match=r"qdagger needs the action values .* kickstarting with PPO"
    ):
        built(QDagger, learner, source_policy=source_policy)


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        (L2SP, "new_share", -1.0, r"new_share is -1\.0; it must be 0 or more"),
        (EWC, "n_fisher", 0, "n_fisher is 0; it must be 1 or more"),
        (QDagger, "temperature", 0, "temperature is 0; it must be above 0"),
    ],
)
def test_out_of_range(kind, name, value, message):
    with pytest.raises(ValueError, match=message):
        kind(**{name: value})
