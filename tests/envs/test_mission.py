"""Missions as tokens, and when the agent has to see them."""

import contextlib
import io
import warnings

import gymnasium as gym
import minigrid  # noqa: F401
import numpy as np
import pytest

from contrastive_distillation.envs import (
    MISSION_LENGTH,
    MISSION_WORDS,
    encode_mission,
    make_vec,
    mission_varies,
)

GRIDS = sorted(name for name in gym.registry if name.startswith(("MiniGrid-", "BabyAI-")))


def decode(tokens: np.ndarray) -> str:
    return " ".join(MISSION_WORDS[token - 1] for token in tokens if token)


def test_words_are_few_and_unlike() -> None:
    assert len(set(MISSION_WORDS)) == len(MISSION_WORDS) < 255


def test_a_mission_can_be_read_back() -> None:
    text = "put the red ball next to the grey door on your left, then go to a blue key"
    tokens = encode_mission(text)
    assert tokens.shape == (MISSION_LENGTH,) and tokens.dtype == np.uint8
    assert decode(tokens) == text.replace(",", "")
    assert not encode_mission("").any()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["MiniGrid-", "BabyAI-"])
def test_the_vocabulary_knows_every_mission(family: str) -> None:
    """Every registered id, once; the few missions that are too long say so."""
    for env_id in (name for name in GRIDS if name.startswith(family) and "WFC" not in name):
        env = gym.make(env_id, disable_env_checker=True)
        with contextlib.redirect_stdout(io.StringIO()):
            mission = env.reset(seed=0)[0]["mission"]
        if len(mission.split()) <= MISSION_LENGTH:
            assert decode(encode_mission(mission)) == mission.replace(",", "")


def test_unknown_words_become_two_tokens() -> None:
    north, south = (
        encode_mission("visit the north corner"),
        encode_mission("visit the south corner"),
    )
    assert (north != 0).sum() == 2 + 1 + 2 + 2
    assert sorted(north) != sorted(south), "also for an encoder that does not see the order"
    assert 0 < north.max() < len(MISSION_WORDS) + 1
    known = encode_mission("go to the red ball")
    assert encode_mission("go to the red teapot")[:4].tolist() == known[:4].tolist()


def test_long_missions_are_cut_with_a_warning() -> None:
    text = "go to the red ball " * 7 + "blue"
    with pytest.warns(UserWarning, match="more than 32 words are cut"):
        tokens = encode_mission(text)
    assert decode(tokens) == " ".join(text.split()[:MISSION_LENGTH])


@pytest.mark.parametrize(
    ("env_ids", "expected"),
    [
        (["MiniGrid-DoorKey-5x5-v0"], False),
        (["MiniGrid-DoorKey-5x5-v0", "contrastive/DoorKey-8x8-Colours3-v0"], False),
        (["MiniGrid-UnlockPickup-v0"], True),
        (["MiniGrid-Fetch-5x5-N2-v0"], True),
        (["BabyAI-GoToRedBall-v0"], True),
        (["MiniGrid-Empty-5x5-v0", "MiniGrid-LavaGapS5-v0"], True),
        (["MiniGrid-DoorKey-5x5-v0", "MiniGrid-Unlock-v0"], True),
        (["CartPole-v1"], False),
    ],
)
def test_when_the_mission_varies(env_ids: list[str], expected: bool) -> None:
    assert mission_varies(env_ids) is expected


@pytest.mark.parametrize("backend", ["auto", "gymnasium"])
def test_the_mission_is_there_where_it_varies(backend: str) -> None:
    vec = make_vec("BabyAI-GoToLocalS5N2-v0", 8, 0, backend)
    missions = vec.reset()["mission"]
    assert all(decode(each).startswith("go to") for each in missions)
    assert len(np.unique(missions, axis=0)) > 1
    plain = make_vec("MiniGrid-DoorKey-5x5-v0", 1, 0, backend)
    assert set(plain.reset()) == {"image", "direction"}
    asked = make_vec("MiniGrid-DoorKey-5x5-v0", 1, 0, backend, mission="on")
    assert decode(asked.reset()["mission"][0]).startswith("use the key to open the door")


@pytest.mark.parametrize("settings", [{"mission": "off"}, {"observation": "picture"}])
def test_a_hidden_mission_is_warned_about(settings: dict[str, str]) -> None:
    with pytest.warns(UserWarning, match="the mission of MiniGrid-UnlockPickup-v0 varies"):
        make_vec("MiniGrid-UnlockPickup-v0", 1, 0, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_vec("MiniGrid-DoorKey-5x5-v0", 1, 0, **settings)
