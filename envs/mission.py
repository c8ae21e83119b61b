"""Missions (the sentence MiniGrid and BabyAI give with an observation) as word tokens.

The vocabulary is fixed, so that a saved agent always reads the same words. It holds the words of
the mission functions in `minigrid/envs/*.py` and of BabyAI's grammar
(`minigrid/envs/babyai/core/verifier.py`). New words may only be appended.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import cache, lru_cache

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
    for word in words:
        if word not in _TOKEN_OF_WORD:
            raise ValueError(
                f"the mission {mission!r} has the word {word!r}, which is not in the mission "
                f'vocabulary. Leave the mission out (mission="off"), or use an environment '
                f"of MiniGrid or BabyAI."
            )
    if len(words) > MISSION_LENGTH:
        raise ValueError(
            f"the mission {mission!r} has {len(words)} words; an observation holds "
            f'{MISSION_LENGTH}. Leave the mission out (mission="off"), or use another environment.'
        )
    tokens = np.zeros(MISSION_LENGTH, dtype=np.uint8)
    tokens[: len(words)] = [_TOKEN_OF_WORD[word] for word in words]
    return tokens.tobytes()


def encode_mission(mission: str) -> NDArray[np.uint8]:
    """The words of `mission` as (32,) uint8 tokens, padded with 0.

    Commas and capital letters are ignored. Raises ValueError for a word that is not in the
    vocabulary and for a mission of more than 32 words.
    """
    return np.frombuffer(_tokens(mission), dtype=np.uint8).copy()


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
        f'know its goal. Use mission="auto" with the grid observation.',
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
        choices = getattr(mission, "ordered_placeholders", None)
        if "babyai" in type(env.unwrapped).__module__ or not hasattr(mission, "mission_func"):
            return frozenset()
        if choices and any(len(each) > 1 for each in choices):
            return frozenset()
        return frozenset([str(mission.sample())])
    finally:
        env.close()
