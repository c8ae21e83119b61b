"""Keys are what the teacher says, each once; the search finds what a loop finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_distillation.memory import KeyTable, NearestKeys, n_observations, nearest_keys

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
def test_flat_search_is_brute_force(n, n_queries, k, seed):
    keys, queries = unit(n, seed), unit(n_queries, seed + 1)
    places, similarities = NearestKeys(keys).search(queries, k)
    truth = queries.astype(float) @ keys.T.astype(float)
    assert places.shape == similarities.shape == (n_queries, min(k, n))
    np.testing.assert_allclose(similarities, -np.sort(-truth, axis=1)[:, :k], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(truth, places, 1), similarities, atol=1e-5)


def test_search_in_parts_is_the_same(monkeypatch):
    keys, queries = NearestKeys(unit(300, seed=0)), unit(7, seed=1)
    places, similarities = keys.search(queries, 20)
    monkeypatch.setattr(nearest_keys, "_MOST_COMPARED", 600)
    in_parts = keys.search(queries, 20)
    np.testing.assert_array_equal(in_parts[0], places)
    np.testing.assert_allclose(in_parts[1], similarities, atol=1e-6)


@pytest.mark.parametrize("n", [500, 12_000])
@pytest.mark.parametrize("noise", [0.5, 100.0])
def test_approximate_search_recalls_the_band(n, noise):
    """Keys in clusters, as a teacher gives them, and strewn everywhere."""
    generator = np.random.default_rng(0)
    keys = unit(40, seed=0)[generator.integers(0, 40, n)] + noise * unit(n, seed=1)
    keys = NearestKeys(keys / np.linalg.norm(keys, axis=1, keepdims=True), index="ivf")
    assert keys.index == "ivf"
    queries = keys.keys[generator.integers(0, n, 32)]
    assert keys.recall(queries, (n // 1000, n // 100)) >= 0.95
    assert keys.recall(queries, (n // 1000, n // 20)) >= 0.95


def test_approximate_search_moves_to_a_gpu_what_faiss_can_do_there(monkeypatch):
    moved = []
    faiss = nearest_keys.faiss
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(
        faiss, "index_cpu_to_gpu", lambda _, gpu, lists: moved.append(gpu) or lists, raising=False
    )
    keys = NearestKeys(unit(3000, seed=0), index="ivf")
    keys.search(unit(1, seed=1), 2048)
    assert moved == [0]
    keys.search(unit(1, seed=1), 10)
    assert moved == [0]  # the same lists
    keys.search(unit(1, seed=1), 2049)
    assert moved == [0]  # more neighbours than faiss finds on a GPU


@pytest.mark.parametrize("index", ["flat", "ivf"])
def test_keys_can_be_overwritten(index):
    keys = NearestKeys(unit(500, seed=0), index=index)
    query = unit(1, seed=5)
    keys.search(query, 3)
    keys.overwrite(np.array([123]), query)
    places, similarities = keys.search(query, 3)
    assert places[0, 0] == 123
    assert similarities[0, 0] == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_array_equal(keys.keys[123], query[0])


def test_bad_searches():
    keys = NearestKeys(unit(5, seed=0))
    with pytest.raises(ValueError, match="k is 0"):
        keys.search(unit(1, seed=1), 0)
    with pytest.raises(ValueError, match=r"keys of shape \(1, 8\) do not fit: these are 16 wide"):
        keys.search(unit(1, seed=1, width=8), 1)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="key 0 is NaN or infinite"):
            keys.search(np.full((1, 16), bad), 1)
        with pytest.raises(ValueError, match="key 0 is NaN or infinite"):
            keys.overwrite(np.array([0]), np.full((1, 16), bad))
    with pytest.raises(ValueError, match="index is 'tree'; expected one of auto, flat, ivf"):
        NearestKeys(unit(5, seed=0), index="tree")
    with pytest.raises(ValueError, match=r"keys have shape \(0, 16\)"):
        NearestKeys(unit(0, seed=0))
