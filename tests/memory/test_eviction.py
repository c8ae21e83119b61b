"""What stays: uniformity, shares, strata, and choices of one's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from contrastive_distillation.memory import (
    EVICTIONS,
    EpisodicMemory,
    EvictionPolicy,
    FinishedEpisodes,
    ReplayMemory,
    ReservoirEviction,
    ValueStratifiedEviction,
    make_eviction,
)


def live(memory: EpisodicMemory, lengths, rewards=None, tasks=None) -> None:
    """Episodes of these lengths, one after the other, with one reward at their end."""
    for episode, length in enumerate(lengths):
        for step in range(length):
            end = step == length - 1
            memory.add(
                observations=np.array([[episode % 256]], dtype=np.uint8),
                actions=np.zeros(1, dtype=int),
                rewards=np.array([rewards[episode] if rewards is not None and end else 0.0]),
                terminated=np.array([end]),
                truncated=np.array([False]),
                tasks=np.array([0 if tasks is None else tasks[episode]]),
                time=0,
            )


def started(keep: str | EvictionPolicy, capacity: int = 400, n_tasks: int = 1) -> EpisodicMemory:
    memory = EpisodicMemory(capacity=capacity, keep=keep)
    memory.start(n_envs=1, gamma=1.0, tasks=[f"task-{i}" for i in range(n_tasks)])
    return memory


def n_rows_of(memory: EpisodicMemory, groups: np.ndarray) -> list[int]:
    """Rows in each group of episodes; `groups` (n,) has one for each episode ever."""
    return np.bincount(groups[memory.episodes(memory.rows())], minlength=groups.max() + 1).tolist()


@pytest.mark.parametrize("keep", EVICTIONS)
@settings(max_examples=40, deadline=None)
@given(per_env=st.integers(8, 30), n_envs=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_closed_episodes_are_whole_or_gone(keep: str, per_env: int, n_envs: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    memory = EpisodicMemory(capacity=per_env * n_envs, keep=keep)
    memory.start(n_envs=n_envs, gamma=0.9, tasks=["a"])
    longest = per_env // 8 * 8  # such episodes fit, so none loses its head
    lengths: dict[int, int] = {}  # of all episodes ever, by number
    numbers, steps = np.arange(n_envs), np.zeros(n_envs, dtype=int)
    n_begun = n_envs
    for time in range(3 * per_env * n_envs):
        done = (generator.random(n_envs) < 0.3) | (steps + 1 >= longest)
        memory.add(
            observations=generator.integers(0, 9, (n_envs, 1), dtype=np.uint8),
            actions=np.zeros(n_envs),
            rewards=np.ones(n_envs),
            terminated=done,
            truncated=np.zeros(n_envs, dtype=bool),
            tasks=np.zeros(n_envs, dtype=int),
            time=time,
        )
        steps += 1
        for env in range(n_envs):
            lengths[int(numbers[env])] = int(steps[env])
        stored, n_rows = np.unique(memory.episodes(memory.rows()), return_counts=True)
        assert {int(n): lengths[int(n)] for n in stored} == dict(
            zip(stored.tolist(), n_rows.tolist(), strict=True)
        )
        for env in np.flatnonzero(done):
            numbers[env], steps[env] = n_begun, 0
            n_begun += 1


# -------------------------------------------------------------------- reservoir


def share_by_age(keep: str, n_runs: int = 150, n_episodes: int = 40) -> tuple[np.ndarray, float]:
    """How often each episode is still stored at the end, (n_episodes,); and the p-value of
    the hypothesis that this does not depend on when it was lived."""
    n_stored = np.zeros(n_episodes)
    for seed in range(n_runs):
        memory = started(
            ReservoirEviction(seed=seed) if keep == "reservoir" else keep, capacity=160
        )
        live(memory, np.random.default_rng(seed).integers(1, 16, n_episodes))
        n_stored[np.unique(memory.episodes(memory.rows()))] += 1
    share = n_stored.mean() / n_runs
    # k of n are drawn without replacement: the counts vary less than independent ones.
    variance = n_runs * share * (1 - share) * n_episodes / (n_episodes - 1)
    statistic = ((n_stored - n_stored.mean()) ** 2).sum() / variance
    return n_stored, float(stats.chi2.sf(statistic, n_episodes - 1))


def test_reservoir_keeps_every_age_alike() -> None:
    n_stored, p = share_by_age("reservoir")
    assert p > 1e-4
    assert 0.1 < n_stored.mean() / 150 < 0.5  # so most are forgotten
    _, p = share_by_age("fifo", n_runs=20)
    assert p < 1e-12  # the test can tell


def test_reservoir_holds_exactly_the_episodes_below_its_threshold(filled, step) -> None:
    keep = ReservoirEviction(seed=3)
    memory = filled(keep=keep, n_steps=0)
    generator = np.random.default_rng(0)
    thresholds = []
    for time in range(400):
        memory.add(**step(generator, 6, n_tasks=2), time=time)
        numbers = np.arange(memory._episodes.next_id)
        is_open = np.isin(numbers, memory.state_tensors()["open_episodes"])
        below = keep.keys(numbers) < keep.threshold
        stored = np.isin(numbers, memory.episodes(memory.rows()))
        np.testing.assert_array_equal(stored, below | is_open)
        thresholds.append(keep.threshold)
    assert thresholds[0] == 1.0
    assert (np.diff(thresholds) <= 0).all()
    assert len(numbers) * keep.threshold == pytest.approx((below & stored).sum(), rel=0.35)


def test_reservoir_keys_are_the_same_everywhere() -> None:
    """Files go on with them: these numbers must never change."""
    keys = ReservoirEviction(seed=0).keys(np.array([0, 1, 2**40]))
    expected = [0.6524484863740322, 0.7012121095215252, 0.142984370032623]
    assert keys.tolist() == expected
    assert len(np.unique(ReservoirEviction(seed=7).keys(np.arange(10_000)))) == 10_000
    many = ReservoirEviction(seed=1).keys(np.arange(100_000))
    assert stats.kstest(many, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(many[:-1], many[1:])[0, 1]) < 0.02


# -------------------------------------------------------------------- tasks and values


def test_per_task_shares_equally_and_lends_what_is_not_needed() -> None:
    lengths = np.full(300, 8)  # a page each: 50 fit
    tasks = np.array([0] * 100 + [1] * 10 + [2] * 190)
    memory = started("per_task", n_tasks=3)
    live(memory, lengths[:100], tasks=tasks[:100])
    assert n_rows_of(memory, tasks) == [400, 0, 0]  # alone, it has all
    live(memory, lengths[100:], tasks=tasks[100:])
    rows = n_rows_of(memory, tasks)
    assert rows == [152, 80, 168]  # the small one is whole, the rest is halved, but for ties
    stored = np.unique(memory.episodes(memory.rows()))
    assert stored.tolist() == [*range(81, 110), *range(279, 300)]  # the newest of each


def test_a_target_makes_fifo_forget_the_source_and_the_others_not() -> None:
    tasks = np.repeat([0, 1], [50, 500])
    lengths = np.random.default_rng(0).integers(2, 14, len(tasks))
    share = {}
    for keep in EVICTIONS:
        memory = started(keep, n_tasks=2)
        live(memory, lengths, tasks=tasks)
        share[keep] = n_rows_of(memory, tasks)[0] / len(memory)
    assert share["fifo"] == 0
    assert share["per_task"] == pytest.approx(0.5, abs=0.1)  # to an episode
    assert share["value_stratified"] == pytest.approx(0.5, abs=0.1)
    assert 0 < share["reservoir"] < 0.3  # 1 in 11, and chance


def test_value_stratified_keeps_few_successes_among_many_failures() -> None:
    generator = np.random.default_rng(0)
    values = np.where(generator.random(1000) < 0.05, 1.0, 0.0)
    values[generator.random(1000) < 0.03] = 0.5
    kinds = (values * 2).astype(int)
    n_stored = {}
    for keep in ("fifo", "value_stratified"):
        memory = started(keep)
        live(memory, generator.integers(2, 14, 1000), rewards=values)
        n_stored[keep] = n_rows_of(memory, kinds)
    assert max(n_stored["fifo"]) > 0.8 * sum(n_stored["fifo"])
    shares = np.array(n_stored["value_stratified"]) / sum(n_stored["value_stratified"])
    np.testing.assert_allclose(shares, 1 / 3, atol=0.06)


def test_strata_by_hand() -> None:
    keep = ValueStratifiedEviction(n_strata=4)
    nan = float("nan")
    assert keep.strata(np.array([0.0, 0.24, 0.25, nan, 0.99, 1.0])).tolist() == [0, 0, 1, 4, 3, 3]
    assert keep.strata(np.array([2.0, nan, 2.0])).tolist() == [0, 4, 0]
    assert keep.strata(np.array([nan])).tolist() == [4]


# -------------------------------------------------------------------- one's own, and errors


class Longest(EvictionPolicy):
    """The longest leaves."""

    name = "longest"

    def victim(self, episodes: FinishedEpisodes) -> int:
        return int(np.lexsort((episodes.numbers, -episodes.lengths))[0])


def test_a_keep_of_ones_own(tmp_path) -> None:
    memory = started(Longest(), capacity=48)
    lengths = [3, 9, 4, 20, 5, 6, 7]
    live(memory, lengths)
    assert np.unique(memory.episodes(memory.rows())).tolist() == [0, 2, 4, 5, 6]
    memory.save(tmp_path / "m")
    loaded = EpisodicMemory.load(tmp_path / "m", keep=Longest())
    assert isinstance(loaded.keep, Longest)
    assert loaded.rows().tolist() == memory.rows().tolist()
    message = r"its keep 'longest' is not one of fifo, .*; pass an object of its class as keep="
    with pytest.raises(ValueError, match=message):
        EpisodicMemory.load(tmp_path / "m")
    with pytest.raises(ValueError, match="its keep is 'longest', not 'reservoir'"):
        EpisodicMemory.load(tmp_path / "m", keep=ReservoirEviction())


def test_recent_rows_are_those_written_since(filled, step) -> None:
    memory = filled(keep="value_stratified")
    memory.begin_rollout()
    assert len(memory.recent_rows()) == 0
    for time in (10_000, 10_001):
        memory.add(**step(np.random.default_rng(time), 6), time=time)
    assert set(memory.times(memory.recent_rows())) == {10_000, 10_001}


def test_names() -> None:
    assert list(EVICTIONS) == ["fifo", "reservoir", "per_task", "value_stratified"]
    assert all(kind.name == name for name, kind in EVICTIONS.items())
    mine = Longest()
    assert make_eviction(mine) is mine
    assert EpisodicMemory(capacity=50, keep=mine).keep is mine
    with pytest.raises(ValueError, match=r"unknown keep 'resevoir'\. Nearest: reservoir, "):
        EpisodicMemory(capacity=50, keep="resevoir")


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"a replay memory forgets .* Use an episodic memory"):
        ReplayMemory(capacity=50, keep="reservoir")
    assert ReplayMemory(capacity=50, keep="fifo").keep.name == "fifo"
    with pytest.raises(ValueError, match=r"7 environments .* memory of 50 rows .* 56 or more"):
        EpisodicMemory(capacity=50, keep="per_task").start(n_envs=7, gamma=0.9, tasks=["a"])
    with pytest.raises(ValueError, match="n_strata is 0; it must be 1 or more"):
        ValueStratifiedEviction(n_strata=0)
    with pytest.raises(ValueError, match="seed is -1"):
        ReservoirEviction(seed=-1)


@pytest.mark.parametrize(
    ("keep", "state", "message"),
    [
        ("fifo", {"seed": 1}, "keep 'fifo' remembers nothing, but its state is"),
        ("reservoir", {}, "the reservoir's seed is None"),
        ("reservoir", {"seed": 1, "threshold": 1.5}, r"threshold is 1\.5, not a number in"),
        ("value_stratified", {"n_strata": 0}, "n_strata is 0, not a whole number >= 1"),
    ],
)
def test_states_that_cannot_be(keep, state, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_eviction(keep).restore(state)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("pages/episodes", lambda a: None, "pages/episodes is missing"),
        ("pages/episodes", lambda a: np.repeat(a, 9), "558 pages, not up to 62"),
        ("pages/episodes", lambda a: a[:-1], "is not of 488 rows"),
        ("pages/episodes", lambda a: a + 1, "the pages are not those of the episodes"),
        ("pages/index", lambda a: None, "pages/index is missing"),
        ("pages/index", lambda a: a + 1, "the pages are not those of the episodes"),
        ("episodes/length", lambda a: a + 8, "an episode ends outside the memory"),
    ],
)
def test_wrong_pages(filled, name, change, message) -> None:
    memory = filled(keep="per_task")
    tensors = memory.state_tensors()
    tensors[name] = change(tensors[name])
    if tensors[name] is None:
        del tensors[name]
    with pytest.raises(ValueError, match=message):
        EpisodicMemory.from_state(tensors, memory.metadata())
