"""Scores against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastive_distillation.transfer import area_under_curve, interquartile_mean, jumpstart
from contrastive_distillation.transfer.report.scores import (
    TimeToThreshold,
    asymptote,
    charged,
    forward_transfer,
    interquartile_means,
    kaplan_meier,
    means,
    optimality_gaps,
    performance_profiles,
    probabilities_of_improvement,
    time_to_threshold,
    without_gaps,
)

NAN = float("nan")
X = [[0.1, 0.9, 0.5], [0.3, 0.7, 0.5], [0.2, 1.2, 0.4], [0.8, 0.95, 0.6], [0.05, 0.6, 0.5]]
Y = [[0.1, 0.2, 0.5], [0.4, 0.7, 0.5], [0.2, 0.3, 0.5], [0.3, 0.1, 0.5]]


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
        ([0, 5, 9], [0, NAN, 1], "after 5 frames is not a number"),
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


def test_as_rliable_defines_them() -> None:
    """rliable.metrics: trim_mean(x, .25, None), 1 − mean(min(x, 1)), mean of U / (R · S)."""
    assert interquartile_mean(X) == pytest.approx(0.5444444444)  # 4.9 / 9
    assert interquartile_mean(Y) == pytest.approx(0.3666666667)
    assert optimality_gaps(X) == pytest.approx(0.46)  # 1.2 counts as 1
    assert optimality_gaps(X, gamma=0.5) == pytest.approx(0.5 - 6.05 / 15)
    # U / (5 · 4): 8.5 / 20, 18.5 / 20, 10 / 20; the last with nothing but ties and equal losses
    assert probabilities_of_improvement(X, Y) == pytest.approx(0.6166666667)
    assert probabilities_of_improvement(Y, X) == pytest.approx(1 - 0.6166666667)


def test_stacks_of_tables_are_taken_one_by_one() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.random((6, 5, 3)), generator.random((6, 4, 3)).round(1)
    for each in (means, interquartile_means, optimality_gaps):
        np.testing.assert_allclose(each(x), [each(table) for table in x])
    np.testing.assert_allclose(
        probabilities_of_improvement(x, y),
        [probabilities_of_improvement(*pair) for pair in zip(x, y, strict=True)],
    )
    levels = [0.0, 0.5, 1.0]
    np.testing.assert_allclose(
        performance_profiles(x, thresholds=levels),
        [performance_profiles(table, thresholds=levels) for table in x],
    )


def test_ties_and_equal_arms_are_even() -> None:
    assert probabilities_of_improvement(X, X) == pytest.approx(0.5)
    assert probabilities_of_improvement([[0.0], [0.0]], [[0.0], [0.0], [0.0]]) == 0.5
    assert probabilities_of_improvement([0.9], [0.1]) == 1.0, "one seed each"


def test_profile_counts_what_is_above() -> None:
    profile = performance_profiles([[0.0, 0.5], [0.5, 1.0]], thresholds=[-0.1, 0.0, 0.5, 0.9, 1.0])
    assert profile.tolist() == [1.0, 0.75, 0.25, 0.25, 0.0]


@pytest.mark.parametrize("score", [means, interquartile_means, optimality_gaps])
def test_a_run_that_is_nan_is_refused_never_averaged(score: object) -> None:
    with pytest.raises(ValueError, match="run 1 on task 0 is not a number"):
        score([[0.1, 0.2], [NAN, 0.3]])  # type: ignore[operator]
    with pytest.raises(ValueError, match="no scores"):
        score(np.empty((0, 2)))  # type: ignore[operator]
    with pytest.raises(ValueError, match="not a number"):
        probabilities_of_improvement(X, [[0.1, np.inf, 0.2]])


def test_runs_with_gaps_are_taken_out_and_named() -> None:
    scores, whole = without_gaps([[0.1, 0.2], [NAN, 0.3], [0.4, 0.5]])
    assert scores.tolist() == [[0.1, 0.2], [0.4, 0.5]]
    assert whole.tolist() == [True, False, True]
    assert without_gaps([NAN, 1.0])[0].tolist() == [[1.0]]


def test_arms_of_other_tasks_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="got 3 and 2 tasks"):
        probabilities_of_improvement(X, [[0.1, 0.2]])


def test_asymptote_is_the_mean_of_the_last_quarter() -> None:
    assert asymptote([9, 9, 9, 9, 9, 9, 0.4, 0.6]) == pytest.approx(0.5)
    assert asymptote([0.1, 0.9]) == pytest.approx(0.9)
    assert asymptote([0.1, 0.9], share=1.0) == pytest.approx(0.5)


def test_time_to_threshold_is_censored_where_it_is_never_reached() -> None:
    frames, scores = [0, 10, 20, 30], [0.0, 0.5, 0.2, 0.6]
    assert time_to_threshold(frames, scores, 0.5) == TimeToThreshold(10, True)
    assert time_to_threshold(frames, scores, 0.0) == TimeToThreshold(0, True)
    never = time_to_threshold(frames, scores, 0.7)
    assert never == TimeToThreshold(30, False)
    assert charged(never, 100) == TimeToThreshold(130, False)


def test_survival_of_a_published_example() -> None:
    """Freireich et al. 1963, 6-MP: 21 patients, 9 events; a + is a censored time."""
    text = "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+"
    times = [TimeToThreshold(float(t.rstrip("+")), not t.endswith("+")) for t in text.split()]
    curve = kaplan_meier(times)
    assert curve.times.tolist() == [6, 7, 10, 13, 16, 22, 23]
    expected = [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]
    assert curve.shares == pytest.approx(expected, abs=5e-4)
    assert curve.median == 23


def test_median_of_runs_that_never_get_there() -> None:
    one, never = TimeToThreshold(5, True), TimeToThreshold(9, False)
    assert kaplan_meier([never, never]).median is None
    assert kaplan_meier([never, never]).times.tolist() == []
    assert kaplan_meier([one, never, never]).median is None
    assert kaplan_meier([one, never]).median == 5
    assert kaplan_meier([one]).shares.tolist() == [0.0]
    # A naive median of the known frames would say 9 for the first, as if it had been reached.
    with pytest.raises(ValueError, match="at least one run"):
        kaplan_meier([])


def test_forward_transfer_by_hand() -> None:
    found = forward_transfer([[0.6, 0.3], [0.8, 0.1]], [[0.1, 0.0], [0.3, 0.0]])
    # scratch: 0.2 → (0.6 − 0.2) / 0.8, (0.8 − 0.2) / 0.8; and 0, where the difference stands
    np.testing.assert_allclose(found.values, [[0.5, 0.3], [0.75, 0.1]])
    assert found.is_raw.tolist() == [False, True]


def test_forward_transfer_without_room_is_a_difference() -> None:
    found = forward_transfer([[0.9]], [[0.99]])
    assert found.values == pytest.approx(-0.09)  # and not −9
    assert found.is_raw.all()
    assert np.isfinite(forward_transfer([[1.0]], [[1.0]]).values).all()
