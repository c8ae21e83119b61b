"""One Gymnasium environment: found by name, and seen as our agents see it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import gymnasium as gym

from . import variants  # noqa: F401  (registers our own environments)
from .grid import GridObservation, PictureObservation, has_grid
from .mission import mission_varies, warn_hidden_mission
from .names import UnknownNameError

OBSERVATIONS = ("auto", "picture")
MISSIONS = ("auto", "on", "off")


def find_spec(env_id: str) -> gym.envs.registration.EnvSpec:
    """Gymnasium's record of `env_id`, which may be `module:ID`.

    MiniGrid's and BabyAI's ids are there from the start. Raises UnknownNameError for an id that
    nobody registered, or whose module does not import.
    """
    importlib.import_module("minigrid")
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a module of one's own raises
            raise UnknownNameError(
                "environment", env_id, [], hint=f"Its module does not import: {error}."
            ) from error
    try:
        return gym.spec(name)
    except gym.error.Error as error:
        hint = f"({module} is there, but registers no {name}.)" if module else _extra(name)
        raise UnknownNameError("environment", name, gym.registry, hint=hint) from error


def make_raw_env(env_id: str, *, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """The environment as its authors made it. Raises UnknownNameError, or ValueError."""
    spec = find_spec(env_id)
    try:
        drawing: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
        return gym.make(spec, disable_env_checker=True, **drawing)
    except gym.error.DependencyNotInstalled as error:
        raise ValueError(
            f"environment {env_id!r} needs a package that is missing: {error}"
        ) from error


def make_env(
    env_id: str,
    *,
    observation: str = "auto",
    mission: str | bool = "auto",
    render_mode: str | None = None,
) -> gym.Env[Any, Any]:
    """One Gymnasium environment with the observations that `make_vec` gives.

    `observation="auto"` is the grid for MiniGrid and BabyAI, else what the environment gives;
    `"picture"` is a grid's picture. `mission` is `"auto"` (where it varies), `"on"` or `"off"`.
    Raises UnknownNameError for an unknown id, ValueError for an observation it does not have.
    """
    with_mission = resolve_mission([env_id], mission, observation)
    env = make_raw_env(env_id, render_mode=render_mode)
    return observe(env, env_id, observation=observation, mission=with_mission)


def observe(
    env: gym.Env[Any, Any], env_id: str, *, observation: str, mission: bool
) -> gym.Env[Any, Any]:
    """Wrap a raw environment so that it gives the wanted observation."""
    if not has_grid(env.observation_space):
        if observation == "picture":
            env.close()
            raise ValueError(
                f"environment {env_id!r} has no grid to draw: observation='picture' is for "
                f"MiniGrid and BabyAI. Use observation='auto'."
            )
        return env
    if observation == "picture":
        return PictureObservation(env)
    return GridObservation(env, mission=mission)


def resolve_mission(env_ids: list[str], mission: str | bool, observation: str) -> bool:
    """Whether the observation holds the mission. Warns where it is hidden though it varies."""
    if observation not in OBSERVATIONS:
        raise ValueError(f"observation must be one of {OBSERVATIONS}, got {observation!r}")
    if isinstance(mission, bool):
        mission = "on" if mission else "off"
    if mission not in MISSIONS:
        raise ValueError(f"mission must be one of {MISSIONS}, got {mission!r}")
    if observation == "picture" or mission == "off":
        warn_hidden_mission(env_ids)
        return False
    return mission == "on" or mission_varies(env_ids)


@contextlib.contextmanager
def quiet(env_id: str) -> Iterator[None]:
    """Swallow what BabyAI prints while it draws a level ("Sampling rejected: …")."""
    if "BabyAI" not in env_id:
        yield
        return
    with contextlib.redirect_stdout(None):
        yield


def _extra(name: str) -> str:
    """Which package brings an id that looks like a well-known family."""
    families = {"ALE/": "pip install ale-py", "LunarLander": "pip install 'gymnasium[box2d]'"}
    for prefix, command in families.items():
        if name.startswith(prefix):
            return f"({command} may bring it.)"
    return "For an environment of your own, write module:ID."
