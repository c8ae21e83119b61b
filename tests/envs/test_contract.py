"""Environments that do not quite keep Gymnasium's interface: made to, or refused by name."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from contrastive_distillation.envs import ContractError, EnvironmentFailedError, make_vec
from contrastive_distillation.envs.contract import Contract, as_declared
from contrastive_distillation.envs.registry import make_raw_env

FLOATS = spaces.Box(-1, 1, (4,), np.float32)


class Scripted(gym.Env[Any, Any]):
    """Returns from `reset` and `step` what it is told to."""

    observation_space: spaces.Space[Any] = FLOATS
    action_space = spaces.Discrete(2)

    def __init__(self, first: Any = None, then: Any = None) -> None:
        self.first = (np.zeros(4, np.float32), {}) if first is None else first
        self.then = (np.zeros(4, np.float32), 1.0, True, False, {}) if then is None else then

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.first

    def step(self, action: Any) -> Any:
        return self.then


class OldReset(Scripted):
    def reset(self) -> Any:  # type: ignore[override]
        return self.first


class NoScreen(Scripted):
    def __init__(self) -> None:
        super().__init__()


class NoFile(Scripted):
    def __init__(self) -> None:
        raise FileNotFoundError(2, "No such file or directory", "level.xml")


class NoText(Scripted):
    def __init__(self) -> None:
        raise NotImplementedError


for name, made in (("NoScreen", NoScreen), ("NoFile", NoFile), ("NoText", NoText)):
    gym.register(f"contract/{name}-v0", entry_point=made)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (Scripted(first=np.zeros(4)), r"reset\(\) must return a tuple"),
        (Scripted(first=np.zeros(2)), r"reset\(\) must return a tuple"),
        (Scripted(first=(1, np.zeros(4))), r"reset\(\) must return a tuple"),
        (OldReset(), "must take seed= and options="),
        (gym.wrappers.TransformReward(Scripted(first=np.zeros(4)), abs), "must return a tuple"),
        (Scripted(first=(np.zeros(5), {})), r"shape \(5,\), its space says \(4,\)"),
        (Scripted(first=(["a"] * 4, {})), "holds <U1, its space says float32"),
        (Scripted(first=([[1], [1, 2]], {})), "not an array of one shape"),
    ],
)
def test_what_reset_may_not_return(env: gym.Env[Any, Any], says: str) -> None:
    with pytest.raises(ContractError, match=says):
        Contract(env).reset(seed=0)


@pytest.mark.parametrize(
    ("then", "says"),
    [
        ((np.zeros(4), 1.0, True, {}), r"step\(\) must return a tuple"),
        ((np.zeros(4), np.ones(2), True, False, {}), r"shape \(2,\) as reward"),
        ((np.zeros(4), None, True, False, {}), "None as reward"),
        ((np.zeros(4), 1.0, True, False, None), "None as info"),
    ],
)
def test_what_step_may_not_return(then: Any, says: str) -> None:
    limited = gym.wrappers.TimeLimit(Scripted(then=then), 5)
    limited.reset()
    for env in (Scripted(then=then), limited):
        with pytest.raises(ContractError, match=says):
            Contract(env).step(0)


def test_arrays_of_one_element_are_numbers() -> None:
    then = ([0.5] * 4, np.ones(1, np.float32), np.array([True]), np.bool_(False), {})
    observation, *others = Contract(Scripted(then=then)).step(0)
    assert observation.dtype == np.float32 and observation.tolist() == [0.5] * 4
    assert others == [1.0, True, False, {}]


@pytest.mark.parametrize(
    ("space", "value", "says"),
    [
        (spaces.Box(0, 255, (2,), np.uint8), np.array([0.5, 1.0]), "holds 0.5, which its .* uint8"),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([300, 1]), "holds 300"),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([np.nan, 1]), "holds nan"),
        (spaces.Discrete(3, start=2), 5, "5, which is not in"),
        (spaces.MultiDiscrete([3, 2]), [0, 2], "not in"),
        (spaces.Dict(a=FLOATS), np.zeros(4), "needs a dict"),
        (spaces.Dict(a=FLOATS, b=FLOATS), {"a": np.zeros(4)}, "lacks 'b'"),
        (spaces.Dict(a=FLOATS), {"a": np.zeros(3)}, r"observation 'a' has shape \(3,\)"),
    ],
)
def test_what_a_space_does_not_hold(space: spaces.Space[Any], value: Any, says: str) -> None:
    with pytest.raises(ContractError, match=says):
        as_declared(value, space)


def test_whole_floats_are_cast() -> None:
    cast = as_declared(np.array([3.0, 255.0]), spaces.Box(0, 255, (2,), np.uint8))
    assert cast.dtype == np.uint8 and cast.tolist() == [3, 255]
    assert as_declared(np.array([2.0]), spaces.Discrete(3)) == 2
    assert as_declared(0.5, spaces.Box(-1, 1, (1,))).shape == (1,)


def test_constructors_that_fail_are_named() -> None:
    with pytest.raises(ValueError, match=r"NoFile-v0' cannot be made: .*__init__.*level\.xml"):
        make_raw_env("contract/NoFile-v0")
    with pytest.raises(ValueError, match=r"NoText-v0' cannot be made: .*test_contract\.py, line"):
        make_raw_env("contract/NoText-v0")
    with pytest.raises(ValueError, match="does not accept render_mode='rgb_array'"):
        make_raw_env("contract/NoScreen-v0", render_mode="rgb_array")


class Reused(Scripted):
    """Returns one array again and again, and infos of names that have a meaning."""

    def __init__(self, wrong: bool = False) -> None:
        super().__init__()
        self.buffer, self.wrong, self.t = np.zeros(4, np.float32), wrong, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.t, self.buffer[:] = 0, 0
        return self.buffer, {}

    def step(self, action: Any) -> Any:
        self.t += 1
        self.buffer[:] = self.t / 10
        infos = {"episode": 3, "terminal_observation": None, "TimeLimit.truncated": "x", "own": 1}
        seen = np.zeros(3) if self.wrong and self.t == 2 else self.buffer
        return seen, 1.0, self.t == 2, False, infos


gym.register("contract/Reused-v0", entry_point=Reused)
gym.register("contract/Growing-v0", entry_point=Reused, kwargs={"wrong": True})


def test_the_last_observation_is_not_that_of_the_reset() -> None:
    vec = make_vec("contract/Reused-v0", 1, 0)
    vec.reset()
    _, _, _, infos = vec.step(np.zeros(1, np.int64))
    assert infos[0] == {"own": 1}
    _, _, _, infos = vec.step(np.zeros(1, np.int64))
    assert infos[0]["terminal_observation"].tolist() == pytest.approx([0.2] * 4)
    assert infos[0]["TimeLimit.truncated"] is False and infos[0]["episode"]["r"] == 2


def test_the_environment_is_named_that_breaks_the_contract() -> None:
    vec = make_vec("contract/Growing-v0", 2, 0)
    vec.reset()
    vec.step(np.zeros(2, np.int64))
    with pytest.raises(EnvironmentFailedError, match=r"Growing-v0' \(number 0\): its observation"):
        vec.step(np.zeros(2, np.int64))
