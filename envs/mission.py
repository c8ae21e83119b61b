"""Missions (the sentence MiniGrid and BabyAI give with an observation) as word tokens.

The vocabulary is fixed, so that a saved agent reads the same words for ever: those of the
mission functions in `minigrid/envs/*.py` and of BabyAI's grammar
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

# fmt: off
MISSION_WORDS: tuple[str, ...] = (
    # colours and things
    "red", "green", "blue", "purple", "yellow", "grey",
    "ball", "box", "key", "door", "goal", "lava", "room", "rooms", "square", "hallway", "maze",
    "object", "opening", "end",
    # what to do
    "go", "get", "open", "pick", "up", "put", "unlock", "use", "find", "fetch", "reach", "avoid",
    "traverse", "must", "matching",
    # where and when
    "to", "at", "of", "in", "on", "from", "near", "next", "front", "behind", "left", "right",
    "then", "after", "and", "you", "your", "the", "a",
)
# fmt: on

MISSION_LENGTH = 32
"""Tokens of a mission, padded with 0."""

MISSION_VOCABULARY = len(MISSION_WORDS) + 1
"""Number of different tokens, padding included."""

_TOKEN_OF_WORD = {word: token for token, word in enumerate(MISSION_WORDS, start=1)}


@lru_cache(maxsize=65_536)
def _tokens(mission: str) -> bytes:
    words = re.findall(r"[^\s,.]+", mission.lower())
    for word in words:
        if word not in _TOKEN_OF_WORD:
            raise ValueError(
                f"the mission {mission!r} has the word {word!r}, which the mission vocabulary "
                f'does not know. Leave the mission out (mission="off"), or use an environment '
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
    """The words of `mission` as (32,) uint8 tokens, 0 where there are none left.

    Commas and capitals do not count. Raises ValueError for a word outside the vocabulary and
    for a mission of more than 32 words, naming it.
    """
    return np.frombuffer(_tokens(mission), dtype=np.uint8).copy()


def mission_varies(env_ids: Sequence[str]) -> bool:
    """Whether the mission must be part of the observation for these environments together.

    True if one of them draws its mission anew for each episode (BabyAI always does), or if
    they differ in their missions. Environments without a mission do not count. Pass sources
    and targets together: an agent must see the same observation in all of them.
    """
    known = [missions for missions in map(_missions_of, env_ids) if missions is not None]
    return any(len(missions) != 1 for missions in known) or len(set(known)) > 1


def warn_hidden_mission(env_ids: Sequence[str]) -> None:
    """Warn where the mission varies although the observation leaves it out."""
    if not mission_varies(env_ids):
        return
    alone = [env_id for env_id in env_ids if mission_varies([env_id])]
    names = ", ".join(alone or dict.fromkeys(env_ids))
    warnings.warn(
        f"the mission of {names} varies, but the observation leaves it out: the agent cannot "
        f'know what it is asked to do. Use mission="auto" with the grid observation.',
        stacklevel=4,
    )


@cache
def _missions_of(env_id: str) -> frozenset[str] | None:
    """The missions of one environment: None without any, empty for "too many to list"."""
    from .procgen import PROCGEN
    from .single import make_raw_env

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
