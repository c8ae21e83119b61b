"""How often and how long agents are judged: fixed beforehand, and affordable."""

from hypothesis import given
from hypothesis import strategies as st

from contrastive_distillation.transfer import protocol

FRAMES = st.integers(1, 10_000_000)
STEPS = st.lists(st.one_of(st.none(), st.integers(1, 5000)), min_size=1, max_size=5)


@given(FRAMES)
def test_checkpoints_begin_at_zero_and_end_before_the_end(frames: int) -> None:
    due = protocol.checkpoint_frames(frames)
    assert due[0] == 0
    assert due[-1] < frames
    assert due == sorted(set(due))
    assert len(due) <= max(protocol.N_INTERVALS, frames / protocol.LONGEST_INTERVAL)


def test_checkpoints_are_sixths() -> None:
    assert protocol.checkpoint_frames(60) == [0, 10, 20, 30, 40, 50]


def test_long_trainings_are_judged_more_often() -> None:
    assert protocol.checkpoint_frames(1_000_000)[:3] == [0, 50_000, 100_000]


@given(FRAMES, STEPS)
def test_numbers_of_episodes(frames: int, steps: list[int | None]) -> None:
    assert 8 <= protocol.episodes_at_checkpoint(frames, steps) <= 32
    assert 8 <= protocol.episodes_at_end(frames, steps) <= 50


@given(FRAMES, STEPS)
def test_more_frames_never_mean_fewer_episodes(frames: int, steps: list[int | None]) -> None:
    assert protocol.episodes_at_end(2 * frames, steps) >= protocol.episodes_at_end(frames, steps)


def test_a_failing_agent_stays_affordable() -> None:
    """Every episode to its end: a tenth of the training's frames, at Python's speed."""
    frames, longest = 200_000, 640
    steps = protocol.episodes_at_end(frames, [longest]) * longest
    assert steps <= 0.05 * frames
