"""Gymnasium environments by id, our own variants among them."""

from __future__ import annotations

import importlib
import traceback
from typing import Any

import gymnasium as gym

from . import variants  # noqa: F401  (registers our own environments)
from .contract import Contract
from .names import UnknownNameError


def find_spec(env_id: str) -> gym.envs.registration.EnvSpec:
    """Gymnasium's specification of `env_id`, which may be `module:ID`.

    MiniGrid's and BabyAI's ids need no module. Raises UnknownNameError if the id is not
    registered or if its module does not import.
    """
    importlib.import_module("minigrid")
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:  # a user's module can raise anything
            raise UnknownNameError(
                "environment", env_id, [], hint=f"Its module does not import: {error}."
            ) from error
    try:
        return gym.spec(name)
    except gym.error.Error as error:
        hint = f"({module} imports, but does not register {name}.)" if module else _extra(name)
        raise UnknownNameError("environment", name, gym.registry, hint=hint) from error


def make_raw_env(env_id: str, *, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """The environment with its own observations, checked by `Contract`.

    Raises UnknownNameError for an unknown id, ValueError if the environment cannot be made: its
    constructor raises an error, it does not draw in `render_mode`, or a package is missing.
    """
    spec = find_spec(env_id)
    try:
        options: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
        return Contract(gym.make(spec, disable_env_checker=True, **options))
    except gym.error.DependencyNotInstalled as error:
        raise ValueError(
            f"environment {env_id!r} needs a package that is missing: {error}"
        ) from error
    except Exception as error:  # a constructor can raise anything
        text = " ".join(str(error).split())
        if render_mode is not None and "'render_mode'" in text:
            raise ValueError(
                f"environment {env_id!r} cannot be drawn: its constructor does not accept "
                f"render_mode={render_mode!r}"
            ) from error
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"environment {env_id!r} cannot be made: its constructor failed in {where.name}() of "
            f"{where.filename}, line {where.lineno}: {text or 'an error without a text'}"
        ) from error


def _extra(name: str) -> str:
    """How to install the package of a well-known family of ids."""
    families = {"ALE/": "pip install ale-py", "LunarLander": "pip install 'gymnasium[box2d]'"}
    for prefix, command in families.items():
        if name.startswith(prefix):
            return f"(`{command}` may install it.)"
    return "For an environment of your own, write module:ID."
