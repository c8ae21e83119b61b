"""EnvPool against Gymnasium: the same actions, the same everything."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from contrastive_distillation.envs import TaskVecEnv, episode_seed, make_env, make_vec

pytest.importorskip("envpool")

FIXED_LAYOUTS = [
    "MiniGrid-Empty-5x5-v0",
    "MiniGrid-Empty-8x8-v0",
    "MiniGrid-DistShift1-v0",
    "MiniGrid-DistShift2-v0",
]
N_STEPS = 1_000


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple):
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-6)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-5)
    else:
        assert one == other


def purposeful_actions(seed: int, n_steps: int, n_envs: int) -> np.ndarray:
    """Mostly forward, some turns, so that goals and lava are met; one environment just waits."""
    actions = np.random.default_rng(seed).choice(
        7, p=[0.15, 0.2, 0.5, 0.04, 0.04, 0.04, 0.03], size=(n_steps, n_envs)
    )
    actions[:, -1] = 6
    return actions


@pytest.mark.parametrize(
    ("env_id", "observation"),
    [*((env_id, "auto") for env_id in FIXED_LAYOUTS), ("MiniGrid-DistShift2-v0", "picture")],
)
def test_grid_backends_agree_on_a_fixed_layout(env_id: str, observation: str) -> None:
    n_envs = 4
    fast = make_vec(env_id, n_envs, 0, "envpool", observation=observation)
    reference = make_vec(env_id, n_envs, 0, "gymnasium", observation=observation)
    assert fast.observation_space == reference.observation_space
    assert fast.action_space == reference.action_space
    assert_same(fast.reset(), reference.reset())
    endings = {"terminated": 0, "cut": 0}
    for actions in purposeful_actions(1, N_STEPS, n_envs):
        one, other = fast.step(actions), reference.step(actions)
        for info in (*one[3], *other[3]):
            if info:
                endings["cut" if info["TimeLimit.truncated"] else "terminated"] += 1
                info["episode"].pop("t")
        assert_same(one[:3], other[:3])
        for mine, theirs in zip(one[3], other[3], strict=True):
            assert_same(mine, theirs)
    assert min(endings.values()) > 0, "the actions never tried one kind of ending"


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1"])
def test_control_backends_share_their_physics(env_id: str) -> None:
    """Start states differ, so each step is repeated in Gymnasium from EnvPool's last state."""
    fast = make_vec(env_id, 1, 0, "envpool")
    reference = gym.make(env_id).unwrapped
    reference.reset(seed=0)
    before = fast.reset()[0]
    rng = np.random.default_rng(2)
    n_cut = 0
    for step in range(1_200):
        action = int(rng.integers(fast.action_space.n)) if env_id == "CartPole-v1" else 1
        if env_id == "CartPole-v1":
            reference.state = before.astype(np.float64)
            reference.steps_beyond_terminated = None
        else:
            angles = np.arctan2(before[[1, 3]], before[[0, 2]])
            reference.state = np.concatenate([angles, before[4:]])
        expected, reward, terminated, _, _ = reference.step(action)
        after, rewards, dones, infos = fast.step(np.array([action]))
        reached = infos[0]["terminal_observation"] if dones[0] else after[0]
        np.testing.assert_allclose(reached, expected, atol=2e-3)
        assert rewards[0] == reward
        if dones[0]:
            assert infos[0]["TimeLimit.truncated"] != terminated
            n_cut += not terminated
        else:
            assert not terminated, step
        before = after[0]
    assert n_cut > 0 or env_id == "CartPole-v1"


@pytest.mark.parametrize("env_id", ["MiniGrid-DoorKey-5x5-v0", "BabyAI-GoToLocalS5N2-v0"])
def test_gymnasium_path_equals_stable_baselines_own(env_id: str) -> None:
    n_envs = 3
    ours = make_vec(env_id, n_envs, 5, "gymnasium")
    theirs = DummyVecEnv([lambda: Monitor(make_env(env_id)) for _ in range(n_envs)])
    theirs._seeds = list(ours.seed(5))
    assert_same(ours.reset(), dict(theirs.reset()))
    for actions in purposeful_actions(3, 600, n_envs):
        mine, expected = ours.step(actions), theirs.step(actions)
        assert_same(mine[0], dict(expected[0]))
        assert_same(mine[1:3], expected[1:3])
        for one, other in zip(mine[3], expected[3], strict=True):
            assert bool(one) == ("episode" in other)
            if one:
                assert one["TimeLimit.truncated"] == other["TimeLimit.truncated"]
                assert_same(one["terminal_observation"], other["terminal_observation"])
                assert one["episode"]["l"] == other["episode"]["l"]
                assert one["episode"]["r"] == pytest.approx(other["episode"]["r"], abs=1e-5)


def trajectory(vec: TaskVecEnv, n_steps: int = 40) -> list[np.ndarray]:
    images = [vec.reset()["image"].copy()]
    actions = purposeful_actions(4, n_steps, vec.num_envs)
    return images + [vec.step(each)[0]["image"].copy() for each in actions]


@pytest.mark.parametrize("backend", ["envpool", "gymnasium"])
def test_seed_decides_everything(backend: str) -> None:
    ids = ["MiniGrid-DoorKey-5x5-v0", "MiniGrid-DoorKey-6x6-v0"]
    first = trajectory(make_vec(ids, 4, 7, backend))
    again = make_vec(ids, 4, 7, backend)
    assert all(map(np.array_equal, first, trajectory(again)))
    assert not all(map(np.array_equal, first, trajectory(make_vec(ids, 4, 8, backend))))
    held_out = make_vec(ids, 4, episode_seed(7, "evaluate"), backend)
    assert not all(map(np.array_equal, first, trajectory(held_out)))
    again.seed(7)
    assert all(map(np.array_equal, first, trajectory(again))), "reseeding starts again"
    start = make_vec("MiniGrid-DoorKey-8x8-v0", 6, 0, backend).reset()["image"]
    assert len(np.unique(start, axis=0)) > 1, "environments of one vector must differ"
