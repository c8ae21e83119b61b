"""What `make_vec` accepts and refuses, and what it says when it refuses."""

import sys
import textwrap
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor

from contrastive_distillation.envs import (
    BadNumberError,
    UnknownNameError,
    compare_spaces,
    make_env,
    make_vec,
    nearest_names,
    space_table,
)

DOORKEY = "MiniGrid-DoorKey-5x5-v0"


def test_shares_are_equal_and_in_order() -> None:
    vec = make_vec([DOORKEY, "MiniGrid-Unlock-v0", "MiniGrid-KeyCorridorS3R1-v0"], 6, 0)
    assert vec.task_of_env.tolist() == [0, 0, 1, 1, 2, 2]
    assert vec.task_of_env.dtype == np.int64
    assert vec.num_envs == 6
    assert len(vec.backend) == 3


@pytest.mark.parametrize(
    ("n_envs", "expected"), [(64, "Use 63 or 66"), (2, "Use 3"), (0, "at least 1"), (-3, "got -3")]
)
def test_unequal_shares_are_refused_with_the_nearest_multiples(n_envs: int, expected: str) -> None:
    ids = [DOORKEY, "MiniGrid-Unlock-v0", "MiniGrid-KeyCorridorS3R1-v0"]
    with pytest.raises(ValueError, match=expected):
        make_vec(ids, n_envs, 0)


def test_unknown_environment_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        make_vec("MiniGrid-DoorKey-5x5-v1", 1, 0)
    assert caught.value.kind == "environment"
    assert caught.value.name == "MiniGrid-DoorKey-5x5-v1"
    assert caught.value.nearest[0] == DOORKEY
    assert str(caught.value).startswith(
        "unknown environment 'MiniGrid-DoorKey-5x5-v1'. Nearest: MiniGrid-DoorKey-5x5-v0"
    )


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("DoorKey-5x5", DOORKEY),
        ("cartpole", "CartPole-v1"),
        ("MiniGrid-KeyCoridorS3R1-v0", "MiniGrid-KeyCorridorS3R1-v0"),
    ],
)
def test_nearest_names_finds_what_was_meant(typed: str, expected: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        make_env(typed)
    assert expected in caught.value.nearest


def test_nearest_names_is_silent_where_nothing_is_near() -> None:
    assert nearest_names("zzzz", ["doorkey", "smoke"]) == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"backend": "envpol"}, "backend must be one of"),
        ({"observation": "pixels"}, "observation must be one of"),
        ({"mission": "yes"}, "mission must be one of"),
        ({"num_threads": 0}, "num_threads must be at least 1"),
        ({"seed": -1}, r"seed must be in \[0, "),
        ({"seed": 2**31}, r"seed must be in \[0, "),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make_vec(DOORKEY, 2, **{"seed": 0, **settings})


def test_picture_of_no_grid_is_refused() -> None:
    for backend in ("auto", "gymnasium"):
        with pytest.raises(ValueError, match="not have a grid to draw"):
            make_vec("CartPole-v1", 1, 0, backend, observation="picture")


def test_tasks_with_other_spaces_are_refused_with_a_table() -> None:
    with pytest.raises(ValueError) as caught:
        make_vec(["CartPole-v1", "Acrobot-v1"], 2, 0)
    text = str(caught.value)
    assert "cannot share one agent" in text
    assert "4 float32" in text and "6 float32" in text and "Discrete(3)" in text


def test_explicit_envpool_without_the_environment_is_refused() -> None:
    pytest.importorskip("envpool")
    with pytest.raises(ValueError, match="EnvPool does not have an environment"):
        make_vec("contrastive/CartPole-Random-v0", 1, 0, "envpool")
    assert make_vec("contrastive/CartPole-Random-v0", 1, 0).backend == ("gymnasium",)
    assert make_vec("MiniGrid-MultiRoom-N4-S5-v1", 1, 0).backend == ("gymnasium",)


def test_without_envpool_everything_runs_in_gymnasium(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("envpool", "envpool.registration"):
        monkeypatch.setitem(sys.modules, name, None)
    vec = make_vec(DOORKEY, 2, 0)
    assert vec.backend == ("gymnasium",)
    vec.reset()
    vec.step(np.array([0, 1]))
    with pytest.raises(ValueError, match="pip install envpool"):
        make_vec(DOORKEY, 2, 0, "envpool")


OWN_ENVIRONMENT = """
import gymnasium as gym
import numpy as np

class Own(gym.Env):
    observation_space = gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (2,), np.float32)})
    action_space = gym.spaces.Discrete(2)
    def __init__(self, bad_step=None, bad_key=None):
        self.bad_step, self.bad_key = bad_step, bad_key
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return {"a": np.zeros(2, np.float32)}, {}
    def step(self, action):
        self.steps += 1
        bad = action == 1 and self.steps == self.bad_step
        a = np.full(2, np.nan if bad and self.bad_key == "a" else 0.5, np.float32)
        reward = float("inf") if bad and self.bad_key == "reward" else 1.0
        return {"a": a}, reward, self.steps == 5, False, {"seen": True}

gym.register("Own-v0", Own)
gym.register("BadReward-v0", Own, kwargs={"bad_step": 3, "bad_key": "reward"})
gym.register("BadObservation-v0", Own, kwargs={"bad_step": 3, "bad_key": "a"})
gym.register("BadEnd-v0", Own, kwargs={"bad_step": 5, "bad_key": "a"})
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "own_environment.py").write_text(textwrap.dedent(OWN_ENVIRONMENT))
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_environment"
    for name in ("Own-v0", "BadReward-v0", "BadObservation-v0", "BadEnd-v0"):
        gym.registry.pop(name, None)
    sys.modules.pop("own_environment", None)


def test_an_environment_of_ones_own(own_module: str) -> None:
    vec = make_vec(f"{own_module}:Own-v0", 2, 0)
    vec.reset()
    for _ in range(5):
        _, _, dones, infos = vec.step(np.array([0, 0]))
    assert dones.all()
    assert infos[0]["episode"]["r"] == 5
    assert infos[0]["seen"], "what the environment itself says is passed on"


@pytest.mark.parametrize("name", ["no_such_module:Own-v0", "own_environment:Other-v0"])
def test_own_environment_that_is_not_there(own_module: str, name: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown environment"):
        make_vec(name, 1, 0)


@pytest.mark.parametrize(
    ("name", "step", "key"),
    [("BadReward-v0", 3, "reward"), ("BadObservation-v0", 3, "a"), ("BadEnd-v0", 5, "a")],
)
def test_bad_numbers_stop_at_once(own_module: str, name: str, step: int, key: str) -> None:
    env_id = f"{own_module}:{name}"
    vec = make_vec([f"{own_module}:Own-v0", env_id], 4, 0)
    vec.reset()
    with pytest.raises(BadNumberError) as caught:
        for _ in range(5):
            vec.step(np.array([0, 0, 0, 1]))
    error = caught.value
    assert (error.env_id, error.env_index, error.step, error.key) == (env_id, 3, step, key)
    for part in (env_id, "number 3", f"step {step}", key):
        assert part in str(error)


def test_render_and_attributes_reach_python_environments() -> None:
    vec = make_vec(DOORKEY, 2, 0, render_mode="rgb_array")
    assert vec.backend == ("gymnasium",)
    vec.reset()
    images = vec.get_images()
    assert len(images) == 2 and images[0] is not None and images[0].shape[-1] == 3
    assert vec.get_attr("max_steps") == [250, 250]
    assert vec.env_method("get_wrapper_attr", "carrying") == [None, None]
    assert vec.env_is_wrapped(Monitor) == [True, True]
    fast = make_vec(DOORKEY, 1, 0)
    if fast.backend == ("envpool",):
        assert fast.render_mode is None
        assert not fast.has_attr("max_steps")
        with pytest.raises(AttributeError, match='backend="gymnasium"'):
            fast.get_attr("max_steps")


def test_compare_spaces_row_by_row() -> None:
    box = gym.spaces.Box(-1, 1, (4,), np.float32)
    wider = gym.spaces.Box(-9, 9, (4,), np.float32)
    grid = make_env(DOORKEY).observation_space
    worded = make_env(DOORKEY, mission="on").observation_space
    two, three = gym.spaces.Discrete(2), gym.spaces.Discrete(3)
    assert all(row.fits for row in compare_spaces(box, two, wider, two))
    rows = {row.name: row for row in compare_spaces(grid, two, worded, three)}
    assert rows["image"].fits and rows["direction"].fits
    assert not rows["mission"].fits and rows["mission"].source == "-"
    assert not rows["action"].fits
    tokens = gym.spaces.Box(0, 9, (4,), np.uint8)
    assert not compare_spaces(tokens, two, gym.spaces.Box(0, 8, (4,), np.uint8), two)[0].fits
    table = space_table(list(rows.values()), "here", "there")
    assert "here" in table and "NO" in table and len(table.splitlines()) == 5
