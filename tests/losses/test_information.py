"""The bound, for variables whose mutual information is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from contrastive_distillation.losses import (
    Deduplicated,
    as_vectors,
    draw_later_pairs,
    mutual_information,
)

N = 1200
EPISODES = np.repeat(np.arange(N // 8), 8)
ONE_TASK = np.zeros(N, dtype=np.int64)


def symbols(n_symbols: int, seed: int = 0) -> np.ndarray:
    return np.eye(n_symbols)[np.random.default_rng(seed).integers(n_symbols, size=N)]


def test_independent_is_nothing() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, N, 8))
    bound = mutual_information(x, y, EPISODES, ONE_TASK)[0]
    assert abs(bound.nats) < 0.05


@pytest.mark.parametrize("n_symbols", [2, 8, 32])
def test_equal_symbols_are_their_entropy(n_symbols: int) -> None:
    x = symbols(n_symbols)
    bound = mutual_information(x, x, EPISODES, ONE_TASK, n_negatives=255)[0]
    assert bound.cap == pytest.approx(math.log(256))
    assert 0.9 * math.log(n_symbols) < bound.nats < 1.05 * math.log(n_symbols)


@pytest.mark.parametrize("seed", [0, 1])
def test_vectors_that_are_kept_once_tell_the_same(seed: int) -> None:
    generator = np.random.default_rng(seed)
    x_of, y_of = generator.normal(size=(40, 6)), generator.integers(0, 3, (30, 5)).astype(float)
    which = generator.integers(0, 40, N)
    which_y = np.where(generator.random(N) < 0.7, which % 30, generator.integers(0, 30, N))
    tasks = (EPISODES % 2).astype(np.int64)
    rest: dict[str, Any] = {"seed": seed, "n_updates": 100}
    plain = mutual_information(x_of[which], y_of[which_y], EPISODES, tasks, **rest)
    once = Deduplicated(x_of, which), Deduplicated(y_of, which_y)
    order = generator.permutation(30)
    turned = once[0], Deduplicated(y_of[order], np.argsort(order)[which_y])
    twice = Deduplicated(np.repeat(x_of, 20, axis=0), 20 * which + generator.integers(0, 20, N))
    for given in (once, (x_of[which], once[1]), (once[0], y_of[which_y]), turned, (twice, once[1])):
        found = mutual_information(*given, EPISODES, tasks, **rest)
        for task in (0, 1):
            assert plain[task].nats > 0.5
            assert found[task].nats == pytest.approx(plain[task].nats, abs=1e-4)
            assert found[task].n_rows == plain[task].n_rows


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_whole_numbers_are_numbers(dtype: type) -> None:
    x = symbols(4)
    found = mutual_information(x.astype(dtype), x, EPISODES, ONE_TASK, n_updates=50)
    expected = mutual_information(x, x, EPISODES, ONE_TASK, n_updates=50)[0].nats
    assert found[0].nats == pytest.approx(expected, abs=1e-4)


def test_never_above_the_cap() -> None:
    x = np.random.default_rng(0).normal(size=(N, 4))  # I(x; x) is infinite
    for n_negatives in (1, 3):
        bound = mutual_information(
            x, x, EPISODES, ONE_TASK, n_negatives=n_negatives, n_updates=200
        )[0]
        assert 0.6 * bound.cap < bound.nats <= bound.cap == math.log(n_negatives + 1)


def test_tasks_are_measured_apart() -> None:
    """Task 0: y is x. Task 1: y is anything. What tells tasks apart counts nothing."""
    tasks = (EPISODES % 2).astype(np.int64)
    x, other = symbols(4), symbols(4, seed=1)
    y = np.where(tasks[:, None] == 0, x, other)
    with_task = [np.concatenate([a, tasks[:, None]], axis=1) for a in (x, y)]
    bounds = mutual_information(*with_task, EPISODES, tasks)
    assert bounds[0].nats > 1.2
    assert abs(bounds[1].nats) < 0.05


def test_judged_on_episodes_it_was_not_fitted_on() -> None:
    """Each row shares a symbol; each episode has numbers of its own, to be learnt by heart only."""
    generator = np.random.default_rng(0)
    x, y = (
        np.concatenate(
            [symbols(4), np.repeat(generator.normal(size=(N // 8, 8)), 8, axis=0)], axis=1
        )
        for _ in range(2)
    )
    assert 0.9 < mutual_information(x, y, EPISODES, ONE_TASK)[0].nats < 1.05 * math.log(4)


def test_same_seed_same_bound_and_no_global_chance() -> None:
    x = symbols(4)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    bounds = [mutual_information(x, x, EPISODES, ONE_TASK, seed=s, n_updates=50) for s in (3, 3, 4)]
    assert bounds[0] == bounds[1] != bounds[2]
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])


def test_scale_and_constant_columns_do_not_matter() -> None:
    x = symbols(4)
    large = np.concatenate([1e4 * x + 1e5, np.full((N, 1), 7.0)], axis=1)
    assert mutual_information(large, x, EPISODES, ONE_TASK)[0].nats > 1.2


def test_too_few_episodes_leave_a_task_out() -> None:
    x = symbols(4)
    assert mutual_information(x, x, np.zeros(N, dtype=int), ONE_TASK) == {}
    tasks = ONE_TASK.copy()
    tasks[:8] = 1
    assert mutual_information(x, x, EPISODES, tasks, n_updates=5).keys() == {0}


def test_bad_arguments() -> None:
    x = symbols(4)
    with pytest.raises(ValueError, match="must be finite"):
        mutual_information(np.full((N, 1), np.nan), x, EPISODES, ONE_TASK)
    with pytest.raises(ValueError, match=r"expected \(N, D\) and \(N, E\)"):
        mutual_information(x[:, 0], x, EPISODES, ONE_TASK)
    with pytest.raises(ValueError, match="1200 features, but 1199 partners"):
        mutual_information(x, x[1:], EPISODES, ONE_TASK)
    for index in (-1, 4):
        with pytest.raises(ValueError, match=rf"values from {index} to {index}; .* \[0, 4\)"):
            Deduplicated(np.eye(4), np.full(N, index))
    for wrong in (np.ones(N), np.ones(N, dtype=bool), np.ones((N, 1), dtype=np.int64)):
        with pytest.raises(ValueError, match=r"inverse has dtype .*; expected int64, \(N,\)"):
            Deduplicated(np.eye(4), wrong)
    with pytest.raises(ValueError, match="n_negatives is 0; it must be 1 or more"):
        mutual_information(x, x, EPISODES, ONE_TASK, n_negatives=0)


def test_later_pairs(filled) -> None:
    memory = filled(n_values=1)  # everything looks the same, and is taken as it falls
    pairs = draw_later_pairs(memory, 100, np.random.default_rng(0), mean_offset=2.0)
    assert len(np.unique(pairs.rows)) == 100
    np.testing.assert_array_equal(memory.episodes(pairs.later_rows), pairs.episodes)
    np.testing.assert_array_equal(memory.episodes(pairs.rows), pairs.episodes)
    np.testing.assert_array_equal(memory.task_ids(pairs.rows), pairs.tasks)
    assert (memory.steps(pairs.later_rows) > memory.steps(pairs.rows)).all()
    assert (
        len(draw_later_pairs(memory, 10**6, np.random.default_rng(0)).rows)
        == (memory.remaining(memory.rows()) >= 1).sum()
    )


def test_as_vectors() -> None:
    grid = np.array([[[1, 0]], [[15, 3]]], dtype=np.uint8)
    vectors = as_vectors({"b": np.array([[0.5], [-1.0]]), "a": grid})
    assert vectors.shape == (2, 33)
    assert vectors.dtype == np.float32
    assert np.flatnonzero(vectors[0]).tolist() == [1, 16, 32]
    assert np.flatnonzero(vectors[1]).tolist() == [15, 19, 32]
    picture = np.full((2, 3, 2, 2), 200, dtype=np.uint8)
    np.testing.assert_array_equal(as_vectors(picture), np.full((2, 12), 200.0))
