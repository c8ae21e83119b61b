"""Our own variants of known environments, registered with Gymnasium under `contrastive/`.

Importing this module registers them, so that `gymnasium.make` and `--env` take their ids:

* `contrastive/DoorKey-5x5-Codes1-v0` and others: the same environment with other sensors, see
  `sensor_ids`;
* `contrastive/CartPole-Random-v0`, `-Extreme-v0`: all physical parameters drawn per episode;
* `contrastive/CartPole-Force-Random-v0` and so on: only one of Force, Length, Mass;
* `contrastive/Acrobot-…`: the same with Length, Mass, Inertia;
* `contrastive/CartPole-SwappedActions-v0`: left is right;
* `contrastive/Dynamic-Obstacles-Random-5x5-SevenActions-v0`: see `obstacles`;
* `contrastive/CoinRun-200Levels-v0`, `-AllLevels-v0`: see `procgen`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym

from .dynamics import (
    ACROBOT_RANGES,
    CARTPOLE_RANGES,
    SwappedActions,
    VariedAcrobot,
    VariedCartPole,
)
from .obstacles import SEVEN_ACTIONS_BASE, SEVEN_ACTIONS_ID, make_seven_actions
from .procgen import register_procgen
from .sensor_ids import NAMESPACE, SENSOR_IDS, make_changed


def _make_swapped(*, base_id: str, **settings: Any) -> gym.Env[Any, Any]:
    return SwappedActions(gym.make(base_id, disable_env_checker=True, **settings))


def _control_makers() -> dict[str, tuple[str, Callable[..., gym.Env[Any, Any]]]]:
    """Base id and constructor of each classic-control variant, by id."""
    families: list[tuple[str, type[VariedCartPole] | type[VariedAcrobot], tuple[str, ...]]] = [
        ("CartPole", VariedCartPole, tuple(CARTPOLE_RANGES)),
        ("Acrobot", VariedAcrobot, tuple(ACROBOT_RANGES)),
    ]
    makers: dict[str, tuple[str, Callable[..., gym.Env[Any, Any]]]] = {}
    for family, varied, parameters in families:
        choices = {"": parameters} | {f"{name.capitalize()}-": (name,) for name in parameters}
        for label, chosen in choices.items():
            for spread in ("random", "extreme"):
                env_id = f"{NAMESPACE}/{family}-{label}{spread.capitalize()}-v0"
                maker = partial(varied, spread=spread, parameters=chosen)
                makers[env_id] = (f"{family}-v1", maker)
    swapped = partial(_make_swapped, base_id="CartPole-v1")
    makers[f"{NAMESPACE}/CartPole-SwappedActions-v0"] = ("CartPole-v1", swapped)
    return makers


_CONTROL_MAKERS = _control_makers()

BASE_OF_VARIANT: dict[str, str] = {
    **{env_id: changed.base_id for env_id, changed in SENSOR_IDS.items()},
    **{env_id: base_id for env_id, (base_id, _) in _CONTROL_MAKERS.items()},
    SEVEN_ACTIONS_ID: SEVEN_ACTIONS_BASE,
}
"""The original environment of each of ours. Both have the same scale of returns."""


def _register() -> None:
    for env_id, changed in SENSOR_IDS.items():
        gym.register(env_id, entry_point=partial(make_changed, changed=changed))
    for env_id, (base_id, maker) in _CONTROL_MAKERS.items():
        limit = None if "Swapped" in env_id else gym.spec(base_id).max_episode_steps
        gym.register(env_id, entry_point=maker, max_episode_steps=limit)
    gym.register(SEVEN_ACTIONS_ID, entry_point=make_seven_actions)
    register_procgen()


if f"{NAMESPACE}/CartPole-Random-v0" not in gym.registry:
    _register()
