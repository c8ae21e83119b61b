"""Whether environments fit an agent, and one another."""

import functools
from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from contrastive_distillation.envs import Suite, compare_spaces, make_env, space_table

from ..errors import SettingsError

_SPACES = (
    gym.spaces.Box,
    gym.spaces.Discrete,
    gym.spaces.MultiDiscrete,
    gym.spaces.MultiBinary,
)
_SPACE_NAMES = ", ".join(kind.__name__ for kind in _SPACES)


Spaces = tuple[gym.Space[Any], gym.Space[Any]]


@functools.cache
def spaces_of(env_id: str, observation: str, mission: bool) -> Spaces:
    """An environment's observation and action space, with a suite's kind of observation."""
    env = make_env(env_id, observation=observation, mission=mission)
    spaces = env.observation_space, env.action_space
    env.close()
    return spaces


def check_spaces(agent: str, env_id: str, suite: Suite, mission: bool) -> None:
    """Refuse observations that no agent can see, and actions that this one cannot take."""
    observations, actions = spaces_of(env_id, suite.observation, mission)
    parts = [observations]
    if isinstance(observations, gym.spaces.Dict):
        parts = list(observations.spaces.values())
    if not all(isinstance(part, _SPACES) for part in parts):
        raise SettingsError(
            f"{env_id}: its observations are {observations}; an agent here sees "
            f"{_SPACE_NAMES}, or one Dict of these. Wrap it, such as in "
            "gymnasium.wrappers.FlattenObservation, and name yours as module:ID"
        )
    if agent == "dqn" and not isinstance(actions, gym.spaces.Discrete):
        raise SettingsError(
            f"--agent dqn: needs discrete actions, {env_id} has {actions}; use --agent ppo"
        )
    if not isinstance(actions, _SPACES):
        raise SettingsError(f"{env_id}: its actions are {actions}; PPO takes {_SPACE_NAMES}")


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
    known = spaces_of(source, suite.observation, of_source)
    tables = []
    for env_id in others:
        rows = compare_spaces(*known, *spaces_of(env_id, suite.observation, mission))
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
