"""Missions (the sentence MiniGrid and BabyAI give with an observation) as word tokens.

The vocabulary is fixed, so that a saved agent always reads the same words. It holds the words of
the mission functions in `minigrid/envs/*.py` and of BabyAI's grammar
(`minigrid/envs/babyai/core/verifier.py`). New words may only be appended.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from .procgen import PROCGEN
from .registry import make_raw_env

# fmt: off
MISSION_WORDS: tuple[str, ...] = (
    # colours and objects
    "red", "green", "blue", "purple", "yellow", "grey",
    "ball", "box", "key", "door", "goal", "lava", "room", "rooms", "square", "hallway", "maze",
    "object", "opening", "end",
    # actions
    "go", "get", "open", "pick", "up", "put", "unlock", "use", "find", "fetch", "reach", "avoid",
    "traverse", "must", "matching",
    # place and time
    "to", "at", "of", "in", "on", "from", "near", "next", "front", "behind", "left", "right",
    "then", "after", "and", "you", "your", "the", "a",
)
# fmt: on

MISSION_LENGTH = 32
"""Number of tokens of a mission, padded with 0."""

MISSION_VOCABULARY = len(MISSION_WORDS) + 1
"""Number of different tokens, including the padding."""

_TOKEN_OF_WORD = {word: token for token, word in enumerate(MISSION_WORDS, start=1)}


@lru_cache(maxsize=65_536)
def _tokens(mission: str) -> bytes:
    words = re.findall(r"[^\s,.]+", mission.lower())
    found = [token for word in words for token in _tokens_of(word)]
    if len(found) > MISSION_LENGTH:
        warnings.warn(
            f"missions of more than {MISSION_LENGTH} words are cut: the agent sees the first "
            f"{MISSION_LENGTH} of {mission!r}",
            stacklevel=4,
        )
    tokens = np.zeros(MISSION_LENGTH, dtype=np.uint8)
    tokens[: len(found)] = found[:MISSION_LENGTH]
    return tokens.tobytes()


def _tokens_of(word: str) -> tuple[int, ...]:
    """The token of a word in the vocabulary; two for another word, which a hash of it chooses.

    So a vocabulary of one size, and with it the size of every saved encoder, does for all words.
    """
    if word in _TOKEN_OF_WORD:
        return (_TOKEN_OF_WORD[word],)
    first, second = divmod(zlib.crc32(word.encode()) % len(MISSION_WORDS) ** 2, len(MISSION_WORDS))
    return first + 1, second + 1


def encode_mission(mission: str) -> NDArray[np.uint8]:
    """The words of `mission` as (32,) uint8 tokens, padded with 0.

    Commas and capital letters are ignored. A word that is not in the vocabulary becomes two
    tokens. Tokens after the 32nd are left out, with a warning.
    """
    return np.frombuffer(_tokens(mission), dtype=np.uint8).copy()


def is_text(space: gym.Space[Any]) -> bool:
    """Whether a space holds text: MiniGrid's MissionSpace, or Gymnasium's Text."""
    return isinstance(space, gym.spaces.Text) or hasattr(space, "mission_func")


def mission_varies(env_ids: Sequence[str]) -> bool:
    """Whether the mission must be part of the observation for these environments together.

    True if one of them draws a mission for each episode (BabyAI always does), or if their
    missions differ. Environments without a mission are ignored. Pass sources
    and targets together: an agent must see the same observation in all of them.
    """
    known = [missions for missions in map(_missions_of, env_ids) if missions is not None]
    return any(len(missions) != 1 for missions in known) or len(set(known)) > 1


def warn_hidden_mission(env_ids: Sequence[str]) -> None:
    """Warn if the mission varies; call it if the observation does not hold the mission."""
    if not mission_varies(env_ids):
        return
    alone = [env_id for env_id in env_ids if mission_varies([env_id])]
    names = ", ".join(alone or dict.fromkeys(env_ids))
    warnings.warn(
        f"the mission of {names} varies, but the observation does not hold it: the agent cannot "
        "know its goal. Use the grid observation, which holds it.",
        stacklevel=4,
    )


@cache
def _missions_of(env_id: str) -> frozenset[str] | None:
    """The missions of one environment: None if it has none, empty if there are too many."""
    if env_id in PROCGEN:
        return None
    env = make_raw_env(env_id)
    try:
        space = env.observation_space
        if not isinstance(space, gym.spaces.Dict) or "mission" not in space.spaces:
            return None
        mission = space["mission"]
        if not is_text(mission):
            return None
        choices = getattr(mission, "ordered_placeholders", None)
        if "babyai" in type(env.unwrapped).__module__ or not hasattr(mission, "mission_func"):
            return frozenset()
        if choices and any(len(each) > 1 for each in choices):
            return frozenset()
        return frozenset([str(mission.sample())])
    finally:
        env.close()
