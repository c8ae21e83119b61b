"""Save and load the state of running Python environments.

Only pickle can do this, and unpickling runs code. Load such bytes only if their author is trusted.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium.utils import EzPickle

Envs = Sequence[gym.Env[Any, Any]]


class StateUnavailableError(ValueError):
    """The state of an environment cannot be saved or loaded; the message says why."""


def pack_state(env_lists: Sequence[Envs], counts: Any) -> bytes:
    """Pickle the environments of each task, together with the vector's `counts`.

    Raises StateUnavailableError for EnvPool's environments, and for environments that cannot be
    pickled or are pickled without their state.
    """
    for envs in env_lists:
        if not envs:
            raise StateUnavailableError("EnvPool's environments cannot save their state")
        stateless = _class_pickled_without_state(envs[0])
        if stateless is not None:
            raise StateUnavailableError(
                f"{stateless} is pickled by its arguments (EzPickle), without its state"
            )
    try:
        return pickle.dumps(([list(envs) for envs in env_lists], counts))
    except Exception as error:
        raise StateUnavailableError(f"{type(error).__name__}: {error}") from error


def unpack_state(state: bytes, like: Sequence[Envs]) -> tuple[list[Envs], Any]:
    """Unpickle the environments and counts of `pack_state`.

    Raises StateUnavailableError if they cannot be read, or if their number or classes differ from
    those of `like`.
    """
    try:
        env_lists, counts = pickle.loads(state)
    except Exception as error:
        raise StateUnavailableError(f"{type(error).__name__}: {error}") from error
    found = [[type(env.unwrapped) for env in envs] for envs in env_lists]
    if found != [[type(env.unwrapped) for env in envs] for envs in like]:
        raise StateUnavailableError("the state belongs to other environments")
    return env_lists, counts


def _class_pickled_without_state(env: gym.Env[Any, Any]) -> str | None:
    """The first class among an environment's wrappers that is pickled without its state."""
    layer: gym.Env[Any, Any] = env
    while True:
        if isinstance(layer, EzPickle):
            return type(layer).__name__
        if not isinstance(layer, gym.Wrapper):
            return None
        layer = layer.env
