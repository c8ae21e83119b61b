"""Keys are what the teacher says, each once; the search finds what a loop finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_distillation.memory import KeyTable, NearestNegatives, n_observations
from contrastive_distillation.memory.nearest import nearest_keys

WIDTH = 3


class Teacher:
    """Sums, and remembers what it was asked."""

    def __init__(self) -> None:
        self.seen = []
        self.factor = 1.0

    def __call__(self, observations):
        image = observations["image"].reshape(n_observations(observations), -1)
        rows = np.concatenate([image, observations["direction"]], axis=1)
        self.seen += [row.tobytes() for row in rows]
        sums = image.sum(axis=1) + 100.0 * observations["direction"][:, 0]
        return (self.factor * np.stack([sums, sums**2, -sums], axis=1)).astype(np.float32)


def test_keys_are_the_teachers_each_once_across_memories(filled):
    memories = filled(), filled(seed=3)
    teacher, asked = Teacher(), Teacher()
    table = KeyTable(width=WIDTH, encode=teacher)
    generator = np.random.default_rng(0)
    for _ in range(30):
        for memory in memories:
            rows = generator.choice(memory.rows(), 20)
            expected = asked(memory.observations(rows))
            np.testing.assert_array_equal(table.keys(memory, rows), expected)
    assert len(teacher.seen) == len(set(teacher.seen)) == len(table) == table.n_encoded
    assert set(teacher.seen) == set(asked.seen)
    teacher.factor = 2.0
    table.clear()
    np.testing.assert_array_equal(table.keys(memory, rows), 2 * expected)


def test_a_full_table_starts_afresh(filled):
    memory, teacher = filled(), Teacher()
    table = KeyTable(width=WIDTH, encode=teacher, most=40)
    for first in range(0, 200, 10):
        rows = memory.rows()[first : first + 10]
        expected = Teacher()(memory.observations(rows))
        np.testing.assert_array_equal(table.keys(memory, rows), expected)
        assert len(table) <= 40


def test_keys_are_kept(filled):
    memory, teacher = filled(), Teacher()
    table, other = (KeyTable(width=WIDTH, encode=teacher) for _ in range(2))
    keys = table.keys(memory, memory.rows())
    other.restore(**table.state_arrays())
    n_seen = len(teacher.seen)
    np.testing.assert_array_equal(other.keys(memory, memory.rows()), keys)
    assert len(teacher.seen) == n_seen


def test_broken_keys_are_refused(filled):
    memory = filled()
    table = KeyTable(width=WIDTH, encode=Teacher())
    table.keys(memory, memory.rows())
    state = table.state_arrays()
    wide = KeyTable(width=7, encode=Teacher())
    with pytest.raises(ValueError, match="the stored keys are 3 wide; this teacher gives 7"):
        wide.restore(**state)
    with pytest.raises(ValueError, match=r"keys of shape \(1, 3\); expected \(1, 7\)"):
        wide.keys(memory, memory.rows()[:1])
    with pytest.raises(ValueError, match="sorted"):
        table.restore(state["hashes"][::-1], state["keys"])
    with pytest.raises(ValueError, match="not finite"):
        table.restore(state["hashes"], np.full_like(state["keys"], np.nan))
    row = memory.rows()[:1]
    message = (
        rf"task-0 \(step {memory.steps(row)[0]} of .*, frame {memory.times(row)[0]}\) is not f"
    )
    diverged = KeyTable(width=WIDTH, encode=lambda o: np.full((n_observations(o), 3), np.nan))
    with pytest.raises(FloatingPointError, match=message):
        diverged.keys(memory, row)
    with pytest.raises(ValueError, match="width is 0"):
        KeyTable(width=0, encode=Teacher())


def unit(n, seed, width=16):
    keys = np.random.default_rng(seed).normal(size=(n, width))
    return (keys / np.linalg.norm(keys, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 300),
    n_queries=st.integers(1, 9),
    k=st.integers(1, 400),
    seed=st.integers(0, 99),
)
def test_the_search_is_brute_force(n, n_queries, k, seed):
    keys, queries = unit(n, seed), unit(n_queries, seed + 1)
    places = nearest_keys(keys, queries, k)
    truth = queries.astype(float) @ keys.T.astype(float)
    assert places.shape == (n_queries, min(k, n))
    found = np.take_along_axis(truth, places, 1)
    np.testing.assert_allclose(found, -np.sort(-truth, axis=1)[:, :k], atol=1e-5)


def test_an_index_that_was_removed_is_refused():
    for index in ("auto", "flat"):
        NearestNegatives(index=index)
    with pytest.raises(ValueError, match=r"index 'ivf' was removed.*; use index 'flat'"):
        NearestNegatives(index="ivf")
    with pytest.raises(ValueError, match="index is 'tree'; expected one of auto, flat"):
        NearestNegatives(index="tree")
