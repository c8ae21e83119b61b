"""The two terms, against the formula in loops; what may and may not change."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.losses.contrastive_batch import paired_groups
from contrastive_distillation.memory import (
    EpisodicMemory,
    NegativeSampler,
    Pool,
    UniformNegatives,
)


def built(learner, **settings):
    loss = ContrastiveDistillation(**settings)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        loss.build(learner)
    return loss


def target_keys(loss, memory, rows):
    """What the snapshot's networks say of some rows (...): (..., D)."""
    keys = loss.target_keys
    found = keys.snapshot_head(keys.snapshot_encoder(memory.observations(rows.reshape(-1))))
    return found.view(*rows.shape, -1)


def of_anchors(groups, n_anchors):
    """(B, ...): group `b mod G` of (G, ...) for each anchor b."""
    return groups[np.arange(n_anchors) % len(groups)]


def cosine(x, y):
    return float(torch.dot(x, y) / (x.norm() * y.norm()))


def naive_loss(queries, positives, negatives, mask, weights, temperature):
    """Mean over anchors with at least one usable negative, straight from the formula.

    Negatives are (B, K, D), those of each anchor.
    """
    losses = []
    for b in range(len(queries)):
        if not mask[b].any():
            continue
        top = math.exp(cosine(queries[b], positives[b]) / temperature)
        below = top
        for k in range(len(negatives[b])):
            if mask[b, k]:
                similarity = cosine(queries[b], negatives[b, k])
                below += weights[b, k] * math.exp(similarity / temperature)
        losses.append(-math.log(top / below))
    return sum(losses) / max(len(losses), 1)


@torch.no_grad()
@pytest.mark.parametrize("n_anchors", [3, 12, 16, 21])
@pytest.mark.parametrize("negatives", ["uniform", "nearest", "value_contrast"])
def test_target_term_against_loops(learner, filled, negatives, n_anchors):
    loss = built(learner, negatives=negatives, n_negatives=16, temperature=0.3)
    with torch.no_grad():  # so that averages and current weights differ
        learner.encoder.layer.weight.add_(0.3)
        loss.target_head[0].bias.add_(0.2)
    memory = filled()
    batch = loss.sample(memory, n_anchors, np.random.default_rng(0))
    terms = loss(learner, batch)
    weights = np.ones((n_anchors, 16))
    if negatives == "value_contrast":
        weights = np.exp(batch.target.log_weights)
    assert len(batch.target.negative_rows) == (1 if negatives == "uniform" else min(8, n_anchors))
    expected = naive_loss(
        loss.target_head(learner.encoder(batch.anchors)),
        target_keys(loss, memory, batch.target.positive_rows),
        of_anchors(target_keys(loss, memory, batch.target.negative_rows), n_anchors),
        batch.target.mask & (weights > 0),
        weights,
        0.3,
    )
    assert terms.keys() == {"target"}
    assert terms["target"].item() == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("n_anchors", [1, 12, 21])
@pytest.mark.parametrize("negatives", ["uniform", "nearest"])
@pytest.mark.parametrize("with_source_memory", [True, False])
def test_source_term_against_loops(
    learner, teacher, filled, with_source_memory, negatives, n_anchors
):
    loss = built(learner, teacher=teacher, negatives=negatives, n_negatives=16, temperature=0.3)
    memory, source_memory = filled(), filled(seed=5) if with_source_memory else None
    batch = loss.sample(memory, n_anchors, np.random.default_rng(0), source_memory)
    terms = loss(learner, batch)
    mean = loss.source_keys.mean
    drawn = [
        of_anchors(part.observations(rows.reshape(-1)).reshape(*rows.shape, -1), n_anchors)
        for part, rows in zip((memory, source_memory), batch.source.negative_rows, strict=True)
        if rows.size
    ]
    seen = np.concatenate(drawn, axis=1)
    features = teacher(seen.reshape(n_anchors * 16, -1)).view(n_anchors, 16, -1)
    expected = naive_loss(
        loss.source_head(learner.encoder(batch.source_anchors())),
        teacher(batch.source_anchors()) - mean,
        features - mean,
        batch.source.mask,
        np.ones((n_anchors, 16)),
        0.3,
    )
    assert terms.keys() == {"target", "source"}
    assert terms["source"].item() == pytest.approx(expected, rel=1e-5)


def test_source_term_takes_half_from_the_sources_memory(learner, teacher, filled):
    memory, source_memory = filled(), filled(seed=5)
    everything = {tuple(row) for row in source_memory.observations(source_memory.rows())}
    loss = built(learner, teacher=teacher, n_negatives=16, negatives="uniform")
    batch = loss.sample(memory, 12, np.random.default_rng(0), source_memory)
    assert batch.source.n_from_target == 6
    anchors = batch.source_anchors()
    assert [tuple(row) in everything for row in anchors] == [False] * 6 + [True] * 6
    own, others = batch.source.negative_rows
    assert own.shape == others.shape == (1, 8)
    assert set(own[0]) <= set(batch.target.negative_rows[0])
    assert set(others[0]) <= set(source_memory.rows())
    # each anchor is encoded once, for both terms
    learner.encoder.n_encoded = 0
    loss(learner, batch)
    assert learner.encoder.n_encoded == 12 + 6


def test_teachers_mean_is_taken_once_from_the_source(learner, teacher, filled):
    source_memory = filled(seed=5)
    loss = built(learner, teacher=teacher)
    loss.sample(filled(), 12, np.random.default_rng(0), source_memory)
    mean = teacher(source_memory.observations(source_memory.rows())).mean(dim=0)
    torch.testing.assert_close(loss.source_keys.mean, mean)
    loss.sample(filled(seed=7), 12, np.random.default_rng(0), filled(seed=8))
    torch.testing.assert_close(loss.source_keys.mean, mean)


def test_weights_of_negatives(learner, filled):
    class Weighted(UniformNegatives):
        name = "weighted"

        def draw(self, memory, anchors, k, generator, insight):
            rows = super().draw(memory, anchors, k, generator, insight).rows
            weights = generator.random((len(anchors), k)).astype(np.float32)
            weights[0] = 0.0  # an anchor without negatives
            with np.errstate(divide="ignore"):
                return Pool(rows, np.log(weights))

    loss = built(learner, negatives=Weighted(), n_negatives=16, temperature=0.5)
    assert loss.negatives == "weighted"
    memory = filled()
    batch = loss.sample(memory, 12, np.random.default_rng(0))
    with torch.no_grad():
        term = loss(learner, batch)["target"]
        weights = np.exp(batch.target.log_weights)
        expected = naive_loss(
            loss.target_head(learner.encoder(batch.anchors)),
            target_keys(loss, memory, batch.target.positive_rows),
            of_anchors(target_keys(loss, memory, batch.target.negative_rows), 12),
            batch.target.mask & (weights > 0),
            weights,
            0.5,
        )
    assert term.item() == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_metrics_by_loops(learner, filled):
    loss = built(learner, n_negatives=16, negatives="uniform")
    memory = filled(n_values=2)  # 16 different observations: many duplicates
    batch = loss.sample(memory, 40, np.random.default_rng(0))
    loss(learner, batch)
    queries = loss.target_head(learner.encoder(batch.anchors))
    positives = target_keys(loss, memory, batch.target.positive_rows)
    (negatives,) = target_keys(loss, memory, batch.target.negative_rows)
    mask = batch.target.mask
    usable = [b for b in range(40) if mask[b].any()]
    won = [
        all(
            cosine(queries[b], positives[b]) > cosine(queries[b], negatives[k])
            for k in range(16)
            if mask[b, k]
        )
        for b in usable
    ]
    assert loss.metrics["usable_anchors"] == len(usable) < 40
    assert loss.metrics["accuracy"] == pytest.approx(np.mean(won))
    assert loss.metrics["masked_fraction"] == pytest.approx(1 - mask.mean())
    distinct = {tuple(row) for row in memory.observations(batch.target.negative_rows[0])}
    assert loss.metrics["duplicate_rate"] == pytest.approx(1 - len(distinct) / 16)


@torch.no_grad()
@pytest.mark.parametrize("n_anchors", [1, 10, 24, 39])
@pytest.mark.parametrize("n_source_rows", [None, 5, 240])
def test_each_anchor_has_the_negatives_of_its_neighbourhood(
    learner, teacher, filled, n_source_rows, n_anchors
):
    source_memory = None
    if n_source_rows:  # with 5 rows there are but 5 neighbourhoods
        source_memory = filled(n_steps=1, n_envs=5) if n_source_rows == 5 else filled(seed=5)
    loss = built(learner, teacher=teacher, negatives="nearest", n_negatives=16, window=0)
    memory = filled()
    drawn = []
    for sampler in (loss.sampler, loss.source_negatives):
        draw = sampler.draw
        sampler.draw = lambda *inputs, draw=draw: (
            drawn.append((inputs[1], draw(*inputs))) or (drawn[-1][1])
        )
    batch = loss.sample(memory, n_anchors, np.random.default_rng(0), source_memory)
    loss(learner, batch)
    (_, pool), *of_source = drawn
    n_groups = min(8, n_anchors)
    assert pool.rows.shape == (n_groups, 16)
    np.testing.assert_array_equal(batch.target.negative_rows, pool.rows)
    own, others = batch.source.negative_rows
    n_own = batch.source.n_from_target
    for b in range(n_own):
        assert set(own[b % len(own)]) <= set(pool.rows[b % n_groups])
    if source_memory is None:
        assert others.size == 0
    else:
        ((theirs, their_pool),) = of_source
        assert own.shape[1] == 8
        for j in range(len(theirs)):
            group = others[(n_own + j) % len(others)]
            np.testing.assert_array_equal(group, their_pool.rows[j % len(their_pool.rows)])
    masked = 1 - batch.target.mask.sum() / (16 * n_anchors)
    assert loss.metrics["masked_fraction"] == pytest.approx(masked)
    assert loss.metrics["masked_fraction"] < 0.5
    repeated = np.mean([1 - len(set(memory.hashes(group).tolist())) / 16 for group in pool.rows])
    assert loss.metrics["duplicate_rate"] == pytest.approx(repeated)


def test_all_masked_contributes_exactly_nothing(learner, teacher, filled):
    memory = filled(n_values=1)  # every observation is the same
    loss = built(learner, teacher=teacher)
    terms = loss(learner, loss.sample(memory, 12, np.random.default_rng(0), memory))
    assert [term.item() for term in terms.values()] == [0.0, 0.0]
    sum(terms.values()).backward()
    for parameter in [*learner.encoder.parameters(), *loss.head_parameters()]:
        assert parameter.grad is not None
        assert (parameter.grad == 0).all()
    assert loss.metrics["usable_anchors"] == loss.metrics["source_usable_anchors"] == 0
    assert loss.metrics["masked_fraction"] == 1.0
    assert loss.metrics["accuracy"] == 0.0


def test_gradients_reach_the_encoder_and_the_heads_alone(learner, teacher, filled):
    loss = built(learner, teacher=teacher)
    terms = loss(learner, loss.sample(filled(), 12, np.random.default_rng(0)))
    sum(terms.values()).backward()
    learnt = {id(p) for p in [*loss.changed_parameters(learner), *loss.head_parameters()]}
    assert len(learnt) == 2 + 4 + 4
    for parameter in [*learner.encoder.parameters(), *loss.parameters()]:
        if id(parameter) in learnt:
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0
        else:
            assert parameter.grad is None


def test_learning_makes_positives_win(learner, teacher):
    """Eight rooms: states of an episode share the room, and nothing else."""
    memory = EpisodicMemory(capacity=2000)
    generator = np.random.default_rng(0)
    memory.start(n_envs=8, gamma=0.9, tasks=["a"])

    def add(time):
        noise = generator.integers(0, 3, (8, 4), dtype=np.uint8)
        noise[:, 0] = np.arange(8)
        memory.add(
            observations=noise,
            actions=np.zeros(8),
            rewards=np.zeros(8),
            terminated=np.full(8, time % 10 == 9),
            truncated=np.zeros(8, dtype=bool),
            tasks=np.zeros(8, dtype=int),
            time=time,
        )

    for time in range(200):
        add(time)
    loss = built(
        learner, teacher=teacher, momentum=0.9, temperature=0.2, n_negatives=32, refresh_frames=10
    )
    optimizer = torch.optim.Adam([*learner.encoder.parameters(), *loss.head_parameters()], lr=1e-2)
    losses = []
    for time in range(400):
        add(200 + time)
        batch = loss.sample(memory, 32, generator)
        terms = loss(learner, batch)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        loss.after_step(learner)
        losses.append([terms["target"].item(), terms["source"].item()])
    first, last = np.mean(losses[:10], axis=0), np.mean(losses[-10:], axis=0)
    assert (last < 0.8 * first).all()


def test_averages_follow_once_per_step(learner, filled):
    loss = built(learner, momentum=0.75)
    before = (
        loss.target_keys.averaged_head[0].weight.clone(),
        loss.target_keys.averaged_encoder.average.layer.bias.clone(),
    )
    with torch.no_grad():
        loss.target_head[0].weight.add_(1.0)
        learner.encoder.layer.bias.add_(1.0)
    loss(learner, loss.sample(filled(), 12, np.random.default_rng(0)))
    torch.testing.assert_close(loss.target_keys.averaged_head[0].weight, before[0])
    loss.after_step(learner)
    torch.testing.assert_close(loss.target_keys.averaged_head[0].weight, before[0] + 0.25)
    torch.testing.assert_close(
        loss.target_keys.averaged_encoder.average.layer.bias, before[1] + 0.25
    )


def test_draws_from_the_given_generator_alone(learner, teacher, filled):
    memory, source_memory = filled(), filled(seed=5)
    loss = built(learner, teacher=teacher)
    torch.manual_seed(0)
    np.random.seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    outcomes = []
    for _ in range(2):
        batch = loss.sample(memory, 12, np.random.default_rng(4), source_memory)
        outcomes.append({name: term.item() for name, term in loss(learner, batch).items()})
        loss.after_step(learner)
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])
    again = loss(learner, loss.sample(memory, 12, np.random.default_rng(4), source_memory))
    assert {name: term.item() for name, term in again.items()} == outcomes[1]


def test_state_dict_is_everything(learner, teacher, filled):
    memory, source_memory = filled(), filled(seed=5)
    loss, other = (built(learner, teacher=teacher) for _ in range(2))
    with torch.no_grad():
        for parameter in [*loss.head_parameters(), *learner.encoder.parameters()]:
            parameter.add_(0.1)
    loss.sample(memory, 12, np.random.default_rng(0), source_memory)
    loss.after_step(learner)
    other.load_state_dict(loss.state_dict())
    for each in (loss, other):
        batch = each.sample(memory, 12, np.random.default_rng(1), source_memory)
        each.outcome = {name: term.item() for name, term in each(learner, batch).items()}
    assert loss.outcome == other.outcome


def test_in_batch_takes_everything_from_the_rollout(learner, filled):
    memory = filled()
    loss = built(learner, negatives="in_batch", n_negatives=8)
    memory.begin_rollout()
    assert loss.sample(memory, 12, np.random.default_rng(0)) is None
    for time in range(4):
        memory.add(
            observations=np.full((8, 4), 200 + time, dtype=np.uint8),
            actions=np.zeros(8, dtype=np.int64),
            rewards=np.zeros(8),
            terminated=np.zeros(8, dtype=bool),
            truncated=np.zeros(8, dtype=bool),
            tasks=np.zeros(8, dtype=int),
            time=time,
        )
    batch = loss.sample(memory, 12, np.random.default_rng(0))
    drawn = (batch.target.negative_rows, batch.target.positive_rows)
    for observations in (batch.anchors, *(memory.observations(rows) for rows in drawn)):
        assert observations.min() >= 200


def test_samples_what_there_is(learner, teacher):
    memory = EpisodicMemory(capacity=10)
    memory.start(n_envs=3, gamma=0.9, tasks=["a"])
    loss = built(learner, teacher=teacher, negatives="uniform")
    assert loss.sample(memory, 12, np.random.default_rng(0)) is None
    for value in range(2):
        memory.add(
            observations=np.arange(value, 12 + value, dtype=np.uint8).reshape(3, 4),
            actions=np.zeros(3),
            rewards=np.zeros(3),
            terminated=np.zeros(3, dtype=bool),
            truncated=np.zeros(3, dtype=bool),
            tasks=np.zeros(3, dtype=int),
            time=value,
        )
    for source_memory in (None, memory, EpisodicMemory(capacity=5)):
        for n_anchors in (1, 2, 12):
            batch = loss.sample(memory, n_anchors, np.random.default_rng(0), source_memory)
            terms = loss(learner, batch)
            assert all(torch.isfinite(term) for term in terms.values())
            assert len(batch.anchors) == min(n_anchors, 6)


@pytest.mark.parametrize(
    ("anneal", "expected"),
    [("constant", [2, 2, 2]), ("linear", [2, 1.5, 0]), ("cosine", [2, 1 + math.sqrt(0.5), 0])],
)
def test_source_term_anneals(learner, teacher, filled, anneal, expected):
    loss = built(
        learner, teacher=teacher, source_weight=2.0, target_weight=3.0, source_anneal=anneal
    )
    for progress, weight in zip([0.0, 0.25, 1.0], expected, strict=True):
        weights = loss.term_weights(progress)
        assert weights["target"] == 3.0
        assert weights["source"] == pytest.approx(weight, abs=1e-12)
        learner.progress = progress
        terms = loss(learner, loss.sample(filled(), 12, np.random.default_rng(0)))
        assert terms.keys() == {"target", "source"} if weight > 0 else {"target"}


def test_terms_can_be_left_out(learner, teacher, filled):
    source_only = built(learner, teacher=teacher, target_weight=0.0)
    terms = source_only(learner, source_only.sample(filled(), 12, np.random.default_rng(0)))
    assert terms.keys() == source_only.term_weights(0.0).keys() == {"source"}
    assert not hasattr(source_only, "target_keys")
    source_only.after_step(learner)
    for settings in ({"teacher": teacher, "source_weight": 0.0}, {}):
        target_only = built(learner, **settings)
        terms = target_only(learner, target_only.sample(filled(), 12, np.random.default_rng(0)))
        assert terms.keys() == target_only.term_weights(0.0).keys() == {"target"}
    with pytest.raises(ValueError, match="target_weight is 0 and there is no teacher"):
        ContrastiveDistillation(target_weight=0.0)


def test_a_teacher_that_is_none():
    with pytest.raises(ValueError, match="teacher is a int; expected a frozen encoder with n_fea"):
        ContrastiveDistillation(teacher=3)


@pytest.mark.parametrize("of_source", [False, True])
def test_an_own_sampler_that_draws_nonsense_is_named(learner, teacher, filled, of_source):
    class Lost(UniformNegatives):
        def draw(self, memory, anchors, k, generator, insight):
            lost = (memory is not ours) == of_source
            return Pool(np.array([memory.capacity if lost else memory.rows()[0]]))

    ours, loss = filled(), built(learner, teacher=teacher, negatives=Lost())
    with pytest.raises(ValueError, match=r"Lost\.draw gave rows that are not stored"):
        loss.sample(ours, 12, np.random.default_rng(0), filled(seed=5))


def test_own_sampler_by_object():
    class Mine(NegativeSampler):
        name = "mine"

        def draw(self, memory, anchors, k, generator, insight):
            return Pool(memory.rows()[:k])

    assert ContrastiveDistillation(negatives=Mine()).negatives == "mine"


@tried(deadline=None)
@given(g=st.integers(1, 9), h=st.integers(1, 9), n_own=st.integers(0, 40), n=st.integers(1, 40))
def test_paired_groups_leave_each_anchor_its_group(g, h, n_own, n):
    n_anchors = n_own + n
    own, others = paired_groups(np.arange(g)[:, None], np.arange(h)[:, None], n_own, n_anchors)
    assert len(own) == len(others) <= n_anchors
    for b in range(n_own):
        assert own[b % len(own), 0] == b % g
    for b in range(n):
        assert others[(n_own + b) % len(others), 0] == b % h
