"""Negatives from the batch: the formula, loop by loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from contrastive_distillation.losses.baselines.averaged_network import AveragedNetwork
from contrastive_distillation.losses.baselines.in_batch import (
    different,
    draw_later,
    in_batch_contrast,
)


def by_hand(logits: np.ndarray, usable: np.ndarray) -> float:
    losses = []
    for i in range(len(logits)):
        others = [j for j in range(len(logits)) if j != i and usable[i, j]]
        if others:
            denominator = math.exp(logits[i, i]) + sum(math.exp(logits[i, j]) for j in others)
            losses.append(-math.log(math.exp(logits[i, i]) / denominator))
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize("share", [1.0, 0.5, 0.2])
def test_the_formula(share):
    generator = np.random.default_rng(0)
    logits, usable = generator.normal(size=(7, 7)), generator.random((7, 7)) < share
    found, metrics = in_batch_contrast(torch.as_tensor(logits), usable)
    assert float(found) == pytest.approx(by_hand(logits, usable))
    assert metrics["usable_anchors"] == sum((usable & ~np.eye(7, dtype=bool)).any(axis=1))


def test_equal_logits_give_log_b():
    found, metrics = in_batch_contrast(torch.zeros(5, 5), np.ones((5, 5), dtype=bool))
    assert float(found) == pytest.approx(math.log(5))
    assert metrics["accuracy"] == 0.0  # a draw is not a win


def test_a_maximum_taken_off_each_row_changes_nothing():
    logits = 50 * torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    less = logits - logits.amax(dim=1, keepdim=True)
    usable = np.ones((6, 6), dtype=bool)
    assert torch.allclose(in_batch_contrast(logits, usable)[0], in_batch_contrast(less, usable)[0])


@pytest.mark.parametrize("n", [1, 4])
def test_nothing_usable_is_exactly_nothing(n):
    logits = torch.randn(n, n, requires_grad=True)
    found, metrics = in_batch_contrast(logits, np.zeros((n, n), dtype=bool))
    found.backward()
    assert float(found) == 0.0
    assert (logits.grad == 0).all()
    assert metrics == {"accuracy": 0.0, "usable_anchors": 0.0}


def test_accuracy_counts_wins():
    logits = torch.tensor([[2.0, 1.0], [3.0, 1.0]])
    assert in_batch_contrast(logits, np.ones((2, 2), bool))[1]["accuracy"] == 0.5


def test_equal_observations_are_no_negatives_of_each_other():
    assert different(np.array([1, 2, 1])).tolist() == [
        [False, True, False],
        [True, False, True],
        [False, True, False],
    ]


def test_later_rows_are_of_the_same_episode(filled):
    memory = filled()
    rows, later = draw_later(memory, 40, np.random.default_rng(0), offset=3)
    assert len(rows) == 40 == len(np.unique(rows))
    assert (memory.episodes(rows) == memory.episodes(later)).all()
    assert (memory.steps(later) - memory.steps(rows) == 3).all()


def test_rows_without_a_later_one_are_left_out(filled):
    memory = filled(n_steps=4)
    rows, _ = draw_later(memory, 32, np.random.default_rng(0), offset=3)
    assert set(memory.steps(rows)) == {0}


def test_the_average_moves_by_its_momentum(learner):
    head = torch.nn.Linear(6, 2)
    average = AveragedNetwork(learner, head, momentum=0.75)
    before = {name: t.clone() for name, t in average.state_dict().items()}
    with torch.no_grad():
        for parameter in [*head.parameters(), *learner.encoder.parameters()]:
            parameter.add_(1.0)
    average.update(head)
    for name, tensor in average.state_dict().items():
        torch.testing.assert_close(tensor, before[name] + 0.25)
    assert not any(parameter.requires_grad for parameter in average.parameters())
