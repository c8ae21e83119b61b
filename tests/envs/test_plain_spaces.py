"""Spaces with a start, scalars, and MiniGrid's wrappers: what the agent sees is what there is."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from minigrid import wrappers
from minigrid.core.mission import MissionSpace
from minigrid.envs.empty import EmptyEnv

from contrastive_distillation.agents import observation_kind
from contrastive_distillation.envs import (
    EnvironmentFailedError,
    compare_spaces,
    compared_spaces,
    encode_mission,
    make_env,
    make_vec,
)
from contrastive_distillation.envs.observations import observe

EMPTY = "MiniGrid-Empty-5x5-v0"


class Echo(gym.Env[Any, Any]):
    """Its observation is always `seen`; it keeps the actions that it received."""

    def __init__(self, observation_space: Any, action_space: Any, seen: Any) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.seen, self.actions = seen, []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.seen, {}

    def step(self, action: Any) -> Any:
        self.actions.append(action)
        return self.seen, 0.0, False, False, {}


TWO = spaces.Discrete(2)


@pytest.mark.parametrize(
    ("space", "seen", "plain", "expected"),
    [
        (spaces.Discrete(5, start=2), 6, spaces.Discrete(5), 4),
        (
            spaces.MultiDiscrete([3, 2], start=[1, -5]),
            np.array([3, -5]),
            spaces.MultiDiscrete([3, 2]),
            [2, 0],
        ),
        (
            spaces.MultiDiscrete([[3, 2], [4, 5]]),
            np.array([[2, 1], [0, 4]]),
            spaces.MultiDiscrete([3, 2, 4, 5]),
            [2, 1, 0, 4],
        ),
        (spaces.MultiBinary((2, 2)), np.eye(2, dtype=np.int8), spaces.MultiBinary(4), [1, 0, 0, 1]),
        (spaces.Box(-1, 1, ()), np.float32(0.5), spaces.Box(-1, 1, (1,)), [0.5]),
    ],
)
def test_observations_in_plain_spaces(
    space: Any, seen: Any, plain: spaces.Space[Any], expected: Any
) -> None:
    for whole, value in ((space, seen), (spaces.Dict(a=space, b=TWO), {"a": seen, "b": 1})):
        env = observe(Echo(whole, TWO, value), "echo", observation="auto", mission=False)
        found, _ = env.reset()
        if isinstance(whole, spaces.Dict):
            assert env.observation_space == spaces.Dict(a=plain, b=TWO)
            assert found["b"] == 1
            found = found["a"]
        else:
            assert env.observation_space == plain
        assert np.asarray(found).tolist() == expected


@pytest.mark.parametrize(
    ("space", "plain", "action", "expected"),
    [
        (spaces.Discrete(3, start=-1), spaces.Discrete(3), 0, -1),
        (
            spaces.MultiDiscrete([3, 2], start=[1, 5]),
            spaces.MultiDiscrete([3, 2]),
            np.array([2, 0]),
            [3, 5],
        ),
        (
            spaces.MultiDiscrete([[3, 2]]),
            spaces.MultiDiscrete([3, 2]),
            np.array([2, 1]),
            [[2, 1]],
        ),
        (spaces.MultiBinary((1, 2)), spaces.MultiBinary(2), np.array([1, 0]), [[1, 0]]),
        (spaces.Box(-1, 1, ()), spaces.Box(-1, 1, (1,)), np.array([0.5], np.float32), 0.5),
    ],
)
def test_actions_in_plain_spaces(
    space: Any, plain: spaces.Space[Any], action: Any, expected: Any
) -> None:
    raw = Echo(TWO, space, 0)
    env = observe(raw, "echo", observation="auto", mission=False)
    assert env.action_space == plain
    env.reset()
    env.step(action)
    (taken,) = raw.actions
    assert np.asarray(taken).tolist() == expected and space.contains(taken)


def test_plain_spaces_stay_unwrapped() -> None:
    raw = Echo(spaces.Dict(a=spaces.Discrete(3), v=spaces.Box(-1, 1, (2,))), TWO, None)
    assert observe(raw, "echo", observation="auto", mission=False) is raw


def test_another_start_does_not_fit() -> None:
    seen = [
        observe(
            Echo(spaces.Discrete(4, start=s), TWO, s), "echo", observation="auto", mission=False
        )
        for s in (0, 1)
    ]
    (row, _) = compare_spaces(*compared_spaces(seen[0]), *compared_spaces(seen[1]))
    assert not row.fits and "start=1" in row.target


CELLS = ["FullyObs", "View5", "View9", "Image", "FullImage", "NoMission", "DictSpace"]


def wrapped(name: str) -> gym.Env[Any, Any]:
    raw = gym.make(EMPTY, disable_env_checker=True)
    made: dict[str, Any] = {
        "FullyObs": lambda: wrappers.FullyObsWrapper(raw),
        "View5": lambda: wrappers.ViewSizeWrapper(raw, 5),
        "View9": lambda: wrappers.ViewSizeWrapper(raw, 9),
        "Image": lambda: wrappers.ImgObsWrapper(raw),
        "FullImage": lambda: wrappers.ImgObsWrapper(wrappers.FullyObsWrapper(raw)),
        "NoMission": lambda: gym.wrappers.FilterObservation(raw, ["image", "direction"]),
        "DictSpace": lambda: wrappers.DictObservationSpaceWrapper(raw),
        "RGBFull": lambda: wrappers.RGBImgObsWrapper(raw),
        "RGBPartial": lambda: wrappers.RGBImgPartialObsWrapper(raw),
        "RGBTiny": lambda: wrappers.RGBImgPartialObsWrapper(raw, tile_size=1),
        "RGBImage": lambda: wrappers.ImgObsWrapper(wrappers.RGBImgPartialObsWrapper(raw)),
        "Symbolic": lambda: wrappers.SymbolicObsWrapper(raw),
        "OneHot": lambda: wrappers.OneHotPartialObsWrapper(raw),
        "OneHotImage": lambda: wrappers.ImgObsWrapper(wrappers.OneHotPartialObsWrapper(raw)),
        "Flat": lambda: wrappers.FlatObsWrapper(raw),
    }
    env: gym.Env[Any, Any] = made[name]()
    return env


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "grid") for name in CELLS),
        ("RGBFull", "mixed"),
        ("RGBPartial", "mixed"),
        ("RGBTiny", "vector"),
        ("RGBImage", "picture"),
        ("Symbolic", "vector"),
        ("OneHot", "vector"),
        ("OneHotImage", "vector"),
        ("Flat", "vector"),
    ],
)
def test_minigrid_wrappers_keep_what_they_hold(name: str, kind: str) -> None:
    env = observe(wrapped(name), name, observation="auto", mission=False)
    assert observation_kind(env.observation_space) == kind
    seen, _ = env.reset(seed=0)
    assert env.observation_space.contains(seen)
    raw, _ = wrapped(name).reset(seed=0)
    whole = {"": raw} if isinstance(raw, np.ndarray) else raw
    shown = {"": seen} if isinstance(seen, np.ndarray) else seen
    if kind == "grid" and "" in whole:
        whole = {"image": whole[""]}
    for key in set(whole) - {"mission"}:
        assert np.array_equal(np.ravel(shown[key]), np.ravel(whole[key])), key
    if name == "DictSpace":
        assert shown["mission"].tolist() == whole["mission"]
    elif "mission" in whole:
        assert "mission" not in shown, "it is always the same"


def test_the_mission_of_a_picture_is_one_number_for_each_word() -> None:
    raw = wrappers.RGBImgPartialObsWrapper(gym.make("BabyAI-GoToLocalS5N2-v0"))
    env = observe(raw, "babyai", observation="auto", mission=True)
    seen, _ = env.reset(seed=0)
    assert env.observation_space.contains(seen)
    assert seen["mission"].tolist() == encode_mission(env.unwrapped.mission).tolist()  # type: ignore[attr-defined]


class Camera(Echo):
    """A camera and a heading that are called as MiniGrid's are."""

    def __init__(self) -> None:
        space = spaces.Dict(
            image=spaces.Box(0, 1, (16, 16, 3), np.float32), direction=spaces.Box(0, 1, (2,))
        )
        super().__init__(space, TWO, {key: part.high for key, part in space.spaces.items()})


@pytest.mark.parametrize(
    ("image", "direction"),
    [
        (spaces.Box(0, 1, (16, 16, 3), np.float32), spaces.Box(0, 1, (2,))),
        (spaces.Box(0, 10, (7, 7, 3), np.float32), spaces.Box(0, 3, (1,), np.uint8)),
        (spaces.Box(0, 10, (7, 7, 3), np.uint8), spaces.Box(0, 1, (1,))),
        (spaces.Box(0, 10, (7, 7, 3), np.uint8), spaces.Box(0, 7, (1,), np.uint8)),
        (spaces.Box(-1, 10, (7, 7, 3), np.int16), spaces.Box(0, 3, (1,), np.uint8)),
        (spaces.Box(0, 255, (7, 7, 3), np.uint8), spaces.Discrete(4)),
    ],
)
def test_key_names_alone_do_not_make_a_grid(image: Any, direction: Any) -> None:
    assert observation_kind(spaces.Dict(image=image, direction=direction)) == "vector"


def test_other_parts_than_a_grids_are_seen() -> None:
    grid = make_env(EMPTY).observation_space
    assert isinstance(grid, spaces.Dict)
    assert observation_kind(grid) == "grid"
    assert observation_kind(spaces.Dict({**grid.spaces, "battery": TWO})) == "vector"


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((24, 24, 3), "vector"),
        ((3, 36, 36), "picture"),
        ((36, 36, 3), "picture"),
        ((40, 3, 40), "vector"),
        ((84, 84, 4), "picture"),
    ],
)
def test_small_pictures_are_read_as_vectors(shape: tuple[int, ...], kind: str) -> None:
    space = spaces.Box(0, 255, shape, np.uint8)
    assert observation_kind(space) == kind
    in_a_dict = spaces.Dict(camera=space, speed=spaces.Box(-1, 1, (2,)))
    assert observation_kind(in_a_dict) == ("mixed" if kind == "picture" else "vector")


class Strange(EmptyEnv):
    """A grid with an object of an id that MiniGrid does not have."""

    def gen_obs(self) -> dict[str, Any]:
        seen = super().gen_obs()
        seen["image"][2, 3] = (12, 1, 0)
        return seen


class OwnMission(EmptyEnv):
    """As in MiniGrid's tutorial."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(size=5, **settings)
        self.observation_space["mission"] = MissionSpace(lambda: "grand mission")  # type: ignore[index]

    def _gen_grid(self, width: int, height: int) -> None:
        super()._gen_grid(width, height)
        self.mission = "grand mission"


gym.register("plain/Strange-v0", entry_point=Strange, kwargs={"size": 5})
gym.register("plain/OwnMission-v0", entry_point=OwnMission)


def test_ids_above_minigrids_are_refused_with_their_value() -> None:
    with pytest.raises(EnvironmentFailedError, match=r"a cell \(12, 1, 0\)"):
        make_vec("plain/Strange-v0", 1, 0).reset()


def test_a_mission_of_ones_own_fits_minigrids() -> None:
    vec = make_vec([EMPTY, "plain/OwnMission-v0"], 2, 0, "gymnasium")
    missions = vec.reset()["mission"]  # type: ignore[call-overload]
    assert missions[0].tolist() == encode_mission("get to the green goal square").tolist()
    assert missions[1].tolist() == encode_mission("grand mission").tolist()
