"""Pictures by look-up equal minigrid's drawn ones; permuted colours stay equal where they were."""

import gymnasium as gym
import minigrid  # noqa: F401
import numpy as np
import pytest
from minigrid.wrappers import RGBImgPartialObsWrapper

from contrastive_distillation.envs import make_env, make_vec
from contrastive_distillation.envs.colours import colour_permutation, permute_colours
from contrastive_distillation.envs.pictures import draw_pictures

DOOR, KEY = 4, 5


@pytest.mark.parametrize(
    ("env_id", "n_states"),
    [
        ("MiniGrid-DoorKey-6x6-v0", 250),
        ("MiniGrid-KeyCorridorS3R2-v0", 250),
        ("BabyAI-GoToRedBall-v0", 150),
        ("MiniGrid-LavaCrossingS9N1-v0", 100),
        ("MiniGrid-ObstructedMaze-2Dlh-v0", 150),
        ("MiniGrid-Playground-v0", 100),
    ],
)
def test_pictures_equal_minigrids(env_id: str, n_states: int) -> None:
    env = gym.make(env_id)
    wrapped = RGBImgPartialObsWrapper(env, tile_size=8)
    rng = np.random.default_rng(0)
    raw, _ = env.reset(seed=0)
    carried = 0
    for step in range(n_states):
        expected = wrapped.observation(raw)["image"].transpose(2, 0, 1)
        np.testing.assert_array_equal(draw_pictures(raw["image"][None])[0], expected)
        carried += env.unwrapped.carrying is not None
        action = rng.choice(6, p=[0.15, 0.15, 0.3, 0.2, 0.05, 0.15])
        raw, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated or step % 40 == 39:
            raw, _ = env.reset(seed=step)


def test_carrying_is_drawn() -> None:
    env = gym.make("MiniGrid-DoorKey-5x5-v0")
    raw, _ = env.reset(seed=0)
    from minigrid.core.world_object import Key

    env.unwrapped.carrying = Key("yellow")
    raw = env.unwrapped.gen_obs()
    expected = env.unwrapped.get_pov_render(8).transpose(2, 0, 1)
    np.testing.assert_array_equal(draw_pictures(raw["image"][None])[0], expected)


@pytest.mark.parametrize("backend", ["auto", "gymnasium"])
def test_picture_observations_are_channel_first(backend: str) -> None:
    vec = make_vec("MiniGrid-DoorKey-5x5-v0", 2, 0, backend, observation="picture")
    first = vec.reset()
    assert first.shape == (2, 3, 56, 56)
    assert first.dtype == np.uint8
    assert vec.observation_space.shape == (3, 56, 56)
    assert first.max() > 0


@pytest.mark.parametrize("n_moved", [0, 2, 3, 4, 5])
def test_permutation_moves_as_many_as_it_says(n_moved: int) -> None:
    new = colour_permutation(n_moved)
    assert sorted(new) == list(range(6))
    assert (new != np.arange(6)).sum() == n_moved


@pytest.mark.parametrize("n_moved", [-1, 1, 6])
def test_impossible_permutations_are_refused(n_moved: int) -> None:
    with pytest.raises(ValueError, match="0, 2, 3, 4 or 5"):
        colour_permutation(n_moved)


def test_only_things_have_colours_to_move() -> None:
    image = np.zeros((7, 7, 3), dtype=np.uint8)
    image[0, 0] = (1, 0, 0)  # empty
    image[1, 1] = (6, 0, 0)  # a red ball
    moved = permute_colours(image, colour_permutation(5))
    assert moved[0, 0].tolist() == [1, 0, 0]
    assert moved[1, 1, 1] != 0
    assert image[1, 1, 1] == 0, "the given image must not change"
    assert (moved[..., [0, 2]] == image[..., [0, 2]]).all()


@pytest.mark.parametrize("n_moved", [2, 3, 4, 5])
@pytest.mark.parametrize("backend", ["auto", "gymnasium"])
def test_key_and_door_keep_one_colour(backend: str, n_moved: int) -> None:
    vec = make_vec(f"contrastive/DoorKey-6x6-Colours{n_moved}-v0", 8, 0, backend)
    base = make_vec("MiniGrid-DoorKey-6x6-v0", 8, 0, backend)
    new = colour_permutation(n_moved)
    seen, plain = vec.reset(), base.reset()
    rng = np.random.default_rng(0)
    colours = set()
    for _ in range(60):
        for image in seen["image"]:
            keys = image[image[..., 0] == KEY, 1]
            doors = image[image[..., 0] == DOOR, 1]
            colours |= {*keys.tolist(), *doors.tolist()}
        np.testing.assert_array_equal(seen["image"], permute_colours(plain["image"], new))
        actions = rng.integers(0, 6, 8)
        seen, plain = vec.step(actions)[0], base.step(actions)[0]
    assert len(colours) == 1, "key and door must have the same colour"
    assert colours != {4}, "the colour must have moved"


def test_a_permuted_environment_is_a_gymnasium_id() -> None:
    env = make_env("contrastive/DoorKey-5x5-Colours2-v0")
    first, _ = env.reset(seed=1)
    plain, _ = make_env("MiniGrid-DoorKey-5x5-v0").reset(seed=1)
    assert not np.array_equal(first["image"], plain["image"])
