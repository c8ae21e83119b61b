"""Teachers and memories of other observations are refused before the first frame."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from stable_baselines3 import PPO

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    FrozenPolicy,
    FrozenTeacher,
    RecordMemory,
    VectorEncoder,
)
from contrastive_distillation.agents.spaces import difference, unsuited
from contrastive_distillation.losses import ContrastiveDistillation, Kickstarting
from contrastive_distillation.memory import EpisodicMemory

PICTURES = Box(0, 255, (3, 8, 8), np.uint8)
FLOATS = Box(0, 1, (3, 8, 8), np.float32)
OPEN = Box(-np.inf, np.inf, (3, 8, 8), np.float32)


def vector(low: float, high: float, dtype: Any = np.float32) -> Box:
    return Box(low, high, (4,), dtype)


@pytest.mark.parametrize(
    "theirs, own",
    [
        (PICTURES, FLOATS),
        (FLOATS, Box(0, 255, (3, 8, 8), np.float32)),
        (PICTURES, Box(0, 10, (3, 8, 8), np.uint8)),
        (Discrete(4), Discrete(5)),
        (Discrete(4), Discrete(4, start=1)),
        (MultiDiscrete([3, 4]), MultiDiscrete([4, 3])),
        (MultiBinary(4), MultiBinary(5)),
        (MultiBinary(4), MultiDiscrete([2] * 4)),
        (vector(0, 9), vector(0, 9, np.int64)),
        (vector(0, 9, np.uint8), vector(0, 8, np.uint8)),
        (Dict(a=vector(0, 1), b=Discrete(3)), Dict(a=vector(0, 1), b=Discrete(4))),
        (Dict(a=vector(0, 1)), Dict(b=vector(0, 1))),
        (vector(0, 1), Dict(a=vector(0, 1))),
    ],
)
def test_differences_are_found_both_ways(theirs: gym.Space[Any], own: gym.Space[Any]) -> None:
    assert difference(theirs, own)
    assert difference(own, theirs)


@pytest.mark.parametrize(
    "theirs, own",
    [
        (PICTURES, PICTURES),
        (FLOATS, OPEN),
        (vector(-1, 1), vector(-2, 2)),
        (vector(-1, 1), vector(-1, 1, np.float64)),
        (Dict(a=Discrete(3), b=FLOATS), Dict(b=FLOATS, a=Discrete(3))),
    ],
)
def test_spaces_that_are_as_good_as_equal(theirs: gym.Space[Any], own: gym.Space[Any]) -> None:
    assert difference(theirs, own) is None


@pytest.mark.parametrize(
    "stored, space, fits",
    [
        (np.zeros((2, 3, 8, 8), np.uint8), FLOATS, False),
        (np.zeros((2, 3, 8, 8), np.float32), PICTURES, False),
        (np.zeros((2, 3, 8, 8), np.float64), FLOATS, True),
        (np.array([0, 4]), Discrete(5), True),
        (np.array([0, 4]), Discrete(4), False),
        (np.array([0, 4]), Discrete(4, start=1), False),
        (np.array([[2, 3]]), MultiDiscrete([3, 4]), True),
        (np.array([[2, 3]]), MultiDiscrete([4, 3]), False),
        (np.array([[0, 1]], np.int8), MultiBinary(2), True),
        ({"a": np.zeros((2, 4), np.float32)}, Dict(a=vector(0, 1)), True),
        ({"a": np.zeros((2, 4), np.float32)}, Dict(b=vector(0, 1)), False),
    ],
)
def test_stored_observations_are_compared(stored: Any, space: gym.Space[Any], fits: bool) -> None:
    assert (unsuited(stored, space) is None) == fits


# -- in a training ------------------------------------------------------------------------------


class Sampled(gym.Env[Any, int]):
    """Random observations of a space; the episode ends after 20 steps."""

    action_space = Discrete(2)

    def __init__(self, space: gym.Space[Any]) -> None:
        self.observation_space = space
        space.seed(0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action: int) -> Any:
        self.t += 1
        return self.observation_space.sample(), float(action), self.t >= 20, False, {}


def ppo(space: gym.Space[Any], **kwargs: Any) -> PPO:
    kwargs = {"features_extractor_class": VectorEncoder, "net_arch": [16]} | kwargs
    return PPO("MlpPolicy", Sampled(space), n_steps=64, batch_size=32, n_epochs=1, seed=0,
               policy_kwargs=kwargs)  # fmt: skip


@pytest.mark.parametrize(
    "theirs, own", [(Discrete(4), Discrete(9)), (vector(0, 9, np.uint8), vector(0, 9, np.float32))]
)
@pytest.mark.parametrize("given", ["teacher", "source_policy", "source_memory", "memory"])
def test_what_saw_others_is_refused_before_a_frame(theirs: Any, own: Any, given: str) -> None:
    if given == "source_memory" or given == "memory":
        theirs, own = own, theirs  # of a small space nothing lies outside a large one
    source, memory = ppo(theirs), EpisodicMemory()
    source.learn(64, callback=RecordMemory(memory))
    loss: Any = ContrastiveDistillation()
    if given == "teacher":
        loss = ContrastiveDistillation(teacher=FrozenTeacher.from_model(source))
    if given == "source_policy":
        loss = Kickstarting(source_policy=FrozenPolicy.from_model(source))
    joined = AuxiliaryLossCallback(
        loss,
        memory=memory if given == "memory" else EpisodicMemory(),
        source_memory=memory if given == "source_memory" else None,
    )
    target = ppo(own)
    with pytest.raises(ValueError, match=r"other observations than the model.*; (take|give)"):
        target.learn(64, callback=joined)
    assert target.num_timesteps == 0


def test_pictures_scaled_by_the_environment_or_by_the_policy_are_two_things() -> None:
    source = ppo(PICTURES)
    teacher = FrozenTeacher.from_model(source)
    joined = AuxiliaryLossCallback(
        ContrastiveDistillation(teacher=teacher), memory=EpisodicMemory()
    )
    with pytest.raises(ValueError, match=r"Box\(0 to 255, \(3, 8, 8\), uint8\), the model's Box"):
        ppo(FLOATS, normalize_images=False).learn(64, callback=joined)
