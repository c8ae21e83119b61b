"""The weight over one learn(): constant, linear, cosine, or any function of progress."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    VectorEncoder,
    WeightSchedule,
)
from contrastive_distillation.agents.schedules import SCHEDULES
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory

weights = st.floats(0.0, 10.0)


@pytest.mark.parametrize("kind", SCHEDULES)
@given(start=weights, end=weights)
def test_a_schedule_goes_from_start_to_end(kind: str, start: float, end: float) -> None:
    schedule = WeightSchedule(kind, start, end)
    last = start if kind == "constant" else end
    assert schedule(1.0) == pytest.approx(start, abs=1e-9)
    assert schedule(0.0) == pytest.approx(last, abs=1e-9)
    between = [schedule(remaining) for remaining in np.linspace(1.0, 0.0, 11)]
    steps = np.diff(between) * np.sign(last - start)
    assert np.all(steps >= -1e-9)  # it never turns back
    assert schedule(-0.2) == schedule(0.0)  # off-policy training runs a little past the end


def test_schedules_by_hand() -> None:
    assert WeightSchedule("linear", 0.4, 0.0)(0.25) == pytest.approx(0.1)
    quarter = 0.5 * (1.0 + math.cos(0.25 * math.pi))
    assert WeightSchedule("cosine", 0.4)(0.75) == pytest.approx(0.4 * quarter)
    assert WeightSchedule("constant", 0.4, 3.0)(0.3) == 0.4


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("step", 0.1), "kind is 'step', expected one of constant, linear, cosine, or pass"),
        (("linear", -0.1), "start is -0.1"),
        (("linear", 0.1, math.nan), "end is nan"),
        (("cosine", math.inf), "start is inf"),
    ],
)
def test_bad_schedules(arguments: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        WeightSchedule(*arguments)


def model(algorithm: type[BaseAlgorithm]) -> BaseAlgorithm:
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 32, "n_epochs": 1}
    if algorithm is DQN:
        settings = {"learning_starts": 16, "train_freq": 16, "batch_size": 16}
    kwargs = {"features_extractor_class": VectorEncoder, "net_arch": [16]}
    env = make_vec_env("CartPole-v1", n_envs=2, seed=0)
    return algorithm("MlpPolicy", env, policy_kwargs=kwargs, seed=0, **settings)


def join(weight: Any, **settings: Any) -> AuxiliaryLossCallback:
    memory = EpisodicMemory(capacity=500)
    loss = ContrastiveDistillation(n_negatives=16)
    settings = {"memory": memory, "weight": weight, "n_anchors": 8, "every": 1} | settings
    return AuxiliaryLossCallback(loss, **settings)


@pytest.mark.parametrize(
    "schedule",
    [
        WeightSchedule("linear", 0.5),
        WeightSchedule("cosine", 0.5, 0.1),
        WeightSchedule("constant", 0.5),
        LinearSchedule(0.5, 0.1, 1.0),
        lambda remaining: 0.2 * remaining**2,
    ],
    ids=["linear", "cosine", "constant", "SB3's own", "a function"],
)
@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_the_gradient_follows_the_schedule(
    algorithm: type[BaseAlgorithm], schedule: Callable[[float], float], gradients: Any
) -> None:
    trained = model(algorithm)
    asked: list[float] = []

    def watched(remaining: float) -> float:
        asked.append(remaining)
        return schedule(remaining)

    before, after = gradients(trained, join(watched, balance="norm"), 160)
    assert len(asked) == len(before) >= 5
    assert asked == sorted(asked, reverse=True) and asked[-1] < 0.3
    for remaining, own, changed in zip(asked, before, after, strict=True):
        added, norm = float((changed - own).norm()), float(own.norm())
        if norm > 0.05:  # below, the reference may be its floor
            assert added == pytest.approx(schedule(remaining) * norm, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_progress_stays_in_bounds_where_the_last_rollout_goes_past_the_end(
    algorithm: type[BaseAlgorithm],
) -> None:
    asked: list[float] = []

    def falling(remaining: float) -> float:
        asked.append(remaining)
        return 0.2 * remaining

    trained = model(algorithm)
    trained.learn(70, callback=join(falling))
    assert trained.num_timesteps > 70 and trained._current_progress_remaining < 0.0
    assert asked and min(asked) == 0.0 and max(asked) <= 1.0


def test_a_schedule_that_is_zero_adds_nothing(gradients: Any) -> None:
    before, after = gradients(model(PPO), join(WeightSchedule("linear", 0.0)), 96)
    assert all(bool((a == b).all()) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("value", [-0.5, math.nan])
def test_a_function_that_gives_no_weight_is_told(value: float) -> None:
    with pytest.raises(ValueError, match=r"the weight's schedule is (-0\.5|nan), expected"):
        model(PPO).learn(64, callback=join(lambda remaining: value))
