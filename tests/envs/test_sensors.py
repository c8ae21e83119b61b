"""Sensors: what each family changes can be undone, on both backends, and numbers never move."""

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from stable_baselines3.common.env_checker import check_env as stable_baselines_check

from contrastive_distillation.envs import (
    ChangedSensors,
    Codes,
    Colours,
    Distractors,
    Mixed,
    Rotated,
    Sensor,
    Units,
    make_env,
    make_vec,
    sensor_of,
)
from contrastive_distillation.envs.grid_sensors import new_codes
from contrastive_distillation.envs.sensor_ids import SENSOR_IDS

SCALE = (2.4, 2.0, 0.21, 2.0)
VECTORS = [family(number=4, scale=SCALE) for family in (Units, Rotated, Mixed, Distractors)]
IDS = [
    "contrastive/DoorKey-5x5-Codes9-v0",
    "contrastive/DoorKey-6x6-Codes2-v0",
    "contrastive/DoorKey-8x8-Colours3-v0",
    "contrastive/GoToRedBall-Codes3-v0",
    *(f"contrastive/CartPole-{family}3-v0" for family in ("Units", "Rotated")),
    *(f"contrastive/Acrobot-{family}2-v0" for family in ("Mixed", "Distractors")),
]


def by_name(sensors: list[Sensor]) -> dict[str, Any]:
    return {"argvalues": sensors, "ids": [each.family for each in sensors]}


def ids_and_floats(n: int) -> Any:
    numbers = st.floats(-2, 2, width=32)
    return arrays(np.float32, st.tuples(st.integers(1, 9), st.just(n)), elements=numbers)


@pytest.mark.parametrize("number", range(1, 10))
def test_codes_are_derangements(number: int) -> None:
    codes = new_codes(number)
    for row, n in zip(codes, (11, 6, 3), strict=True):
        assert sorted(row[:n]) == list(range(n))
        assert (row[:n] != np.arange(n)).all()
        assert (row[n:] == np.arange(n, 256)).all()


def test_numbers_are_stable() -> None:
    """These tables may never change: an id names the same sensors in every version."""
    types, colours, states = new_codes(1)
    assert types[:11].tolist() == [1, 10, 4, 7, 0, 9, 8, 6, 3, 5, 2]
    assert colours[:6].tolist() == [5, 4, 3, 1, 2, 0]
    assert states[:3].tolist() == [2, 0, 1]
    one = np.array([[1.0, -1.0, 0.1, 0.5]], dtype=np.float32)
    expected = {
        "Units": [-0.0925544, 0.779119, 0.033807, -1.20223],
        "Rotated": [-0.0383198, -0.241651, -0.721537, -0.363854],
        "Mixed": [-0.862178, -0.822478, 0.513895, 0.796448],
        "Distractors": [-0.0218326, 0.416667, 0.206588, -0.5],
    }
    for sensor in VECTORS:
        np.testing.assert_allclose(sensor(one)[0, :4], expected[sensor.family], rtol=1e-4)


def test_numbers_differ() -> None:
    assert len({new_codes(number).tobytes() for number in range(1, 10)}) == 9
    one = np.ones((1, 4), dtype=np.float32)
    for family in (Units, Rotated, Mixed, Distractors):
        assert len({family(number=number)(one).tobytes() for number in range(1, 10)}) == 9


@given(arrays(np.uint8, (3, 7, 7, 3), elements=st.integers(0, 2)))
@settings(max_examples=20, deadline=None)
def test_codes_can_be_undone(views: NDArray[np.uint8]) -> None:
    for sensor in (Codes(number=7), Colours(number=4)):
        changed = sensor(views)
        assert changed.dtype == np.uint8
        np.testing.assert_array_equal(sensor.undo(changed), views)


@pytest.mark.parametrize("sensor", **by_name(VECTORS))
@given(batch=ids_and_floats(4))
@settings(max_examples=20, deadline=None)
def test_vectors_can_be_undone(sensor: Any, batch: NDArray[np.float32]) -> None:
    batch = batch * np.array(SCALE, dtype=np.float32)
    given_copy = batch.copy()
    changed = sensor(batch)
    assert changed.dtype == np.float32
    np.testing.assert_array_equal(batch, given_copy)
    np.testing.assert_allclose(sensor.undo(changed), batch, atol=2e-3)


@pytest.mark.parametrize("sensor", **by_name(VECTORS))
@given(batch=ids_and_floats(4))
@settings(max_examples=20, deadline=None)
def test_a_row_does_not_depend_on_its_batch(sensor: Sensor, batch: NDArray[np.float32]) -> None:
    alone = np.concatenate([sensor(row[np.newaxis]) for row in batch])
    assert sensor(batch[:0]).shape == (0, *alone.shape[1:])
    np.testing.assert_array_equal(sensor(batch), alone)


@pytest.mark.parametrize("sensor", **by_name(VECTORS))
@given(batch=ids_and_floats(4))
@settings(max_examples=20, deadline=None)
def test_changed_boxes_hold_every_changed_vector(
    sensor: Sensor, batch: NDArray[np.float32]
) -> None:
    box = sensor.changed_space(gym.spaces.Box(-2, 2, (4,), np.float32))
    for row in sensor(batch):
        assert box.contains(row)
    for corner in (-2, 2):
        assert box.contains(sensor(np.full((1, 4), corner, dtype=np.float32))[0])


def test_rotations_keep_lengths_and_bounds_are_tight() -> None:
    batch = np.random.default_rng(0).normal(size=(50, 4))
    turned = Rotated(number=5)(batch)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(batch, axis=1), 1e-5)
    box = gym.spaces.Box(np.float32([-1, -2, 0, 1]), np.float32([1, 3, 0, 2]))
    for sensor in (Rotated(number=5), Units(number=5)):
        corners = np.stack(np.meshgrid(*zip(box.low, box.high, strict=True)), -1).reshape(-1, 4)
        changed = sensor.changed_space(box)
        assert isinstance(changed, gym.spaces.Box)
        np.testing.assert_allclose(sensor(corners).min(axis=0), changed.low, atol=1e-5)
        np.testing.assert_allclose(sensor(corners).max(axis=0), changed.high, atol=1e-5)


def test_an_open_dimension_stays_open() -> None:
    box = gym.spaces.Box(np.float32([-1, -np.inf]), np.float32([1, np.inf]))
    units = Units(number=1).changed_space(box)
    assert isinstance(units, gym.spaces.Box)
    assert sorted(np.isinf(units.high)) == [False, True]
    rotated = Rotated(number=1).changed_space(box)
    assert isinstance(rotated, gym.spaces.Box)
    assert np.isinf(rotated.low).all()


def test_mixed_is_not_linear_and_does_not_hide_infinity() -> None:
    x = np.random.default_rng(0).normal(size=(200, 4))
    mixed = Mixed(number=4)(x)
    assert mixed.shape == (200, 32)
    inputs = np.c_[x, np.ones(200)]
    rest = mixed - inputs @ np.linalg.lstsq(inputs, mixed, rcond=None)[0]
    assert rest.var() > 0.1 * mixed.var()
    assert np.isnan(Mixed(number=4)(np.array([[np.inf, 0, 0, 0]]))).all()


def test_distractors_are_noise() -> None:
    sensor = Distractors(number=4)
    x = np.random.default_rng(0).normal(size=(4_000, 4)).astype(np.float32)
    seen = sensor(x)
    own = [int(np.flatnonzero((seen == each[:, np.newaxis]).all(axis=0))[0]) for each in x.T]
    noise = np.delete(seen, own, axis=1)
    assert noise.shape == (4_000, 8)
    assert abs(noise.mean(axis=0)).max() < 0.05
    np.testing.assert_allclose(noise.std(axis=0), 3**-0.5, atol=0.03)
    assert abs(np.corrcoef(np.c_[noise, x].T) - np.eye(12)).max() < 0.07
    zeros = np.zeros((1, 4), dtype=np.float32)
    np.testing.assert_array_equal(sensor(zeros), sensor(-zeros))


def undone(env_id: str, seen: Any) -> Any:
    changed = sensor_of(env_id)
    assert changed is not None
    sensor: Any = changed.sensor
    if isinstance(seen, dict):
        return {**seen, "image": sensor.undo(seen["image"])}
    return sensor.undo(seen)


def assert_plain(env_id: str, seen: Any, plain: Any) -> None:
    for one, other in zip(_parts(undone(env_id, seen)), _parts(plain), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 if one.dtype == np.uint8 else 1e-3)


def _parts(observations: Any) -> list[Any]:
    if isinstance(observations, dict):
        return [observations[key] for key in sorted(observations)]
    return [observations]


@pytest.mark.parametrize("backend", ["envpool", "gymnasium"])
@pytest.mark.parametrize("env_id", IDS)
def test_undone_observations_are_those_of_the_plain_environment(env_id: str, backend: str) -> None:
    if backend == "envpool":
        pytest.importorskip("envpool")
    changed = sensor_of(env_id)
    assert changed is not None
    vec, base = (make_vec(each, 2, 3, backend) for each in (env_id, changed.base_id))
    seen, plain = vec.reset(), base.reset()
    rng, n_ends = np.random.default_rng(1), 0
    ends = env_id.startswith(("contrastive/DoorKey-5x5", "contrastive/GoTo", "contrastive/Cart"))
    for _ in range(260 if ends else 50):
        assert_plain(env_id, seen, plain)
        actions = rng.integers(0, vec.action_space.n, 2)
        seen, rewards, dones, infos = vec.step(actions)
        plain, plain_rewards, plain_dones, plain_infos = base.step(actions)
        np.testing.assert_array_equal(rewards, plain_rewards)
        np.testing.assert_array_equal(dones, plain_dones)
        for one, other in zip(infos, plain_infos, strict=True):
            assert one.keys() == other.keys()
            if "terminal_observation" in one:
                n_ends += 1
                last = [_batch(each["terminal_observation"]) for each in (one, other)]
                assert_plain(env_id, *last)
        for row in range(2):
            assert vec.observation_space.contains(_row(seen, row))
    assert n_ends > 0 or not ends
    vec.close()
    base.close()


def _row(observations: Any, row: int) -> Any:
    if isinstance(observations, dict):
        return {key: values[row] for key, values in observations.items()}
    return observations[row]


def _batch(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: value[np.newaxis] for key, value in observation.items()}
    return observation[np.newaxis]


@pytest.mark.parametrize("env_id", IDS)
def test_backends_have_equal_spaces(env_id: str) -> None:
    pytest.importorskip("envpool")
    fast, slow = (make_vec(env_id, 2, 0, backend) for backend in ("envpool", "gymnasium"))
    assert fast.backend != slow.backend
    assert fast.observation_space == slow.observation_space
    for one, other in zip(_parts(fast.reset()), _parts(slow.reset()), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)


def test_a_raw_environment_can_be_wrapped() -> None:
    plain = make_env("MiniGrid-Empty-5x5-v0").reset(seed=0)[0]
    wrapped = ChangedSensors(gym.make("MiniGrid-Empty-5x5-v0"), Codes(number=3))
    seen = wrapped.reset(seed=0)[0]
    np.testing.assert_array_equal(seen["image"], Codes(number=3)(plain["image"]))
    assert seen["mission"] == "get to the green goal square"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("env_id", IDS)
def test_sensor_ids_pass_both_checkers(env_id: str) -> None:
    env = make_env(env_id)
    gymnasium_check(env, skip_render_check=True)
    stable_baselines_check(env, warn=True)


def test_sensor_of_knows_our_ids_alone() -> None:
    changed = sensor_of("contrastive/DoorKey-6x6-Codes2-v0")
    assert changed is not None
    assert changed.base_id == "MiniGrid-DoorKey-6x6-v0"
    assert changed.sensor == Codes(number=2)
    for env_id in ("MiniGrid-DoorKey-6x6-v0", "contrastive/CartPole-Random-v0", "CartPole-v1"):
        assert sensor_of(env_id) is None
    assert all(gym.spec(env_id) for env_id in SENSOR_IDS)
    assert "contrastive/DoorKey-5x5-Codes9-v0" in SENSOR_IDS
    assert "contrastive/DoorKey-5x5-Codes0-v0" not in SENSOR_IDS
    for each in SENSOR_IDS.values():
        assert pickle.loads(pickle.dumps(each)) == each


class GoalEnv(gym.Env[Any, Any]):
    """A Dict observation, of which one part is a vector."""

    observation_space = gym.spaces.Dict(
        {"position": gym.spaces.Box(-1, 1, (2,)), "task": gym.spaces.Discrete(3)}
    )
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return {"position": np.float32([0.5, -1]), "task": 2}, {}


def test_one_part_of_a_dict_changes() -> None:
    env = ChangedSensors(GoalEnv(), Rotated(number=2, part="position"))
    seen, _ = env.reset()
    assert env.observation_space.contains(seen)
    assert seen["task"] == 2
    np.testing.assert_allclose(np.linalg.norm(seen["position"]), 1.25**0.5, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Codes(number=-1), r"number of Codes must be a whole number in \[0, "),
        (lambda: Codes(number=True), "got True"),
        (lambda: Colours(number=6), "0, 2, 3, 4 or 5"),
        (lambda: Units(number=1, scale=(1, 0)), "scale of Units must hold positive numbers"),
        (lambda: ChangedSensors(gym.make("CartPole-v1"), Codes(number=1)), "MiniGrid's views"),
        (
            lambda: ChangedSensors(gym.make("CartPole-v1"), Units(number=1, scale=(1, 2))),
            "scale of Units has 2 numbers, the observation 4",
        ),
        (lambda: ChangedSensors(GoalEnv(), Units(number=1)), "set part= of the sensor"),
        (
            lambda: Mixed(number=1).changed_space(gym.spaces.Box(-1, 1, (33,))),
            "32 dimensions, which cannot hold the 33",
        ),
        (
            lambda: Rotated(number=1).changed_space(gym.spaces.Box(-1, 1, (3, 3))),
            "FlattenObservation",
        ),
        (lambda: Mixed(number=1).undo(np.zeros((1, 32))), "undo of Mixed needs scale="),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make()
