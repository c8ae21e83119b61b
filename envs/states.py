"""The state of running Python environments as bytes, and back.

There is no way to it but pickle. So these bytes may only be read where it is sure who wrote them.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium.utils import EzPickle

Envs = Sequence[gym.Env[Any, Any]]


class StateUnavailableError(ValueError):
    """An environment whose state cannot be saved or taken back; its text says why."""


def pack_state(env_lists: Sequence[Envs], counts: Any) -> bytes:
    """The environments of each task, and what is counted beside them.

    Raises StateUnavailableError for EnvPool's, and for environments that pickle without their
    state or not at all.
    """
    for envs in env_lists:
        if not envs:
            raise StateUnavailableError("EnvPool's environments cannot give their state")
        forgetful = _forgetful(envs[0])
        if forgetful is not None:
            raise StateUnavailableError(
                f"{forgetful} is pickled by its arguments (EzPickle), without its state"
            )
    try:
        return pickle.dumps(([list(envs) for envs in env_lists], counts))
    except Exception as error:
        raise StateUnavailableError(f"{type(error).__name__}: {error}") from error


def unpack_state(state: bytes, like: Sequence[Envs]) -> tuple[list[Envs], Any]:
    """Environments and counts of `pack_state`, of as many as in `like`.

    Raises StateUnavailableError where they cannot be read, or are others.
    """
    try:
        env_lists, counts = pickle.loads(state)
    except Exception as error:
        raise StateUnavailableError(f"{type(error).__name__}: {error}") from error
    found = [[type(env.unwrapped) for env in envs] for envs in env_lists]
    if found != [[type(env.unwrapped) for env in envs] for envs in like]:
        raise StateUnavailableError("they are the states of other environments")
    return env_lists, counts


def _forgetful(env: gym.Env[Any, Any]) -> str | None:
    """The class in an environment's wrappers that loses its state when it is pickled."""
    layer: gym.Env[Any, Any] = env
    while True:
        if isinstance(layer, EzPickle):
            return type(layer).__name__
        if not isinstance(layer, gym.Wrapper):
            return None
        layer = layer.env
