"""Every sampler against loops over the whole memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from contrastive_distillation.memory import (
    NEGATIVES,
    EpisodicMemory,
    NearestNegatives,
    NegativeSampler,
    Pool,
    PredictionErrorNegatives,
    ReplayMemory,
    UniformNegatives,
    ValueContrastNegatives,
    check_pool,
    draw_value_matched,
    make_negatives,
    negative_mask,
)
from contrastive_distillation.memory.negatives import n_hard

WIDTH = 5
many = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
memories = st.fixed_dictionaries(
    {
        "kind": st.sampled_from([EpisodicMemory, ReplayMemory]),
        "capacity": st.integers(7, 120),
        "n_envs": st.integers(1, 6),
        "n_steps": st.integers(3, 60),
        "n_tasks": st.integers(1, 3),
        "p_end": st.sampled_from([0.02, 0.2, 0.9]),
        "seed": st.integers(0, 10_000),
    }
)


class Known:
    """Keys and errors by observation, different for each; counts what was asked."""

    def __init__(self, memory, errors=None) -> None:
        self.memory = memory
        self.snapshot = 0
        self.asked = []
        self._errors = errors

    def keys(self, rows):
        self.asked.append(np.array(rows))
        return np.stack([key_of(hash_) for hash_ in self.memory.hashes(rows)])

    def errors(self, rows):
        return np.array([self._errors(row) for row in rows], np.float32)


def key_of(hash_):
    key = np.random.default_rng(int(hash_) & 0xFFFFFFFF).normal(size=WIDTH)
    return (key / np.linalg.norm(key)).astype(np.float32)


def near_rows(sampler, *arguments):
    """For each query the rows of its band that are to be used."""
    return [line[line >= 0] for line in sampler.near(*arguments)]


def ranked(memory, query):
    """Hashes of the distinct observations, the query's own left out, the nearest first."""
    hashes = set(memory.hashes(memory.rows()).tolist()) - {int(memory.hashes(query[None])[0])}
    key = key_of(memory.hashes(query[None])[0])
    return sorted(hashes, key=lambda hash_: -float(key_of(hash_) @ key))


@many
@given(
    arguments=memories,
    name=st.sampled_from(sorted(NEGATIVES)),
    k=st.integers(1, 200),
    n_anchors=st.integers(1, 20),
    window=st.integers(0, 10),
)
def test_pools_hold_different_stored_rows_and_masks_spare_the_rest(
    filled, arguments, name, k, n_anchors, window
):
    memory = filled(**arguments)
    generator = np.random.default_rng(arguments["seed"])
    insight, sampler = Known(memory, errors=float), make_negatives(name)
    anchors = sampler.draw_anchors(memory, n_anchors, generator, insight)
    assert 1 <= len(anchors) <= n_anchors
    assert np.isin(anchors, memory.rows()).all()
    pool = sampler.draw(memory, anchors, k, generator, insight)
    in_groups = name in ("nearest", "value_contrast")
    n_columns = min(k, len(memory))  # each anchor has as many as with any other sampler
    assert pool.rows.shape == ((min(8, len(anchors)), n_columns) if in_groups else (n_columns,))
    assert all(len(set(group.tolist())) == n_columns for group in pool.rows_by_group)
    assert np.isin(pool.rows, memory.rows()).all()
    check_pool(pool, sampler, memory, anchors)
    if pool.log_weights is not None:
        assert pool.log_weights.shape == (len(anchors), n_columns)
    infos = memory.info(anchors), memory.info(anchors), memory.info(pool.rows)
    mask = negative_mask(*infos, window)
    for b, anchor in enumerate(anchors):
        for j, row in enumerate(pool.rows_by_group[b % len(pool.rows_by_group)]):
            same = memory.hashes(anchor[None]) == memory.hashes(row[None])
            near = (
                memory.episodes(anchor[None]) == memory.episodes(row[None])
                and abs(memory.steps(anchor[None]) - memory.steps(row[None])) <= window
            )
            assert mask[b, j] == (not same and not near)


@pytest.mark.parametrize("name", NEGATIVES)
def test_the_same_generator_draws_the_same_and_all_there_is_where_k_is_more(filled, name):
    memory = filled()
    draws = [
        make_negatives(name).draw(
            memory, memory.rows()[:10], 64, np.random.default_rng(0), Known(memory, errors=float)
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(draws[0].rows, draws[1].rows)
    everything = make_negatives(name, uniform_share=1.0).draw(
        memory, memory.rows()[:10], 9_999, np.random.default_rng(0), Known(memory, errors=float)
    )
    for group in everything.rows_by_group:
        assert sorted(group) == memory.rows().tolist()


@many
@given(
    arguments=memories,
    band=st.tuples(st.floats(0, 0.9), st.floats(0.01, 1)).map(sorted),
    n=st.integers(1, 40),
    index=st.sampled_from(["flat", "auto"]),
)
def test_near_rows_are_of_the_band_of_an_anchor(filled, arguments, band, n, index):
    if band[0] == band[1]:
        return
    memory = filled(**arguments)
    generator = np.random.default_rng(arguments["seed"])
    queries = memory.sample_rows(5, generator)
    insight = Known(memory)
    sampler = NearestNegatives(band=tuple(band), n_searched=1000, index=index)
    near = near_rows(sampler, memory, queries, n, generator, insight)
    m = len(set(memory.hashes(memory.rows()).tolist()))
    first = min(math.floor(band[0] * m), m - 1)
    last = max(math.ceil(band[1] * m), first + 1)
    assert len(near) == len(queries)
    for query, rows in zip(queries, near, strict=True):
        allowed = ranked(memory, query)[first:last]
        assert set(memory.hashes(rows).tolist()) <= set(allowed)
        assert len(rows) == len(set(memory.hashes(rows).tolist()))
        # the last rank of all is no one's, as the query's own observation is left out
        assert min(n, last - first) - (last == m) <= len(rows) <= n


@many
@given(
    arguments=memories,
    n=st.integers(1, 40),
    k=st.integers(2, 60),
)
def test_anchors_come_in_neighbourhoods_with_negatives_of_their_own(filled, arguments, n, k):
    memory = filled(**arguments)
    generator = np.random.default_rng(arguments["seed"])
    insight = Known(memory)
    sampler = NearestNegatives(band=(0.1, 0.4), n_searched=1000)
    m = len(set(memory.hashes(memory.rows()).tolist()))
    first, last = math.floor(0.1 * m), max(math.ceil(0.4 * m), math.floor(0.1 * m) + 1)
    anchors = sampler.draw_anchors(memory, n, generator, insight)
    n_groups = min(8, n, len(memory))
    queries = anchors[:n_groups]
    assert len(set(queries.tolist())) == n_groups
    n_others = min(-(-n // n_groups), m) - 1
    assert len(anchors) == min(n, n_groups * (1 + n_others))
    pool = sampler.draw(memory, anchors, k, generator, insight)
    nearest = [ranked(memory, anchor) for anchor in anchors[:8]]
    for group in range(n_groups):
        others = anchors[group + n_groups :: n_groups]
        assert memory.hashes(others).tolist() == nearest[group][: len(others)]
    for group, hashes in zip(pool.rows, nearest, strict=True):
        band = set(hashes[first:last])
        assert len(band & set(memory.hashes(group).tolist())) >= min(k // 2, len(band))


def test_queries_are_uniform(filled):
    memory = filled(capacity=60, n_steps=12)
    sampler, generator = NearestNegatives(), np.random.default_rng(0)
    counts = np.zeros(60)
    for _ in range(600):
        counts[sampler.draw_anchors(memory, 8, generator, Known(memory))] += 1
    counts = counts[memory.rows()]
    expected = 600 * 8 / len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < 2.5 * len(counts)


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 30)),
    n=st.integers(0, 40),
    seed=st.integers(0, 1000),
)
def test_thinned_pools_keep_some_of_each_line(shape, n, seed):
    generator = np.random.default_rng(seed)
    rows = generator.permuted(np.tile(np.arange(100), (shape[0], 1)), axis=1)[:, : shape[1]]
    thin = Pool(rows).thinned(n, generator)
    assert thin.rows.shape == (shape[0], min(n, shape[1]))
    for group, kept in zip(rows, thin.rows, strict=True):
        assert len(set(kept)) == len(kept)
        assert set(kept) <= set(group)
    shared = Pool(rows[0]).thinned(n, generator)
    assert shared.rows.shape == (min(n, shape[1]),)


def test_every_rank_of_the_band_is_drawn_as_often(filled):
    memory = filled(n_steps=30, capacity=200)
    (anchor,) = anchors = memory.rows()[3:4]
    order = ranked(memory, anchor)
    sampler = NearestNegatives(band=(0.1, 0.3), n_searched=1000)
    m = len(order) + 1
    first, last = math.floor(0.1 * m), math.ceil(0.3 * m)
    counts = dict.fromkeys(order[first:last], 0)
    generator, insight = np.random.default_rng(0), Known(memory)
    for _ in range(400):
        (rows,) = near_rows(sampler, memory, anchors, 8, generator, insight)
        hashes = memory.hashes(rows).tolist()
        assert len(set(hashes)) == len(hashes) == 8
        for hash_ in hashes:
            counts[hash_] += 1
    expected = 400 * 8 / (last - first)
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 2.5 * len(counts)  # mean len(counts), far from it with p < 1e-6


@given(k=st.integers(1, 600), share=st.floats(0.5, 1.0))
@example(k=2, share=0.5000000000000001)  # of which share * k + 1 is rounded to 2
def test_at_least_the_share_is_uniform(k, share):
    n_uniform = k - n_hard(k, share)
    assert n_uniform - 1 < share * k <= n_uniform


def test_half_of_the_negatives_stays_uniform(filled):
    """With a band of one rank around one anchor, at most that row is not uniform."""
    memory = filled(capacity=400, n_steps=70)
    drawn = np.zeros(400)
    sampler, generator = NearestNegatives(n_searched=1000), np.random.default_rng(0)
    for _ in range(300):
        anchors = memory.sample_rows(40, generator)
        drawn[sampler.draw(memory, anchors, 40, generator, Known(memory)).rows] += 1
    assert (drawn[memory.rows()] > 0).all()


def test_rows_overwritten_since_they_were_searched_are_left_out(filled, step):
    memory = filled(capacity=200, n_steps=40)
    generator, insight = np.random.default_rng(0), Known(memory)
    sampler = NearestNegatives(band=(0.0, 1.0))
    sampler.near(memory, memory.rows()[:5], 8, generator, insight)
    before = dict(zip(memory.rows().tolist(), memory.hashes(memory.rows()).tolist(), strict=True))
    for _ in range(8):
        memory.add(**step(generator, 6, n_tasks=2), time=240)
    for _ in range(20):
        near = near_rows(sampler, memory, memory.rows()[:5], 40, generator, insight)
        anchors = sampler.draw_anchors(memory, 40, generator, insight)
        for rows in [*near, anchors[8:]]:
            assert [before[row] for row in rows.tolist()] == memory.hashes(rows).tolist()
            assert len(rows) >= 32


def test_the_sample_is_drawn_again_with_new_keys_and_after_a_while(filled, step):
    memory, generator = filled(), np.random.default_rng(0)
    insight = Known(memory)
    sampler = NearestNegatives(n_searched=50)

    def n_asked():
        insight.asked.clear()
        anchors = sampler.draw_anchors(memory, 5, generator, insight)
        sampler.near(memory, anchors, 8, generator, insight)
        return len(insight.asked)  # the queries twice, and the searched rows where they are new

    assert [n_asked(), n_asked()] == [3, 2]
    insight.snapshot += 1
    assert [n_asked(), n_asked()] == [3, 2]
    for time in range(21):  # a quarter of its 500 rows
        assert n_asked() == 2
        memory.add(**step(generator, 6, n_tasks=2), time=time)
    assert [n_asked(), n_asked()] == [3, 2]
    assert sum(n_asked() == 3 for _ in range(600)) == 2  # 256 draws each


def test_the_sample_keeps_up_with_a_memory_that_turns_over(filled, step):
    """A rollout that replaces all that is stored leaves nothing of an old sample."""
    memory, generator = filled(capacity=100, n_steps=40), np.random.default_rng(0)
    sampler = NearestNegatives()
    for time in range(10):
        for _ in range(17):
            memory.add(**step(generator, 6, n_tasks=2), time=time)
        near = near_rows(sampler, memory, memory.rows()[:20], 20, generator, Known(memory))
        n_distinct = len(np.unique(memory.hashes(memory.rows())))
        assert all(len(rows) >= n_distinct // 20 - 1 > 0 for rows in near), n_distinct
        assert len(sampler.draw_anchors(memory, 64, generator, Known(memory))) == 64


@many
@given(arguments=memories, n_anchors=st.integers(1, 20))
def test_value_contrast_weighs_by_what_followed(filled, arguments, n_anchors):
    memory = filled(**arguments)
    generator = np.random.default_rng(arguments["seed"])
    anchors = memory.sample_rows(n_anchors, generator)
    pool = ValueContrastNegatives(n_searched=1000).draw(
        memory, anchors, 30, generator, Known(memory)
    )
    returns, known = memory.returns(memory.rows()), memory.return_known(memory.rows())
    tasks = memory.task_ids(memory.rows())
    for b, anchor in enumerate(anchors[:, None]):
        task = memory.task_ids(anchor)[0]
        of_task = returns[known & (tasks == task)].astype(float)
        scale = of_task.std() if len(of_task) else 0.0
        for j, row in enumerate(pool.rows[b % len(pool.rows), :, None]):
            weight = 1.0
            if (
                memory.return_known(anchor)[0]
                and memory.return_known(row)[0]
                and memory.task_ids(row)[0] == task
                and scale > 1e-6
            ):
                difference = abs(float(memory.returns(row)[0]) - float(memory.returns(anchor)[0]))
                weight = 1.0 - math.exp(-difference / scale)
            assert np.exp(pool.log_weights[b, j]) == pytest.approx(weight, abs=1e-5)


@pytest.mark.parametrize("settings_", [{"uniform_share": 1.0}, {}])
def test_value_contrast_weighs_uniform_negatives_too(filled, settings_):
    memory = filled()
    sampler = ValueContrastNegatives(**settings_)
    k = 64 if settings_ else 1  # of one negative none is hard
    weights = np.concatenate(
        [
            sampler.draw(
                memory, memory.rows()[:30], k, np.random.default_rng(i), Known(memory)
            ).log_weights.ravel()
            for i in range(20)
        ]
    )
    assert (weights < 0.0).any()


def test_equal_returns_weigh_one(filled):
    memory = EpisodicMemory(capacity=50)
    memory.start(n_envs=2, gamma=0.9, tasks=["a"])
    for time in range(20):  # never a reward: the sparse start
        memory.add(
            observations=np.full((2, 3), time, np.uint8),
            actions=np.zeros(2),
            rewards=np.zeros(2),
            terminated=np.full(2, time % 5 == 4),
            truncated=np.zeros(2, bool),
            tasks=np.zeros(2, int),
            time=time,
        )
    pool = ValueContrastNegatives().draw(
        memory, memory.rows(), 16, np.random.default_rng(0), Known(memory)
    )
    assert memory.return_known(memory.rows()).all()
    assert (pool.log_weights == 0.0).all()


def test_prediction_error_draws_in_proportion(filled):
    memory = filled(capacity=60, n_steps=12)
    rows = memory.rows()
    errors = dict(zip(rows.tolist(), np.random.default_rng(1).random(len(rows)), strict=True))
    errors[int(rows[0])] = 0.0
    sampler, generator = PredictionErrorNegatives(), np.random.default_rng(0)
    insight = Known(memory, errors=lambda row: errors[int(row)])
    counts = dict.fromkeys(rows.tolist(), 0)
    for _ in range(20_000):
        (row,) = sampler.hard(memory, 1, generator, insight)
        counts[int(row)] += 1
    assert counts[int(rows[0])] == 0
    total = sum(errors.values())
    expected = {row: 20_000 * error / total for row, error in errors.items() if error > 0}
    chi_square = sum((counts[row] - n) ** 2 / n for row, n in expected.items())
    assert chi_square < len(expected) + 6 * math.sqrt(2 * len(expected))


def test_without_errors_all_is_uniform(filled):
    memory = filled()
    insight = Known(memory, errors=lambda row: 0.0)
    sampler = PredictionErrorNegatives()
    pool = sampler.draw(memory, memory.rows()[:4], 30, np.random.default_rng(0), insight)
    assert len(pool.rows) == 30


@pytest.mark.parametrize("error", [np.nan, np.inf, -1.0])
def test_errors_that_cannot_be_are_refused(filled, error):
    memory = filled()
    row = memory.rows()[7:8]
    insight = Known(memory, errors=lambda each: error if each == row[0] else 1.0)
    message = rf"off by {error} in task-\d \(step {memory.steps(row)[0]} of its episode, frame"
    with pytest.raises(FloatingPointError, match=message):
        PredictionErrorNegatives().draw(
            memory, memory.rows()[:4], 30, np.random.default_rng(0), insight
        )


@pytest.mark.parametrize("name", ["nearest", "value_contrast", "prediction_error"])
def test_what_samplers_remember_is_kept(filled, name):
    memory, insight = filled(), None
    insight = Known(memory, errors=float)
    sampler, other = make_negatives(name), make_negatives(name)
    sampler.restore(sampler.state_arrays())  # nothing yet
    sampler.draw(memory, memory.rows()[:9], 30, np.random.default_rng(0), insight)
    other.restore(sampler.state_arrays())
    first, second = (
        each.draw(memory, memory.rows()[:9], 30, np.random.default_rng(1), insight)
        for each in (sampler, other)
    )
    np.testing.assert_array_equal(first.rows, second.rows)
    np.testing.assert_array_equal(first.log_weights, second.log_weights)


@many
@given(arguments=memories)
def test_value_matched_positives_are_worth_as_much_in_another_episode(filled, arguments):
    memory = filled(**arguments)
    anchors = memory.rows()
    rows, valid = draw_value_matched(memory, anchors, np.random.default_rng(arguments["seed"]))
    known = memory.return_known(anchors)
    spread = memory.returns(anchors)[known].std() if known.any() else 0.0
    for anchor, row, fine in zip(anchors[:, None], rows[:, None], valid, strict=True):
        if not fine:
            assert anchor == row
            continue
        assert memory.return_known(anchor) and memory.return_known(row)
        assert memory.episodes(anchor) != memory.episodes(row)
        assert memory.hashes(anchor) != memory.hashes(row)
        difference = abs(memory.returns(anchor) - memory.returns(row))
        assert difference <= 0.1 * spread + 1e-6  # all rows were candidates: there are < 256
        assert spread > 0.0
    if spread < 1e-5:
        return
    candidates = anchors[known]
    for anchor, fine in zip(anchors[:, None], valid, strict=True):
        possible = (
            memory.return_known(anchor)
            & (np.abs(memory.returns(candidates) - memory.returns(anchor)) < 0.099 * spread)
            & (memory.episodes(candidates) != memory.episodes(anchor))
            & (memory.hashes(candidates) != memory.hashes(anchor))
        )
        assert fine or not possible.any()


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"band": (-0.1, 0.5)}, r"band is \(-0\.1, 0\.5\); expected 0 <= low < high <= 1"),
        ({"band": (0.5, 0.5)}, r"band is \(0\.5, 0\.5\)"),
        ({"band": (0.5, 1.5)}, r"band is \(0\.5, 1\.5\)"),
        ({"uniform_share": 0.4}, r"uniform_share is 0\.4; it must lie in \[0\.5, 1\]"),
        ({"n_searched": 1}, r"n_searched is 1 rows; it must be 2 or more"),
    ],
)
def test_bad_settings(settings_, message):
    with pytest.raises(ValueError, match=message):
        make_negatives("nearest", **settings_)


def test_own_samplers_need_a_draw_alone(filled):
    class Oldest(NegativeSampler):
        def draw(self, memory, anchors, k, generator, insight):
            return Pool(memory.rows()[:k])

    assert make_negatives(Oldest()).name == "own"
    with pytest.raises(ValueError, match="expected a name, or an object of a NegativeSampler"):
        make_negatives(Oldest)
    with pytest.raises(ValueError, match="no sampler of negatives has a setting 'bnd'"):
        make_negatives("nearest", bnd=(0, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows, "UniformNegatives.draw gave a ndarray; expected a memory.Pool"),
        (lambda rows: Pool(rows + 10**6), "rows that are not stored, or one of them twice"),
        (lambda rows: Pool(-1 - rows), "rows that are not stored, or one of them twice"),
        (lambda rows: Pool(np.repeat(rows, 2)), "rows that are not stored, or one of them twice"),
        (lambda rows: Pool(rows, np.zeros(8)), r"shape \(8,\); expected \(4, 8\)"),
        (lambda rows: Pool(rows, np.full((4, 8), np.nan)), "without NaN"),
        (lambda rows: Pool(rows, np.full((4, 8), np.inf)), "without NaN"),
        (lambda rows: Pool(rows[[[0, 1], [2, 2]]]), "or one of them twice"),
        (lambda rows: Pool(rows[None, None]), r"shape \(1, 1, 8\); expected \(K,\), shared"),
        (lambda rows: Pool(rows[None][:0]), r"rows of shape \(0, 8\); expected \(K,\), shared"),
        (lambda rows: Pool(rows[:, None], np.zeros((4, 8))), r"\(4, 8\); expected \(4, 1\)"),
    ],
)
def test_a_pool_that_is_none_is_refused(filled, change, message):
    memory = filled()
    rows, anchors = memory.rows()[:8], memory.rows()[:4]
    check_pool(Pool(rows, np.full((4, 8), -np.inf)), UniformNegatives(), memory, anchors)
    check_pool(Pool(rows[:0]), UniformNegatives(), memory, anchors)
    groups = Pool(rows[[[0, 1], [1, 2]]], np.zeros((4, 2)))  # two groups may share a row
    check_pool(groups, UniformNegatives(), memory, anchors)
    with pytest.raises(ValueError, match=message):
        check_pool(change(rows), UniformNegatives(), memory, anchors)
