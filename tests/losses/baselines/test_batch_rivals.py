"""Losses that need no source: info_nce, vicreg, spr, value_contrast_positives, written out."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from contrastive_distillation.losses import SPR, InfoNCE, ValueContrastPositives, VICReg
from contrastive_distillation.losses.baselines.vicreg import Views, vicreg_parts
from contrastive_distillation.memory import EpisodicMemory


def built(kind, learner, **settings):
    torch.manual_seed(3)
    loss = kind(**settings)
    loss.build(learner)
    return loss


def cosine(a, b):
    return float(a @ b / a.norm() / b.norm())


@pytest.mark.parametrize("kind", [InfoNCE, ValueContrastPositives])
def test_pairs_of_cosines(kind, learner, filled):
    loss = built(kind, learner, temperature=0.2, projection_dim=5)
    batch = loss.sample(filled(), 12, np.random.default_rng(0))
    with torch.no_grad():
        found = float(loss(learner, batch)[kind.name])
        queries = [loss.head(learner.encoder(batch.anchors[i : i + 1]))[0] for i in range(12)]
        keys = [loss.head(learner.encoder(batch.positives[i : i + 1]))[0] for i in range(12)]
    losses = []
    for i in range(12):
        others = [j for j in range(12) if j != i and batch.usable[i, j]]
        if others:
            e = {j: math.exp(cosine(queries[i], keys[j]) / 0.2) for j in [i, *others]}
            losses.append(-math.log(e[i] / sum(e.values())))
    assert len(losses) > 1
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert loss.metrics["usable_anchors"] == len(losses)


@pytest.mark.parametrize("kind", [InfoNCE, ValueContrastPositives])
def test_both_sides_take_gradient(kind, learner, filled, monkeypatch):
    loss = built(kind, learner)
    batch = loss.sample(filled(), 12, np.random.default_rng(0))
    seen = []
    encode = learner.encoder.forward
    monkeypatch.setattr(learner.encoder, "forward", lambda o: seen.append(encode(o)) or seen[-1])
    gradients = torch.autograd.grad(loss(learner, batch)[kind.name], seen)
    assert len(gradients) == 2 and all((gradient != 0).any() for gradient in gradients)


def test_info_nce_draws_from_the_current_rollout(learner, filled):
    memory, loss = filled(), built(InfoNCE, learner)
    memory.begin_rollout()
    assert loss.sample(memory, 12, np.random.default_rng(0)) is None
    for time in range(4):
        memory.add(
            observations=np.full((8, 4), 60 + time, dtype=np.uint8),
            actions=np.zeros(8, dtype=np.int64),
            rewards=np.zeros(8),
            terminated=np.zeros(8, dtype=bool),
            truncated=np.zeros(8, dtype=bool),
            tasks=np.zeros(8, dtype=np.int64),
            time=time,
        )
    batch = loss.sample(memory, 32, np.random.default_rng(0))
    assert batch.anchors.min() == 60
    last = batch.anchors[:, 0] == 63  # nothing came later
    assert (~batch.usable[last]).all() and (~batch.usable[:, last]).all()
    assert (batch.positives[~last] > batch.anchors[~last]).all()


# -- VICReg ---------------------------------------------------------------------------------------


def test_vicreg_parts():
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 7, 4)) * [0.1, 0.5, 1.0, 3.0]
    found = vicreg_parts(torch.as_tensor(first), torch.as_tensor(second))
    invariance = sum((first[b, d] - second[b, d]) ** 2 for b in range(7) for d in range(4)) / 28
    variance = covariance = 0.0
    for z in (first, second):
        mean = [sum(z[b, d] for b in range(7)) / 7 for d in range(4)]
        for d in range(4):
            deviation = math.sqrt(sum((z[b, d] - mean[d]) ** 2 for b in range(7)) / 6 + 1e-4)
            variance += 0.5 * max(0.0, 1.0 - deviation) / 4
            for e in range(4):
                if e != d:
                    products = [(z[b, d] - mean[d]) * (z[b, e] - mean[e]) for b in range(7)]
                    covariance += (sum(products) / 6) ** 2 / 4
    assert float(found["invariance"]) == pytest.approx(invariance)
    assert float(found["variance"]) == pytest.approx(variance)
    assert float(found["covariance"]) == pytest.approx(covariance)


def test_vicreg_weighs_its_parts_25_25_1(learner, filled):
    loss = built(VICReg, learner)
    found = float(
        loss(learner, loss.sample(filled(), 9, np.random.default_rng(0)))["vicreg"].detach()
    )
    parts = loss.metrics
    wanted = 25 * parts["invariance"] + 25 * parts["variance"] + parts["covariance"]
    assert found == pytest.approx(wanted, rel=1e-5)
    assert set(parts) == {"invariance", "variance", "covariance"}


def test_vicreg_of_one_observation_is_exactly_nothing(learner):
    loss, one = built(VICReg, learner), np.ones((1, 4), dtype=np.uint8)
    found = loss(learner, Views(one, one))["vicreg"]
    found.backward()
    assert float(found) == 0.0
    assert (learner.encoder.layer.weight.grad == 0).all()


def test_vicreg_forward_changes_nothing_of_its_own(learner, filled):
    loss = built(VICReg, learner)
    batch = loss.sample(filled(), 9, np.random.default_rng(0))
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    loss(learner, batch)
    assert all(torch.equal(tensor, before[name]) for name, tensor in loss.state_dict().items())


# -- SPR ------------------------------------------------------------------------------------------


def test_spr(learner, filled):
    loss = built(SPR, learner, n_steps=3, projection_dim=5)
    batch = loss.sample(filled(), 10, np.random.default_rng(0))
    later = batch.later.reshape(10, 3, 4)
    terms = []
    with torch.no_grad():
        for parameter in loss.target.parameters():
            parameter.mul_(0.5)
        found = float(loss(learner, batch)["spr"])
        for b in range(10):
            z = learner.encoder(batch.observations[b : b + 1])
            for k in range(3):
                action = torch.as_tensor(batch.actions[b, k])[None]
                z = loss.transition(torch.cat([z, action], dim=1))
                predicted = loss.predictor(loss.projection(z))[0]
                wanted = loss.target.head(loss.target.encoder(later[b, k][None]))[0]
                if batch.known[b, k]:
                    normalised = predicted / predicted.norm() - wanted / wanted.norm()
                    terms.append(float(normalised.square().sum()))
    assert 10 < len(terms) < 30
    assert found == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_spr_follows_actions_and_observations_of_one_episode(learner):
    memory = EpisodicMemory(capacity=200)
    memory.start(n_envs=1, gamma=0.9, tasks=["a"])
    for time in range(60):  # observation: time; action: time modulo 3; episodes of 6 steps
        memory.add(
            observations=np.full((1, 4), time, dtype=np.uint8),
            actions=np.array([time % 3]),
            rewards=np.zeros(1),
            terminated=np.array([time % 6 == 5]),
            truncated=np.zeros(1, dtype=bool),
            tasks=np.zeros(1, dtype=np.int64),
            time=time,
        )
    batch = built(SPR, learner).sample(memory, 40, np.random.default_rng(0))
    for b, start in enumerate(batch.observations[:, 0].astype(int)):
        for k in range(5):
            inside = start % 6 + k + 1 < 6
            assert batch.known[b, k] == inside
            if inside:
                assert batch.later[b * 5 + k, 0] == start + k + 1
                assert batch.actions[b, k].tolist() == np.eye(3)[(start + k) % 3].tolist()


def test_spr_takes_actions_of_other_spaces(learner, filled):
    learner.policy.action_space = gym.spaces.Box(-1, 1, (2,))
    loss = built(SPR, learner)
    assert loss._as_numbers(np.array([[0.5, -1.0]], dtype=np.float32)).tolist() == [[0.5, -1.0]]
    learner.policy.action_space = gym.spaces.Discrete(2, start=4)
    loss = built(SPR, learner)
    assert loss._as_numbers(np.array([5, 4])).tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_spr_without_a_later_observation_is_exactly_nothing(learner, filled):
    loss = built(SPR, learner)
    found = loss(learner, loss.sample(filled(n_steps=1), 8, np.random.default_rng(0)))["spr"]
    found.backward()
    assert float(found) == 0.0
    assert (learner.encoder.layer.weight.grad == 0).all()


# -- value-matched positives ----------------------------------------------------------------------


def test_positives_are_worth_as_much_and_negatives_are_not(learner, filled, monkeypatch):
    memory, loss, asked = filled(), built(ValueContrastPositives, learner), []
    monkeypatch.setattr(memory, "observations", lambda rows: asked.append(rows) or rows)
    batch = loss.sample(memory, 40, np.random.default_rng(0))
    anchors, positives = asked
    here, there = memory.returns(anchors), memory.returns(positives)
    valid = memory.return_known(anchors) & (anchors != positives)
    assert valid.sum() > 10
    spread = here[valid].std()
    for i in range(40):
        if valid[i]:
            assert abs(here[i] - there[i]) < 0.2 * spread
            assert memory.episodes(anchors[i : i + 1]) != memory.episodes(positives[i : i + 1])
        for j in range(40):
            wanted = valid[i] and valid[j] and abs(here[i] - there[j]) > 0.1 * spread
            wanted &= memory.hashes(positives)[i] != memory.hashes(positives)[j]
            assert batch.usable[i, j] == wanted


def test_before_returns_vary_nothing_is_learnt(learner):
    memory = EpisodicMemory(capacity=200)
    memory.start(n_envs=4, gamma=0.9, tasks=["a"])
    generator = np.random.default_rng(0)
    for time in range(30):
        memory.add(
            observations=generator.integers(0, 50, (4, 4), dtype=np.uint8),
            actions=np.zeros(4, dtype=np.int64),
            rewards=np.zeros(4),
            terminated=generator.random(4) < 0.2,
            truncated=np.zeros(4, dtype=bool),
            tasks=np.zeros(4, dtype=np.int64),
            time=time,
        )
    loss = built(ValueContrastPositives, learner)
    found = loss(learner, loss.sample(memory, 20, generator))["value_contrast_positives"]
    found.backward()
    assert float(found) == 0.0
    assert (learner.encoder.layer.weight.grad == 0).all()


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        (InfoNCE, "temperature", 0, "temperature is 0; it must be above 0"),
        (InfoNCE, "positive_offset", 0.5, r"positive_offset is 0\.5; it must be 1 or more"),
        (VICReg, "invariance", -1, "invariance is -1; it must be 0 or more"),
        (VICReg, "expander_dim", 0, "expander_dim is 0; it must be 1 or more"),
        (SPR, "n_steps", 0, "n_steps is 0; it must be 1 or more"),
        (SPR, "momentum", float("nan"), "momentum is nan; expected a finite number"),
        (ValueContrastPositives, "projection_dim", 1.5, "expected a whole number"),
    ],
)
def test_out_of_range(kind, name, value, message):
    with pytest.raises(ValueError, match=message):
        kind(**{name: value})
