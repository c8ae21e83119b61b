"""Picture sensors: naive loops as oracles, nothing that was different becomes equal."""

import colorsys
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
    ChannelsMixed,
    HueTurned,
    Inverted,
    Noise,
    Pictures,
    TileSet,
    draw_pictures,
    get_task,
    make_env,
    make_vec,
)
from contrastive_distillation.envs.picture_sensors import PictureSensor, mixture
from contrastive_distillation.envs.pictures import drawn_tiles

FAMILIES: list[Any] = [HueTurned, Inverted, ChannelsMixed, Noise, TileSet]
SENSORS: list[Any] = [family(number=4) for family in FAMILIES]
IDS = [f"contrastive/DoorKey-5x5-{family.__name__}{n + 1}-v0" for n, family in enumerate(FAMILIES)]
PICTURES = st.integers(1, 3).flatmap(lambda n: arrays(np.uint8, (n, 3, 2, 4)))


def views(n: int) -> NDArray[np.uint8]:
    """Grid views of a room in which the agent walks at random."""
    vec = make_vec("MiniGrid-DoorKey-6x6-v0", n, 0)
    vec.reset()
    for actions in np.random.default_rng(0).integers(0, 6, (40, n)):
        seen: Any = vec.step(actions)[0]
    return seen["image"]  # type: ignore[no-any-return]


@given(PICTURES)
@settings(max_examples=15, deadline=None)
def test_hues_turn_as_in_colorsys(pictures: NDArray[np.uint8]) -> None:
    sensor = HueTurned(number=4)
    turned = np.moveaxis(sensor(pictures), 1, -1).reshape(-1, 3)
    for before, after in zip(np.moveaxis(pictures, 1, -1).reshape(-1, 3), turned, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(int(x) / 255 for x in before))
        expected = colorsys.hsv_to_rgb((hue + sensor.angle / 360) % 1, saturation, value)
        np.testing.assert_allclose(after, 255 * np.array(expected), atol=0.51)


def test_angles_are_far_from_nothing() -> None:
    angles = [HueTurned(number=number).angle for number in range(1, 10)]
    assert len(set(angles)) == 9
    assert all(60 <= angle <= 300 for angle in angles)


@pytest.mark.parametrize("number", range(1, 10))
def test_inverted_pictures_are_negatives(number: int) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    seen = Inverted(number=number)(ramp).reshape(3, 256).astype(int)
    assert (np.diff(seen, axis=1) <= 0).all()
    assert (seen[:, 0] == 255).all()
    assert (seen[:, -1] == 0).all()
    assert abs(seen - (255 - np.arange(256))).max() < 25


@given(PICTURES)
@settings(max_examples=15, deadline=None)
def test_channels_are_mixed_by_shares(pictures: NDArray[np.uint8]) -> None:
    expected = np.einsum("ij,njhw->nihw", mixture(4), pictures)
    np.testing.assert_allclose(ChannelsMixed(number=4)(pictures), expected, atol=0.51)


@pytest.mark.parametrize("number", range(1, 10))
def test_shares_sum_to_one_and_can_be_undone(number: int) -> None:
    shares = mixture(number)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares >= 0).all()
    assert np.linalg.cond(shares) < 30


def test_noise_belongs_to_the_picture() -> None:
    sensor = Noise(number=4)
    grey = np.full((1, 3, 56, 56), 128, dtype=np.uint8)
    pictures = np.concatenate([grey, grey + np.uint8(1), grey])
    noise = sensor(pictures).astype(int) - pictures
    np.testing.assert_array_equal(noise[0], noise[2])
    assert (noise[0] != noise[1]).mean() > 0.9
    assert (noise.min(), noise.max()) == (-30, 30)
    assert abs(noise.mean()) < 0.5
    bright = sensor(np.full((1, 3, 8, 8), 250, dtype=np.uint8))
    assert bright.min() >= 220, "bright pixels must not become dark"


@pytest.mark.parametrize("number", range(1, 10))
@pytest.mark.parametrize("family", FAMILIES)
def test_different_tiles_stay_different(family: Any, number: int) -> None:
    tiles = drawn_tiles().reshape(-1, 3, 8, 8)
    sensor = family(number=number)
    changed = sensor(tiles).reshape(len(tiles), -1)
    _, before = np.unique(tiles.reshape(len(tiles), -1), axis=0, return_inverse=True)
    _, after = np.unique(changed, axis=0, return_inverse=True)
    pairs = set(zip(before.tolist(), after.tolist(), strict=True))
    assert len(pairs) == before.max() + 1 == after.max() + 1
    unlike = (changed != tiles.reshape(len(tiles), -1)).any(axis=1)
    assert unlike.mean() > 0.5


@pytest.mark.parametrize("sensor", SENSORS, ids=lambda sensor: sensor.family)
def test_drawing_at_once_equals_changing_the_picture(sensor: PictureSensor) -> None:
    seen = views(8)
    pictures = draw_pictures(seen)
    kept = pictures.copy()
    np.testing.assert_array_equal(sensor.draw(seen), sensor(pictures))
    np.testing.assert_array_equal(pictures, kept)
    alone = np.concatenate([sensor(each[np.newaxis]) for each in pictures])
    np.testing.assert_array_equal(sensor(pictures), alone)
    assert sensor(pictures[:0]).shape == (0, 3, 56, 56)
    assert len({each.tobytes() for each in alone}) == len({each.tobytes() for each in pictures})


@pytest.mark.parametrize("sensor", SENSORS[:3], ids=lambda sensor: sensor.family)
def test_the_channels_may_be_last(sensor: PictureSensor) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 5), dtype=np.uint8)
    last = sensor(np.moveaxis(pictures, 1, -1))
    np.testing.assert_array_equal(np.moveaxis(last, -1, 1), sensor(pictures))


def test_numbers_are_stable() -> None:
    """These pixels may never change: an id names the same sensors in every version."""
    picture = draw_pictures(make_env("MiniGrid-DoorKey-5x5-v0").reset(seed=0)[0]["image"][None])
    expected = {
        "HueTurned": [150, 76, 255],
        "Inverted": [0, 165, 176],
        "ChannelsMixed": [101, 187, 109],
        "Noise": [255, 90, 96],
        "TileSet": [125, 125, 25],
    }
    for sensor in SENSORS:
        assert sensor(picture)[0, :, 52, 28].tolist() == expected[sensor.family]


@pytest.mark.parametrize("env_id", IDS)
def test_both_backends_show_the_same(env_id: str) -> None:
    pytest.importorskip("envpool")
    base_id = "MiniGrid-DoorKey-5x5-v0"
    sensor: Any = FAMILIES[IDS.index(env_id)](number=IDS.index(env_id) + 1)
    n_ends, n_steps = 0, 251 if "TileSet" in env_id else 20
    for backend in ("envpool", "gymnasium"):
        vec, base = make_vec(env_id, 2, 3, backend), make_vec(base_id, 2, 3, backend)
        assert vec.observation_space == make_env(env_id).observation_space
        seen, plain = vec.reset(), base.reset()
        for actions in np.random.default_rng(1).integers(0, 7, (n_steps, 2)):
            np.testing.assert_array_equal(seen, sensor(draw_pictures(plain)))
            (seen, *_, infos), (plain, *_, plain_infos) = vec.step(actions), base.step(actions)
            for one, other in zip(infos, plain_infos, strict=True):
                assert one.keys() == other.keys()
                if "terminal_observation" in one:
                    n_ends += 1
                    last = draw_pictures(other["terminal_observation"]["image"][np.newaxis])
                    np.testing.assert_array_equal(one["terminal_observation"], sensor(last)[0])
    assert n_ends >= 4 or n_steps == 20


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("env_id", IDS)
def test_picture_ids_pass_both_checkers(env_id: str) -> None:
    env = make_env(env_id, observation="picture")
    assert env.observation_space == make_env(env_id).observation_space
    gymnasium_check(env, skip_render_check=True)
    stable_baselines_check(env, warn=True)
    assert get_task(env_id).return_range == (0, 1)


def test_pictures_of_a_grid_are_a_sensor_too() -> None:
    seen = views(4)
    expected = draw_pictures(seen)
    grids = {"image": seen, "direction": np.zeros((4, 1), dtype=np.uint8)}
    np.testing.assert_array_equal(Pictures()(grids), expected)
    np.testing.assert_array_equal(draw_pictures(grids), expected)
    np.testing.assert_array_equal(Pictures()(expected), expected)
    for backend in ("auto", "gymnasium"):
        drawn = make_vec("contrastive/DoorKey-5x5-Pictures-v0", 2, 0, backend).reset()
        plain = make_vec("MiniGrid-DoorKey-5x5-v0", 2, 0, backend, observation="picture").reset()
        np.testing.assert_array_equal(drawn, plain)


class Camera(gym.Env[Any, Any]):
    observation_space: gym.Space[Any]
    action_space = gym.spaces.Discrete(2)

    def __init__(self, *shape: int) -> None:
        self.observation_space = gym.spaces.Box(0, 255, shape, np.uint8)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: ChangedSensors(Camera(84, 84, 1), HueTurned(number=1)), "before grey scales"),
        (lambda: ChangedSensors(Camera(3, 84, 84), TileSet(number=1)), "Use HueTurned, Inverted"),
        (lambda: TileSet(number=1)(np.full((1, 3, 56, 56), 77, np.uint8)), "does not draw"),
        (
            lambda: make_env("contrastive/DoorKey-5x5-Codes1-v0", observation="picture"),
            "would show other things",
        ),
        (
            lambda: make_vec("contrastive/DoorKey-5x5-Codes1-v0", 1, 0, observation="picture"),
            "would show other things",
        ),
        (
            lambda: make_vec("contrastive/CartPole-Units1-v0", 1, 0, observation="picture"),
            "does not have a grid to draw",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make()


def test_recoloured_grids_can_still_be_drawn() -> None:
    env = make_env("contrastive/DoorKey-5x5-Colours5-v0", observation="picture")
    assert env.observation_space.contains(env.reset(seed=0)[0])
