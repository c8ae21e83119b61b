"""All keys come from one snapshot, which is renewed only when it is due."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contrastive_distillation.losses import CRD, ContrastiveDistillation


def built(learner, **settings):
    loss = ContrastiveDistillation(n_negatives=16, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        loss.build(learner)
    return loss


def advance(memory, n_rows):
    """So many more rows, 8 at a time; the agent's own count of frames starts again."""
    for time in range(n_rows // 8):
        memory.add(
            observations=np.random.default_rng(time).integers(0, 50, (8, 4), dtype=np.uint8),
            actions=np.zeros(8, np.int64),
            rewards=np.zeros(8),
            terminated=np.zeros(8, bool),
            truncated=np.zeros(8, bool),
            tasks=np.arange(8) % 2,
            time=time,
        )


def learn(loss, learner):
    with torch.no_grad():
        learner.encoder.layer.weight.mul_(-0.5)
    loss.after_step(learner)


@torch.no_grad()
def by_averages(loss, memory, rows):
    keys = loss.target_keys
    found = keys.averaged_head(keys.averaged_encoder(memory.observations(rows)))
    return torch.nn.functional.normalize(found, dim=1).numpy()


def test_keys_stay_until_the_snapshot_is_due(learner, filled):
    memory, generator = filled(), np.random.default_rng(0)
    loss = built(learner, momentum=0.5, refresh_frames=96)
    rows = memory.rows()[:20]
    loss.sample(memory, 12, generator)
    first = loss.target_keys.keys(memory, rows)
    np.testing.assert_allclose(first, by_averages(loss, memory, rows), atol=1e-6)
    start = memory.n_written
    for n_rows in (40, 48):
        advance(memory, n_rows)
        learn(loss, learner)
        batch = loss.sample(memory, 12, generator)
        np.testing.assert_array_equal(loss.target_keys.keys(memory, rows), first)
        assert batch.metrics["key_age"] == memory.n_written - start
        assert batch.metrics["key_drift"] == 0.0  # not measured yet
    assert np.abs(by_averages(loss, memory, rows) - first).max() > 0.01
    advance(memory, 8)
    batch = loss.sample(memory, 12, generator)
    keys = loss.target_keys.keys(memory, rows)
    np.testing.assert_allclose(keys, by_averages(loss, memory, rows), atol=1e-6)
    assert batch.metrics["key_age"] == 0.0
    everywhere = memory.rows()[memory.rows() < memory.capacity]
    assert len(everywhere) > 256  # drift is measured on a sample
    assert batch.metrics["key_drift"] > 0.01


def test_drift_is_one_minus_the_mean_cosine(learner, filled):
    memory, generator = filled(n_steps=20), np.random.default_rng(0)  # fewer rows than the sample
    loss = built(learner, momentum=0.0, refresh_frames=8)
    loss.sample(memory, 12, generator)
    advance(memory, 8)
    old = loss.target_keys.keys(memory, memory.rows())
    learn(loss, learner)
    new = by_averages(loss, memory, memory.rows())
    drift = loss.sample(memory, 12, generator).metrics["key_drift"]
    assert drift == pytest.approx(1.0 - (old * new).sum(axis=1).mean(), abs=1e-5)


def test_a_snapshot_that_has_not_drifted_is_kept(learner, filled):
    memory, generator = filled(), np.random.default_rng(0)
    loss = built(learner, momentum=0.5, refresh_frames=8, refresh_drift=1.9)
    loss.sample(memory, 12, generator)
    before = loss.target_keys.keys(memory, memory.rows())
    for _ in range(3):
        learn(loss, learner)
        advance(memory, 8)
        metrics = loss.sample(memory, 12, generator).metrics
        assert 0.0 < metrics["key_drift"] < 1.9
    assert metrics["key_age"] == 24.0
    rows = memory.rows()[:100]
    np.testing.assert_array_equal(loss.target_keys.keys(memory, rows)[:50], before[:50])
    assert loss.target_keys.snapshot == 1


def test_no_observation_is_encoded_twice_for_one_snapshot(learner, teacher, filled):
    memory, source_memory = filled(n_values=3), filled(n_values=3, seed=5)
    loss = built(learner, teacher=teacher)
    loss.source_keys.fix_mean(source_memory, np.random.default_rng(0))
    encoder = loss.target_keys.snapshot_encoder.average
    encoder.n_encoded = teacher.n_encoded = 0
    generator = np.random.default_rng(0)
    for _ in range(30):
        loss.sample(memory, 32, generator, source_memory)
    hashes = [set(each.hashes(each.rows()).tolist()) for each in (memory, source_memory)]
    assert encoder.n_encoded == len(loss.target_keys.table) <= len(hashes[0])
    assert teacher.n_encoded == len(loss.source_keys.table) <= len(hashes[0] | hashes[1])


@pytest.mark.parametrize("negatives", ["nearest", "value_contrast", "prediction_error"])
def test_hard_samplers_resume_to_the_bit(learner, teacher, filled, negatives):
    memory, source_memory = filled(), filled(seed=5)
    loss, other = (
        built(learner, teacher=teacher, negatives=negatives, n_searched=64, refresh_frames=16)
        for _ in range(2)
    )
    generator = np.random.default_rng(0)
    for _ in range(3):
        loss.sample(memory, 12, generator, source_memory)
        advance(memory, 8)
        learn(loss, learner)
    other.load_state_dict(loss.state_dict())
    state = generator.bit_generator.state
    outcomes = []
    for each in (loss, other):
        generator.bit_generator.state = state
        batch = each.sample(memory, 12, generator, source_memory)
        terms = each(learner, batch)
        outcomes.append({name: term.item() for name, term in terms.items()})
        assert np.isfinite(list(outcomes[-1].values())).all()
    assert outcomes[0] == outcomes[1]


def test_names_in_saved_files_stay(learner, teacher, filled):
    loss = built(learner, teacher=teacher, negatives="uniform")
    loss.sample(filled(), 12, np.random.default_rng(0))
    others = ("_head.", "encoder.", "teacher.")
    names = {n for n in loss.state_dict() if not any(other in n for other in others)}
    assert names == {
        "source_keys.mean",
        "source_keys.mean_known",
        "source_keys.arrays/hashes",
        "source_keys.arrays/keys",
        "target_keys.arrays/hashes",
        "target_keys.arrays/keys",
        "target_keys.arrays/times",
        "target_keys.arrays/drift",
    }
    crd = CRD(teacher=teacher)
    names = {n for n in crd.state_dict() if not n.startswith("teacher.")}
    assert names == {f"teacher_features.arrays/{n}" for n in ("hashes", "keys")}


def test_keys_of_another_width_are_refused_with_both(learner, filled):
    loss, other = built(learner, projection_dim=8), built(learner, projection_dim=4)
    loss.sample(filled(), 12, np.random.default_rng(0))
    arrays = loss.target_keys.state_arrays()
    with pytest.raises(ValueError, match="the stored keys are 8 wide; this teacher gives 4"):
        other.target_keys.restore_arrays(arrays)


def test_a_number_of_a_snapshot_is_never_used_twice(learner, filled):
    """Under VecNormalize keys are not restored; samplers must not take new ones for the old."""
    loss, other = built(learner), built(learner)
    loss.sample(filled(), 12, np.random.default_rng(0))
    assert loss.target_keys.snapshot == 1
    other.target_keys.snapshot_encoder.normalises = True
    other.load_state_dict(loss.state_dict())
    other.sample(filled(), 12, np.random.default_rng(0))
    assert other.target_keys.snapshot == 2


def test_other_positives(learner, filled):
    memory = filled()
    same = built(learner, positives="same")
    batch = same.sample(memory, 12, np.random.default_rng(0))
    np.testing.assert_array_equal(batch.anchors, memory.observations(batch.target.positive_rows))
    assert batch.target.mask.any(axis=1).all()
    matched = built(learner, positives="value_matched")
    batch = matched.sample(memory, 40, np.random.default_rng(0))
    fine = batch.target.mask.any(axis=1)
    assert fine.any()
    assert memory.return_known(batch.target.positive_rows[fine]).all()
    with pytest.raises(ValueError, match="positives is 'tmporal'; expected one of temporal"):
        ContrastiveDistillation(positives="tmporal")


def test_a_loop_of_short_learns_takes_new_snapshots(learner, filled):
    """Each `learn()` counts its frames from 0 again; the rows written only grow."""
    memory, generator = filled(), np.random.default_rng(0)
    loss = built(learner, refresh_frames=50)
    for _ in range(10):
        memory.start(n_envs=8, gamma=0.9, tasks=["a", "b"])
        advance(memory, 24)
        loss.sample(memory, 12, generator)
    assert loss.target_keys.snapshot == 4


@pytest.mark.parametrize("negatives", ["nearest", "value_contrast", "prediction_error"])
def test_another_learner_begins_afresh(learner, filled, negatives):
    loss = built(learner, negatives=negatives)
    loss.sample(filled(), 12, np.random.default_rng(0))
    assert loss.state_arrays()
    loss.build(learner)
    assert not loss.state_arrays()
    small = filled(n_steps=6)
    assert loss.sample(small, 12, np.random.default_rng(0)) is not None
