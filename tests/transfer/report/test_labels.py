"""Whose bands a figure shows."""

import pytest

from contrastive_distillation.transfer.report.labels import with_bands


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (["a", "b", "c", "d", "fine_tune"], ["a", "b", "c", "d", "fine_tune"]),
        (["a", "b", "c", "d", "fine_tune", "e"], ["a", "fine_tune"]),
        (["a", "b", "c", "d", "e", "f"], ["a", "b"]),
        (["fine_tune", "b", "c", "d", "e", "f"], ["fine_tune", "b"]),
    ],
)
def test_of_many_arms_two_have_bands(labels: list[str], shown: list[str]) -> None:
    assert list(with_bands(labels)) == shown
