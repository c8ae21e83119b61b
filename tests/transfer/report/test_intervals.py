"""Intervals against values worked out by hand, and where there must be none."""

import numpy as np
import pytest

from contrastive_distillation.transfer import (
    Estimate,
    bootstrap_interval,
    estimate,
    improvement,
    paired_difference,
)
from contrastive_distillation.transfer.report.intervals import bootstrap_band, mean_forward_transfer
from contrastive_distillation.transfer.report.scores import (
    forward_transfer,
    interquartile_means,
    means,
    optimality_gaps,
    performance_profiles,
)


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


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


def test_the_stack_is_what_a_loop_would_draw() -> None:
    table = seeded(1).random((5, 3))
    generator, values = seeded(7), []
    for _ in range(400):
        rows = generator.integers(5, size=(5, 3))
        values.append(float(interquartile_means(np.take_along_axis(table, rows, axis=0))))
    expected = np.quantile(values, [0.025, 0.975])
    found = bootstrap_interval(table, seeded(7), statistic=interquartile_means, n_resamples=400)
    np.testing.assert_allclose(found, expected)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """40 runs of a uniform score: the mean is ½; a 90 % interval holds it in 80 to 99 of 100."""
    tables = seeded(3).random((100, 40, 2))
    generator = seeded(4)
    ends = [bootstrap_interval(t, generator, level=0.9, n_resamples=300) for t in tables]
    assert 80 <= sum(low <= 0.5 <= high for low, high in ends) <= 99


def test_other_tasks_might_have_been_tried() -> None:
    table = np.tile([0.0, 0.0, 1.0, 1.0], (6, 1))
    assert bootstrap_interval(table, seeded()) == (0.5, 0.5)
    low, high = bootstrap_interval(table, seeded(), task_bootstrap=True)
    assert low <= 0.25 and high >= 0.75


def test_one_seed_has_a_value_and_no_interval() -> None:
    for found in (
        estimate([[0.2, 0.4]], seeded()),
        paired_difference([[0.2, 0.4]], [[0.1, 0.1]], seeded()),
        improvement([[0.2, 0.4]], [[0.3, 0.1]], seeded()),
    ):
        assert not found.has_interval
        assert not found.excludes(-99.0)
    assert estimate([[0.2, 0.4]], seeded()).value == pytest.approx(0.3)
    with pytest.raises(ValueError, match="two runs"):
        bootstrap_interval([[0.2, 0.4]], seeded())


def test_an_interval_that_touches_zero_does_not_exclude_it() -> None:
    assert Estimate(value=0.1, low=0.01, high=0.2, n_runs=3).excludes(0.0)
    assert not Estimate(value=0.1, low=0.0, high=0.2, n_runs=3).excludes(0.0)
    assert Estimate(value=-0.1, low=-0.2, high=-0.01, n_runs=3).excludes(0.0)


def test_pairing_takes_out_what_the_seeds_share() -> None:
    luck = np.array([0.0, 0.3, 0.6, 0.9])[:, None]
    x, y = luck + np.array([0.1, 0.1]), luck + np.zeros(2)
    found = paired_difference(x, y, seeded())
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))
    unpaired = paired_difference(x, y[::-1], seeded())
    assert unpaired.value == pytest.approx(0.1)
    assert not unpaired.excludes(0.0), "the seeds alone differ by more than the arms"


def test_seeds_are_lucky_on_all_tasks_together() -> None:
    """Resampling the tasks one by one would take four shared seeds for eight independent ones."""
    y, x = np.zeros((4, 2)), np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    found = paired_difference(x, y, seeded())
    one_task = paired_difference(x[:, :1], y[:, :1], seeded())
    assert (found.value, found.low, found.high) == (one_task.value, one_task.low, one_task.high)


def test_whole_runs_are_as_sure_of_many_tasks_as_of_one_where_these_are_alike() -> None:
    x, y = seeded(1).random((6, 1)), seeded(2).random((5, 1))
    both_x, both_y = (np.repeat(table, 3, axis=1) for table in (x, y))
    for found, of_one in (
        (estimate(both_x, seeded(), whole_runs=True), estimate(x, seeded())),
        (improvement(both_x, both_y, seeded(), whole_runs=True), improvement(x, y, seeded())),
    ):
        assert (found.value, found.low, found.high) == pytest.approx(
            (of_one.value, of_one.low, of_one.high)
        )
    low, high = bootstrap_interval(both_x, seeded(3))
    whole = bootstrap_interval(both_x, seeded(3), whole_runs=True)
    assert high - low < 0.8 * (whole[1] - whole[0]), "task by task they seem independent"


def test_forward_transfer_is_as_uncertain_as_scratch_is() -> None:
    x, scratch = np.full((6, 2), 0.8), np.full((6, 2), 0.3)
    sure = mean_forward_transfer(x, scratch, seeded())
    assert (sure.value, sure.low, sure.high) == pytest.approx((5 / 7, 5 / 7, 5 / 7))
    unsure = mean_forward_transfer(x, [[0.1, 0.1], [0.5, 0.5]] * 3, seeded())
    assert unsure.value == pytest.approx(5 / 7)
    assert unsure.low is not None and unsure.high is not None
    assert unsure.low < 5 / 7 - 0.05 and unsure.high > 5 / 7 + 0.03
    assert not mean_forward_transfer(x, scratch[:1], seeded()).has_interval


def test_forward_transfer_of_resamples_is_what_a_loop_would_say() -> None:
    x, y = seeded(1).random((4, 2)), seeded(2).random((5, 2)) / 2
    generator, values = seeded(0), []
    drawn = [generator.integers(len(table), size=(300, len(table), 1)) for table in (x, y)]
    for left, right in zip(*drawn, strict=True):
        values.append(forward_transfer(x[left[:, 0]], y[right[:, 0]]).values.mean())
    found = mean_forward_transfer(x, y, seeded(0), n_resamples=300)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_the_difference_is_of_the_statistic_asked_for() -> None:
    x, y = seeded(1).random((8, 3)), seeded(2).random((8, 3))
    found = paired_difference(x, y, seeded(), statistic=interquartile_means)
    assert found.value == pytest.approx(float(interquartile_means(x) - interquartile_means(y)))
    assert found.low is not None and found.high is not None
    assert found.low < found.value < found.high
    with pytest.raises(ValueError, match="same seeds"):
        paired_difference(x, y[:3], seeded())


def test_improvement_is_even_for_equal_arms_and_certain_for_others() -> None:
    same = improvement([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], seeded())
    assert (same.value, same.low, same.high) == (0.5, 0.5, 0.5)
    better = improvement([0.8, 0.9], [0.1, 0.2, 0.3], seeded())
    assert (better.value, better.low, better.high, better.n_runs) == (1.0, 1.0, 1.0, 2)


@pytest.mark.parametrize("statistic", [means, interquartile_means, optimality_gaps])
def test_all_equal(statistic: object) -> None:
    found = estimate(np.full((5, 2), 0.25), seeded(), statistic=statistic)  # type: ignore[arg-type]
    assert found.value == found.low == found.high


def test_nan_runs_are_refused() -> None:
    for call in (estimate, bootstrap_interval):
        with pytest.raises(ValueError, match="not a number"):
            call([0.1, float("nan"), 0.3], seeded())


def test_a_band_holds_its_curve() -> None:
    table, levels = seeded(5).random((6, 2)), np.linspace(0, 1, 11)

    def profile(scores: np.ndarray) -> np.ndarray:
        return performance_profiles(scores, thresholds=levels)

    low, high = bootstrap_band(table, seeded(), statistic=profile)
    assert low.shape == high.shape == (11,)
    assert (low <= profile(table)).all() and (profile(table) <= high).all()
    assert (low[[0, -1]] == [1, 0]).all() and (high[[0, -1]] == [1, 0]).all()


def test_a_paired_difference_resamples_the_same_seeds_and_tasks_of_both_arms() -> None:
    random = seeded(3)
    x, y = random.random((6, 4)), random.random((6, 4))
    generator = seeded(0)
    rows = generator.integers(6, size=(200, 6, 1))
    columns = generator.integers(4, size=(200, 1, 4))
    differences = [
        np.mean([[x[i, j] - y[i, j] for j in of_tasks[0]] for i in of_runs[:, 0]])
        for of_runs, of_tasks in zip(rows, columns, strict=True)
    ]
    found = paired_difference(x, y, seeded(0), level=0.8, n_resamples=200, task_bootstrap=True)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.1, 0.9])))
