"""Returns of many episodes at once: to the bit those of each on its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastive_distillation.memory import returns, returns_to_go
from contrastive_distillation.memory.returns import returns_of_episodes


@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=7),
    gamma=st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]),
    terminated=st.booleans(),
    most_cells=st.sampled_from([1, 50, 2**22]),
)
def test_each_as_on_its_own(
    seed: int, lengths: list[int], gamma: float, terminated: bool, most_cells: int
) -> None:
    rewards = np.random.default_rng(seed).normal(size=sum(lengths)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(returns, "_MOST_CELLS", most_cells)
        found = returns_of_episodes(rewards, np.array(lengths), gamma, terminated=terminated)
    each = np.split(rewards, np.cumsum(lengths)[:-1])
    expected = [returns_to_go(part, gamma, terminated=terminated) for part in each]
    for column, one_by_one in zip(found, zip(*expected, strict=True), strict=True):
        np.testing.assert_array_equal(column, np.concatenate(one_by_one), strict=True)
