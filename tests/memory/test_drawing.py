"""Positives and negatives drawn from a memory."""

from __future__ import annotations

import numpy as np
import pytest

from contrastive_distillation.memory import (
    NEGATIVES,
    EpisodicMemory,
    NegativeSampler,
    Pool,
    draw_positives,
    make_negatives,
)


def one_episode(observations: list[int]) -> EpisodicMemory:
    memory = EpisodicMemory(capacity=100)
    memory.start(n_envs=1, gamma=0.9, tasks=["a"])
    for time, observation in enumerate(observations):
        memory.add(
            observations=np.array([[observation]], dtype=np.uint8),
            actions=np.zeros(1),
            rewards=np.zeros(1),
            terminated=np.array([time == len(observations) - 1]),
            truncated=np.zeros(1, dtype=bool),
            tasks=np.zeros(1, dtype=int),
            time=time,
        )
    return memory


@pytest.mark.parametrize("mean_offset", [1.0, 2.5, 40.0])
def test_positives_are_later_in_the_episode_and_look_different(filled, mean_offset) -> None:
    memory = filled()
    anchors = memory.rows()
    rows, valid = draw_positives(memory, anchors, np.random.default_rng(0), mean_offset=mean_offset)
    assert valid.mean() > 0.5
    assert not valid[memory.remaining(anchors) == 0].any()
    np.testing.assert_array_equal(rows[~valid], anchors[~valid])
    positives, anchors = rows[valid], anchors[valid]
    np.testing.assert_array_equal(memory.episodes(positives), memory.episodes(anchors))
    assert (memory.steps(positives) > memory.steps(anchors)).all()
    assert (memory.hashes(positives) != memory.hashes(anchors)).all()
    if mean_offset == 1.0:
        assert (memory.steps(positives) == memory.steps(anchors) + 1).all()


def test_offsets_are_geometric_given_that_they_stay_inside() -> None:
    memory = one_episode(list(range(6)))
    anchors = np.zeros(40_000, dtype=np.int64)
    rows, valid = draw_positives(memory, anchors, np.random.default_rng(0), mean_offset=3.0)
    assert valid.all()
    share = np.bincount(memory.steps(rows), minlength=6)[1:] / len(rows)
    expected = (2 / 3) ** np.arange(5) / 3
    np.testing.assert_allclose(share, expected / expected.sum(), atol=0.01)


def test_an_observation_that_never_changes_has_no_positive() -> None:
    memory = one_episode([7] * 6)
    rows, valid = draw_positives(memory, memory.rows(), np.random.default_rng(0), mean_offset=2.0)
    assert not valid.any()
    np.testing.assert_array_equal(rows, memory.rows())
    later, valid = draw_positives(
        memory, memory.rows(), np.random.default_rng(0), mean_offset=2.0, distinct=False
    )
    assert valid.tolist() == [True] * 5 + [False]
    assert (later[valid] > memory.rows()[valid]).all()


def test_bad_offset(filled) -> None:
    with pytest.raises(ValueError, match=r"mean_offset is 0\.5 steps; it must be 1 or more"):
        draw_positives(filled(), np.array([0]), np.random.default_rng(0), mean_offset=0.5)


def test_in_batch_draws_from_the_rollout_alone(filled, step) -> None:
    memory = filled()
    memory.begin_rollout()
    for time in range(5):
        memory.add(**step(np.random.default_rng(time), 6), time=50_000)
    generator = np.random.default_rng(0)
    drawn = {
        name: make_negatives(name).draw(memory, memory.rows(), 20, generator, None).rows
        for name in ("in_batch", "uniform")
    }
    assert (memory.times(drawn["in_batch"]) == 50_000).all()
    assert not (memory.times(drawn["uniform"]) == 50_000).all()
    assert len(drawn["in_batch"]) == len(drawn["uniform"]) == 20
    assert NEGATIVES["in_batch"].recent
    assert not NEGATIVES["uniform"].recent


def test_make_negatives_takes_an_object_and_names_the_nearest() -> None:
    class Mine(NegativeSampler):
        name = "mine"

        def draw(self, memory, anchors, k, generator, insight):
            return Pool(memory.rows()[:k])

    mine = Mine()
    assert make_negatives(mine) is mine
    with pytest.raises(ValueError, match=r"unknown negatives 'unifrom'\. Nearest: uniform"):
        make_negatives("unifrom")
