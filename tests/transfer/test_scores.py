"""Scores against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastive_distillation.transfer import (
    area_under_curve,
    bootstrap_interval,
    interquartile_mean,
    jumpstart,
)


def test_area_is_by_trapezoids_over_uneven_frames() -> None:
    # 100 frames from 0 to 1: 50; 300 frames at 1: 300; of 400 frames.
    assert area_under_curve([0, 100, 400], [0, 1, 1]) == pytest.approx(350 / 400)


def test_area_of_one_point_is_that_point() -> None:
    assert area_under_curve([0], [0.3]) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("frames", "scores", "text"),
    [
        ([], [], "not be empty|not empty"),
        ([0, 1], [0.5], "equally long"),
        ([0, 5, 5], [0, 1, 1], "increase"),
    ],
)
def test_area_refuses(frames: list[int], scores: list[float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        area_under_curve(frames, scores)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.integers(1, 10_000))
def test_area_lies_between_the_scores_and_ignores_the_unit_of_frames(
    scores: list[float], unit: int
) -> None:
    frames = np.arange(len(scores))
    area = area_under_curve(frames, scores)
    assert min(scores) - 1e-9 <= area <= max(scores) + 1e-9
    assert area_under_curve(frames * unit, scores) == pytest.approx(area)


def test_jumpstart_is_the_difference_of_the_first_scores() -> None:
    assert jumpstart([0.7, 0.1], [0.2, 0.9]) == pytest.approx(0.5)


def test_interquartile_mean_cuts_a_quarter_at_either_end() -> None:
    assert interquartile_mean([100, 1, 2, 3, 4, 5, 6, -100]) == pytest.approx(3.5)
    assert interquartile_mean([[1, 2], [3, 1000]]) == pytest.approx(2.5)


def test_interquartile_mean_is_scipys_trimmed_mean() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    scores = np.random.default_rng(0).random((7, 3))
    assert interquartile_mean(scores) == pytest.approx(
        scipy_stats.trim_mean(scores, 0.25, axis=None)
    )


def test_interval_of_equal_runs_is_a_point() -> None:
    low, high = bootstrap_interval([0.4, 0.4, 0.4], np.random.default_rng(0))
    assert (low, high) == pytest.approx((0.4, 0.4))


def test_interval_of_two_runs() -> None:
    # Means of two draws from {0, 1}: 0, .5 and 1 with chances ¼, ½, ¼; so 2.5 % is 0, 97.5 % is 1.
    assert bootstrap_interval([0, 1], np.random.default_rng(0)) == (0.0, 1.0)


def test_interval_resamples_runs_within_tasks() -> None:
    # Within each task all runs are equal, so no resample can differ from the table itself.
    table = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert bootstrap_interval(table, np.random.default_rng(0)) == pytest.approx((0.5, 0.5))


def test_interval_is_that_of_its_seed() -> None:
    scores = np.random.default_rng(1).random((5, 2))
    first = bootstrap_interval(scores, np.random.default_rng(3))
    assert first == bootstrap_interval(scores, np.random.default_rng(3))
    assert first[0] < scores.mean() < first[1]


def test_no_interval_from_one_run() -> None:
    with pytest.raises(ValueError, match="at least two"):
        bootstrap_interval([0.5], np.random.default_rng(0))
