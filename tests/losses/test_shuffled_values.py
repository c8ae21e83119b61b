"""The control of shuffled values: the loss sees returns that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contrastive_distillation.losses import ContrastiveDistillation, make_loss
from contrastive_distillation.memory import NegativeSampler, Pool, hash_observations


def built(learner, **settings):
    loss = ContrastiveDistillation(n_negatives=64, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        loss.build(learner)
    return loss


def weights_follow_returns(loss, memory) -> bool:
    """Do negatives of one task after which the same followed weigh the same for every anchor?"""
    batch = loss.sample(memory, 16, np.random.default_rng(0)).target
    n_pairs, follow = 0, True
    for i, group in enumerate(batch.negative_rows):
        known = memory.return_known(group)
        rows, weights = group[known], batch.log_weights[i :: len(batch.negative_rows), known]
        same = memory.returns(rows)[:, None] == memory.returns(rows)
        same &= memory.task_ids(rows)[:, None] == memory.task_ids(rows)
        pairs = np.argwhere(np.triu(same, 1))
        n_pairs += len(pairs)
        follow &= all(np.array_equal(weights[:, a], weights[:, b]) for a, b in pairs)
    assert n_pairs > 20
    return follow


def test_weights_no_longer_follow_the_returns(learner, filled):
    memory = filled()
    returns = memory._store.columns["returns"]
    returns[:] = np.round(returns)  # so that some are equal
    before = returns.copy()
    assert weights_follow_returns(built(learner, negatives="value_contrast"), memory)
    loss = built(learner, negatives="value_contrast", shuffled_values=True)
    assert not weights_follow_returns(loss, memory)
    np.testing.assert_array_equal(returns, before)


def distance_of_matches(loss, memory) -> float:
    """Mean distance of an anchor's true return from its positive's."""
    rows_of = dict(zip(memory.hashes(memory.rows()).tolist(), memory.rows(), strict=True))
    batch = loss.sample(memory, 64, np.random.default_rng(0))
    anchors = np.array([rows_of[h] for h in hash_observations(batch.anchors).tolist()])
    positives = batch.target.positive_rows
    valid = anchors != positives
    assert valid.sum() > 20
    return float(np.abs(memory.returns(anchors) - memory.returns(positives))[valid].mean())


def test_matched_positives_no_longer_follow_the_returns(learner, filled):
    memory = filled(n_values=250)
    true = distance_of_matches(built(learner, positives="value_matched"), memory)
    loss = built(learner, positives="value_matched", shuffled_values=True)
    assert true < 0.3 < distance_of_matches(loss, memory)


def test_errors_of_the_value_function_are_shuffled_too(learner, filled):
    memory = filled()
    seen = []
    learner.prediction_errors = lambda memory, rows: (
        seen.append((rows, memory.returns(rows))),
        np.ones(len(rows), np.float32),
    )[1]
    loss = built(learner, negatives="prediction_error", shuffled_values=True)
    loss.sample(memory, 16, np.random.default_rng(0), source_memory=filled(seed=1))
    ((rows, returns),) = seen
    assert (returns != memory.returns(rows)).mean() > 0.5


@pytest.mark.parametrize("negatives", ["uniform", "nearest", "in_batch"])
def test_refused_where_nobody_looks_at_returns(negatives):
    with pytest.raises(ValueError, match="use returns, so shuffling them has no effect; use"):
        ContrastiveDistillation(negatives=negatives, shuffled_values=True)
    ContrastiveDistillation(negatives=negatives, positives="value_matched", shuffled_values=True)


def test_a_sampler_of_ones_own_says_whether_it_looks_at_returns():
    class Own(NegativeSampler):
        uses_returns = True

        def draw(self, memory, anchors, k, generator, insight):
            return Pool(memory.rows()[:k])

    ContrastiveDistillation(negatives=Own(), shuffled_values=True)
    Own.uses_returns = False
    with pytest.raises(ValueError, match="shuffling them has no effect"):
        ContrastiveDistillation(negatives=Own(), shuffled_values=True)


def test_it_is_true_or_false():
    with pytest.raises(ValueError, match="shuffled_values is 1; expected true or false"):
        make_loss("contrastive_distillation", negatives="value_contrast", shuffled_values=1)


@pytest.mark.parametrize(("with_source_memory", "expected"), [(False, 9), (True, 9 + 5)])
def test_what_a_step_encodes(learner, teacher, filled, with_source_memory, expected):
    loss = built(learner, teacher=teacher)
    assert loss.n_encoded(9, with_source_memory=with_source_memory) == expected
    source = filled(seed=1) if with_source_memory else None
    batch = loss.sample(filled(), 9, np.random.default_rng(0), source_memory=source)
    learner.encoder.n_encoded = 0
    loss(learner, batch)
    assert learner.encoder.n_encoded == expected
