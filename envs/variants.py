"""Our own variants of known environments, registered with Gymnasium under `contrastive/`.

Importing this module registers them, so that `gymnasium.make` and `--env` take their ids:

* `contrastive/DoorKey-5x5-Colours3-v0`: DoorKey with 2 … 5 colours moved, in 5x5, 6x6 and 8x8;
* `contrastive/CartPole-Random-v0`, `-Extreme-v0`: all physical parameters drawn per episode;
* `contrastive/CartPole-Force-Random-v0` and so on: only one of Force, Length, Mass;
* `contrastive/Acrobot-…`: the same with Length, Mass, Inertia;
* `contrastive/CartPole-SwappedActions-v0`: left is right;
* `contrastive/Dynamic-Obstacles-Random-5x5-SevenActions-v0`: see `obstacles`;
* `contrastive/CoinRun-200Levels-v0`, `-AllLevels-v0`: see `procgen`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from .colours import PermutedColours, colour_permutation
from .dynamics import (
    ACROBOT_RANGES,
    CARTPOLE_RANGES,
    SwappedActions,
    VariedAcrobot,
    VariedCartPole,
)
from .obstacles import SEVEN_ACTIONS_BASE, SEVEN_ACTIONS_ID, make_seven_actions
from .procgen import register_procgen

NAMESPACE = "contrastive"
COLOUR_DOSES = (2, 3, 4, 5)
DOORKEY_SIZES = ("5x5", "6x6", "8x8")


@dataclass(frozen=True, kw_only=True)
class ColourVariant:
    """A MiniGrid environment in other colours."""

    base_id: str
    """Id of the original environment."""
    n_moved: int
    """Number of colour ids that change."""

    @property
    def new_colours(self) -> NDArray[np.uint8]:
        """(6,) the new id of each colour."""
        return colour_permutation(self.n_moved)


COLOUR_VARIANTS: dict[str, ColourVariant] = {
    f"{NAMESPACE}/DoorKey-{size}-Colours{n_moved}-v0": ColourVariant(
        base_id=f"MiniGrid-DoorKey-{size}-v0", n_moved=n_moved
    )
    for size in DOORKEY_SIZES
    for n_moved in COLOUR_DOSES
}
"""The variants by id."""


def _make_recoloured(*, variant: ColourVariant, **settings: Any) -> gym.Env[Any, Any]:
    import minigrid  # noqa: F401  (registers the base)

    base = gym.make(variant.base_id, disable_env_checker=True, **settings)
    return PermutedColours(base, n_moved=variant.n_moved)


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
    **{env_id: variant.base_id for env_id, variant in COLOUR_VARIANTS.items()},
    **{env_id: base_id for env_id, (base_id, _) in _CONTROL_MAKERS.items()},
    SEVEN_ACTIONS_ID: SEVEN_ACTIONS_BASE,
}
"""The original environment of each of ours. Both have the same scale of returns."""


def _register() -> None:
    for env_id, variant in COLOUR_VARIANTS.items():
        gym.register(env_id, entry_point=partial(_make_recoloured, variant=variant))
    for env_id, (base_id, maker) in _CONTROL_MAKERS.items():
        limit = None if "Swapped" in env_id else gym.spec(base_id).max_episode_steps
        gym.register(env_id, entry_point=maker, max_episode_steps=limit)
    gym.register(SEVEN_ACTIONS_ID, entry_point=make_seven_actions)
    register_procgen()


if f"{NAMESPACE}/CartPole-Random-v0" not in gym.registry:
    _register()
