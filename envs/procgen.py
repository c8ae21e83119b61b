"""Procgen games: a few levels as sources, all levels as targets. Only in EnvPool.

Procgen draws with Qt 5, which EnvPool's wheel does not contain: on Debian and Ubuntu install
`libqt5gui5`, or install `PyQt5-Qt5` from PyPI and put its `lib` folder on `LD_LIBRARY_PATH`.
"""

from __future__ import annotations

import ctypes
import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
from gymnasium import spaces

N_TRAINING_LEVELS = 200


@dataclass(frozen=True, kw_only=True)
class ProcgenGame:
    """A game of Procgen in its easy mode."""

    pool_id: str
    """EnvPool's id."""
    n_levels: int
    """Number of levels; 0 means all."""
    return_range: tuple[float, float]
    """Returns of a blind agent and of a perfect one: Cobbe et al., arXiv 1912.01588, appendix C."""


_RANGES = {"CoinRun": (5.0, 10.0), "FruitBot": (-1.5, 32.4), "BossFight": (0.5, 13.0)}

PROCGEN: dict[str, ProcgenGame] = {
    f"contrastive/{name}-{label}-v0": ProcgenGame(
        pool_id=f"{name.capitalize()}Easy-v0", n_levels=n_levels, return_range=return_range
    )
    for name, return_range in _RANGES.items()
    for label, n_levels in ((f"{N_TRAINING_LEVELS}Levels", N_TRAINING_LEVELS), ("AllLevels", 0))
}
"""`contrastive/CoinRun-200Levels-v0`, `contrastive/CoinRun-AllLevels-v0`, and so on."""

PROCGEN_OBSERVATION = spaces.Box(0, 255, (3, 64, 64), np.uint8)
PROCGEN_ACTION = spaces.Discrete(15)


@cache
def procgen_available() -> bool:
    """Whether EnvPool and the Qt library that Procgen draws with are installed."""
    if importlib.util.find_spec("envpool") is None:
        return False
    try:
        ctypes.CDLL("libQt5Gui.so.5")
    except OSError:
        return False
    return True


PROCGEN_REFUSAL = (
    "Procgen runs only in EnvPool, and there only with the Qt 5 library (Debian: libqt5gui5). "
    'Install both, and use backend="auto" or "envpool".'
)


def _no_python_game(**_: Any) -> NoReturn:
    raise ValueError(PROCGEN_REFUSAL)


def register_procgen() -> None:
    """Register the ids with Gymnasium, which cannot run the games."""
    for env_id in PROCGEN:
        if env_id not in gym.registry:
            gym.register(env_id, entry_point=_no_python_game)
