"""Losses that learn from the frozen source encoder, against their formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from contrastive_distillation.losses import CRD, FeatureMatching, PrototypeRelation
from contrastive_distillation.losses.baselines.crd import binary_nce
from contrastive_distillation.losses.baselines.prototype_relation import cluster_means

KINDS = [FeatureMatching, CRD, PrototypeRelation]


def built(kind, learner, teacher, **settings):
    torch.manual_seed(3)
    loss = kind(teacher=teacher, **settings)
    loss.build(learner)
    return loss


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_is_needed(kind, learner):
    with pytest.raises(ValueError, match=f"{kind.name} needs the frozen encoder of a source agent"):
        kind().build(learner)


@pytest.mark.parametrize("kind", KINDS)
def test_half_of_the_observations_are_the_sources(kind, learner, teacher, filled):
    loss = built(kind, learner, teacher)
    memory, source = filled(n_values=1), filled(n_values=50, seed=1)
    batch = loss.sample(memory, 20, np.random.default_rng(0), source)
    anchors = batch.anchors if kind is CRD else batch
    assert len(anchors) == 20
    assert (anchors[:10] == 0).all() and (anchors[10:].sum(axis=1) > 0).all()
    alone = loss.sample(memory, 20, np.random.default_rng(0))
    anchors = alone.anchors if kind is CRD else alone
    assert len(anchors) == 20 and (anchors == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_encoder_and_heads_but_no_teacher(kind, learner, teacher, filled):
    loss = built(kind, learner, teacher)
    loss(learner, loss.sample(filled(), 16, np.random.default_rng(0)))[kind.name].backward()
    assert all((p.grad != 0).any() for p in learner.encoder.parameters())
    heads = loss.head_parameters()
    assert heads and all((p.grad != 0).any() for p in heads)
    assert not {id(p) for p in heads} & {id(p) for p in teacher.parameters()}
    assert all(p.grad is None for p in teacher.parameters())


def test_feature_matching(learner, teacher, filled):
    loss = built(FeatureMatching, learner, teacher)
    batch = loss.sample(filled(), 9, np.random.default_rng(0))
    with torch.no_grad():
        found = float(loss(learner, batch)["feature_matching"])
        total = 0.0
        for observation in batch:
            wanted = teacher(observation[None])[0]
            predicted = loss.regressor(learner.encoder(observation[None]))[0]
            total += 0.5 * sum(float(x) ** 2 for x in wanted - predicted)
    assert found == pytest.approx(total / 9, rel=1e-5)


def test_explained_is_one_where_the_teacher_is_hit(learner, teacher, filled):
    loss = built(FeatureMatching, learner, learner.encoder)
    with torch.no_grad():
        loss.regressor.weight.copy_(torch.eye(6))
        loss.regressor.bias.zero_()
    loss(learner, loss.sample(filled(), 9, np.random.default_rng(0)))
    assert loss.metrics["explained"] == pytest.approx(1.0)


def test_crd(learner, teacher, filled):
    """Tian et al. 2019, equations 10 and 19, term by term."""
    loss = built(CRD, learner, teacher, n_negatives=11)
    memory, source = filled(), filled(seed=1)
    batch = loss.sample(memory, 6, np.random.default_rng(0), source)
    assert batch.features.shape == (17, 6) and batch.n_rows == len(memory) + len(source)
    with torch.no_grad():
        found = float(loss(learner, batch)["crd"])
        losses = []
        for i in range(6):
            student = loss.student_head(learner.encoder(batch.anchors[i : i + 1]))[0]

            def h(features, student=student):
                key = loss.teacher_head(torch.as_tensor(features))
                cosine = float(student @ key / student.norm() / key.norm())
                e = math.exp(cosine / 0.07)
                return e / (e + 11 / batch.n_rows)

            total = -math.log(h(batch.features[i]))
            for j in range(11):
                if batch.usable[i, j]:
                    total -= math.log(1 - h(batch.features[6 + j]))
            losses.append(total)
    assert found == pytest.approx(sum(losses) / 6, rel=1e-4)
    torch.testing.assert_close(torch.as_tensor(batch.features[:6]), teacher(batch.anchors))


def test_crd_negatives_show_other_observations(learner, teacher, filled):
    loss = built(CRD, learner, teacher)
    batch = loss.sample(filled(n_values=2), 40, np.random.default_rng(0))
    assert 0 < batch.usable.mean() < 1
    same = (batch.features[:40, None] == batch.features[None, 40:]).all(axis=2)
    assert (batch.usable == ~same).all()


def test_crd_equal_observations_give_exactly_nothing(learner, teacher, filled):
    loss = built(CRD, learner, teacher)
    found = loss(learner, loss.sample(filled(n_values=1), 12, np.random.default_rng(0)))["crd"]
    found.backward()
    assert float(found) == 0.0
    assert (learner.encoder.layer.weight.grad == 0).all()


def test_binary_nce_where_nothing_is_told_apart():
    """All e = 1 and N = M: h = 1/2 everywhere, so (N + 1) log 2."""
    usable = torch.ones(3, 7, dtype=torch.bool)
    found = binary_nce(torch.zeros(3), torch.zeros(3, 7), usable, n_rows=7)
    torch.testing.assert_close(found, torch.full((3,), 8 * math.log(2)))


def test_prototype_relation(learner, teacher, filled):
    loss = built(PrototypeRelation, learner, teacher, n_prototypes=5, temperature=0.5)
    batch = loss.sample(filled(), 8, np.random.default_rng(0))
    with torch.no_grad():
        loss.student_prototypes.add_(torch.randn(5, 6))
        found = float(loss(learner, batch)["prototype_relation"])
        total = 0.0
        for observation in batch:
            tables = []
            for features, prototypes in (
                (teacher(observation[None])[0], loss.prototypes),
                (learner.encoder(observation[None])[0], loss.student_prototypes),
            ):
                scores = [math.exp(float(features @ p / p.norm()) / 0.5) for p in prototypes]
                tables.append([score / sum(scores) for score in scores])
            total += sum(t * math.log(t / s) for t, s in zip(*tables, strict=True))
    assert found == pytest.approx(total / 8, rel=1e-4)


def test_prototypes_are_found_once_and_kept(learner, teacher, filled):
    loss = built(PrototypeRelation, learner, teacher, n_prototypes=5)
    loss.sample(filled(), 8, np.random.default_rng(0))
    first = loss.prototypes.clone()
    assert torch.equal(loss.student_prototypes, first)
    loss.sample(filled(seed=5), 8, np.random.default_rng(1))
    assert torch.equal(loss.prototypes, first)
    again = built(PrototypeRelation, learner, teacher, n_prototypes=5)
    again.load_state_dict(loss.state_dict())
    again.sample(filled(seed=5), 8, np.random.default_rng(1))
    assert torch.equal(again.prototypes, first)


def test_a_student_like_its_teacher_pays_nothing(learner, filled):
    loss = built(PrototypeRelation, learner, learner.encoder)
    found = loss(learner, loss.sample(filled(), 8, np.random.default_rng(0)))
    assert float(found["prototype_relation"].detach()) == pytest.approx(0.0, abs=1e-6)
    assert loss.metrics["agreement"] == 1.0


def test_cluster_means():
    generator = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = np.concatenate([c + 0.1 * generator.normal(size=(50, 2)) for c in centres])
    found = cluster_means(points, 3, np.random.default_rng(1))
    wanted = points.reshape(3, 50, 2).mean(axis=1)
    assert np.allclose(sorted(found.tolist()), sorted(wanted.tolist()), atol=1e-5)
    assert cluster_means(points[:2], 5, generator).shape == (5, 2)


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        (CRD, "n_negatives", 0, "n_negatives is 0; it must be 1 or more"),
        (CRD, "temperature", 0.0, r"temperature is 0\.0; it must be above 0"),
        (CRD, "projection_dim", 0, "projection_dim is 0"),
        (PrototypeRelation, "n_prototypes", 1, "n_prototypes is 1; it must be 2 or more"),
        (PrototypeRelation, "temperature", -1, "temperature is -1; it must be above 0"),
    ],
)
def test_out_of_range(kind, name, value, message):
    with pytest.raises(ValueError, match=message):
        kind(**{name: value})
