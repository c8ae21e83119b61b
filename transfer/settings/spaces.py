"""Whether environments fit an agent, and one another."""

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import gymnasium as gym
import numpy as np

from contrastive_distillation.agents import build_agent
from contrastive_distillation.envs import (
    EnvironmentFailedError,
    Suite,
    compare_spaces,
    compared_spaces,
    make_env,
    make_vec,
    quiet,
    space_table,
    track_step,
)

from ..errors import SettingsError

_SPACES = (
    gym.spaces.Box,
    gym.spaces.Discrete,
    gym.spaces.MultiDiscrete,
    gym.spaces.MultiBinary,
)
_SPACE_NAMES = ", ".join(kind.__name__ for kind in _SPACES)


@dataclass(frozen=True)
class Spaces:
    """An environment's spaces."""

    observation: gym.Space[Any]
    """As the agent sees it."""
    action: gym.Space[Any]
    """As the agent takes it."""
    compared: tuple[gym.Space[Any], gym.Space[Any]]
    """Both, as they are compared with those of other environments; see `compared_spaces`."""


@functools.cache
def spaces_of(env_id: str, observation: str, mission: bool) -> Spaces:
    """An environment's spaces, with a suite's kind of observation.

    Raises:
        SettingsError: the environment cannot be made, or a first step shows that it does not keep
            Gymnasium's interface.
    """
    with contextlib.closing(make_env(env_id, observation=observation, mission=mission)) as env:
        spaces = Spaces(env.observation_space, env.action_space, compared_spaces(env))
        unreadable = _unreadable(spaces.observation)
        if unreadable is not None:
            raise SettingsError(f"{env_id}: {unreadable}")
        env.action_space.seed(0)
        try:
            with quiet(env_id), track_step(env_id, 0):
                env.reset(seed=0)
                env.step(env.action_space.sample())
        except EnvironmentFailedError as error:
            raise SettingsError(f"{env_id}: {error.reason}") from error
    return spaces


def _unreadable(space: gym.Space[Any]) -> str | None:
    """Why no agent can see observations of a space; None if one can."""
    parts = [space]
    if isinstance(space, gym.spaces.Dict):
        parts = list(space.spaces.values())
    if parts and all(isinstance(part, _SPACES) and 0 not in (part.shape or ()) for part in parts):
        return None
    return (
        f"its observations are {space}; an agent here sees {_SPACE_NAMES}, not empty, or one Dict "
        "of these. Wrap the environment so that it gives one of them, and name yours as module:ID"
    )


def check_spaces(agent: str, env_id: str, suite: Suite, mission: bool) -> None:
    """Refuse actions that an agent cannot take, and observations for which it cannot be built."""
    spaces = spaces_of(env_id, suite.observation, mission)
    actions = spaces.action
    if agent == "dqn" and not isinstance(actions, gym.spaces.Discrete):
        raise SettingsError(
            f"--agent dqn: needs discrete actions, {env_id} has {actions}; use --agent ppo"
        )
    if not isinstance(actions, _SPACES):
        raise SettingsError(f"{env_id}: its actions are {actions}; PPO takes {_SPACE_NAMES}")
    if isinstance(actions, gym.spaces.Box):
        _check_continuous(env_id, actions)
    _check_buildable(agent, env_id, suite, mission)


def _check_buildable(agent: str, env_id: str, suite: Suite, mission: bool) -> None:
    """Build the agent for one environment, and let it act once."""
    vec = make_vec([env_id], 1, 0, "gymnasium", observation=suite.observation, mission=mission)
    small: dict[str, Any] = {"buffer_size": 1} if agent == "dqn" else {}
    with contextlib.closing(vec):
        try:
            build_agent(agent, vec, seed=0, **small).predict(cast(Any, vec.reset()))
        except Exception as error:  # Stable-Baselines3 and torch can raise anything
            reason = " ".join(str(error).split())
            raise SettingsError(
                f"{env_id}: {agent} cannot be built for the observations "
                f"{vec.observation_space} and the actions {vec.action_space}: {reason}"
            ) from error


def _check_continuous(env_id: str, actions: gym.spaces.Box) -> None:
    if not np.issubdtype(actions.dtype, np.floating):
        raise SettingsError(
            f"{env_id}: its actions are whole numbers in {actions}, and PPO takes floats in a Box; "
            "wrap the environment so that its actions are MultiDiscrete, and name yours as "
            "module:ID"
        )
    if not np.isfinite([actions.low, actions.high]).all():
        raise SettingsError(
            f"{env_id}: its actions {actions} have no finite bounds, which PPO needs; wrap it in "
            "gymnasium.wrappers.TransformAction with a bounded Box, and name yours as module:ID"
        )


def compare_all(
    suite: Suite,
    source: str,
    others: Sequence[str],
    mission: bool,
    *,
    source_mission: bool | None = None,
    actions_only: bool = False,
) -> None:
    """Refuse, with a table, environments that one agent cannot carry its weights between.

    Args:
        suite: says which kind of observation all have.
        source: the environment that the others must equal.
        others: the other environments.
        mission: whether observations of the others hold the mission.
        source_mission: the same of the source; None: as the others.
        actions_only: whether observations may differ, as where the sensors change.
    """
    of_source = mission if source_mission is None else source_mission
    known = spaces_of(source, suite.observation, of_source).compared
    tables = []
    for env_id in others:
        rows = compare_spaces(*known, *spaces_of(env_id, suite.observation, mission).compared)
        if actions_only:
            rows = rows[-1:]
        if not all(row.fits for row in rows):
            tables.append(space_table(rows, source, env_id))
    if tables:
        spaces = "actions" if actions_only else "observations and actions"
        raise SettingsError(
            f"{spaces} must be those of {source} in every environment that shares "
            "its agent; leave out what does not fit, or wrap it and name it as module:ID:\n\n"
            + "\n\n".join(tables)
        )
