"""Training and evaluation never meet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastive_distillation.envs import episode_seed
from contrastive_distillation.envs.seeds import env_seeds

whole = st.integers(0, 10**9)


@given(whole, whole, whole, st.integers(1, 300))
def test_training_and_evaluation_are_disjoint(
    train: int, evaluate: int, index: int, n_envs: int
) -> None:
    one = env_seeds(episode_seed(train, "train", index), n_envs)
    other = env_seeds(episode_seed(evaluate, "evaluate", index), n_envs)
    typed = env_seeds(train, n_envs)  # a small number typed by a person is a training seed
    assert max(one + typed) < 2**30 <= min(other)
    assert max(other) < 2**31
    assert len(set(one)) == len(set(other)) == n_envs


def test_indices_and_seeds_differ() -> None:
    seeds = {episode_seed(seed, "evaluate", index) for seed in range(20) for index in range(20)}
    assert len(seeds) == 400
    assert episode_seed(3, "train") == episode_seed(3, "train", 0)


def test_wrong_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="purpose must be one of"):
        episode_seed(0, "test")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must not be negative"):
        episode_seed(-1, "train")
    with pytest.raises(ValueError, match="must not be negative"):
        episode_seed(0, "train", -1)
