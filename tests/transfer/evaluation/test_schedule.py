"""How often and how long agents are judged: known beforehand, and affordable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastive_distillation.transfer.evaluation import schedule as protocol
from contrastive_distillation.transfer.evaluation.schedule import Outlook

FRAMES = st.integers(1, 10_000_000)
LONGEST = st.lists(st.one_of(st.none(), st.integers(1, 5000)), min_size=1, max_size=5)
LENGTHS = st.lists(st.floats(1.0, 5000.0), min_size=1, max_size=5).map(tuple)

FRAME, POOL_STEP, PYTHON_STEP = 45e-6, 250e-6, 160e-6
"""Seconds that a frame costs to learn from, a step of a whole round, a step of Python's grids."""


@given(FRAMES, LONGEST)
def test_checkpoints_begin_at_zero_and_end_before_the_end(
    frames: int, longest: list[int | None]
) -> None:
    due = protocol.evaluation_frames(frames, longest)
    assert due[0] == 0
    assert due[-1] < frames
    assert due == sorted(set(due))
    assert len(due) <= max(protocol.MOST_INTERVALS, frames / protocol.LONGEST_INTERVAL)
    assert len(due) >= min(frames, protocol.FEWEST_INTERVALS)


def test_checkpoints_are_sixths() -> None:
    assert protocol.evaluation_frames(600, [1]) == [0, 100, 200, 300, 400, 500]


def test_checkpoints_are_quarters_where_episodes_are_long() -> None:
    assert protocol.evaluation_frames(200_000, [250, 640]) == [0, 50_000, 100_000, 150_000]


def test_checkpoints_of_cart_pole_are_sixths() -> None:
    assert len(protocol.evaluation_frames(200_000, [500])) == 6


def test_long_trainings_are_judged_more_often() -> None:
    assert protocol.evaluation_frames(1_500_000, [250, 288])[:3] == [0, 50_000, 100_000]


@given(FRAMES, LENGTHS, st.booleans())
def test_numbers_of_episodes(frames: int, lengths: tuple[float, ...], scored: bool) -> None:
    outlook = Outlook(lengths=lengths, scored=scored)
    fewest = 8 if scored else 4
    assert fewest <= protocol.episodes_during_training(frames, outlook) <= 32
    assert fewest <= protocol.episodes_at_end(frames, outlook) <= 50


@given(FRAMES, LENGTHS)
def test_more_frames_and_shorter_episodes_never_mean_fewer_episodes(
    frames: int, lengths: tuple[float, ...]
) -> None:
    outlook = Outlook(lengths=lengths)
    shorter = Outlook(lengths=tuple(steps / 2 for steps in lengths))
    n_episodes = protocol.episodes_at_end(frames, outlook)
    assert protocol.episodes_at_end(2 * frames, outlook) >= n_episodes
    assert protocol.episodes_at_end(frames, shorter) >= n_episodes


@pytest.mark.parametrize(("frames", "longest"), [(200_000, 640), (400_000, 640), (200_000, 250)])
def test_a_failing_agent_stays_affordable(frames: int, longest: int) -> None:
    """Every episode to its end, and still about a tenth of the time that learning takes."""
    n_rounds = len(protocol.evaluation_frames(frames, [longest])) + 1
    failing = Outlook(lengths=(float(longest),), scored=False)
    at_end = protocol.episodes_at_end(frames, failing) * longest * PYTHON_STEP
    assert n_rounds * longest * POOL_STEP + at_end <= 0.14 * frames * FRAME


def test_what_succeeds_fast_is_judged_by_many_episodes() -> None:
    learnt = Outlook(lengths=(25.0,))
    assert protocol.episodes_during_training(200_000, learnt) == 32
    assert protocol.episodes_at_end(200_000, learnt) == 50
