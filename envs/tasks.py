"""Tasks: environments with the scale of their returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .procgen import PROCGEN
from .registry import find_spec, make_raw_env
from .variants import BASE_OF_VARIANT

# Acrobot: -500 is never reaching the goal; -60 lies just above the best agents of RL Baselines3 Zoo
# (QR-DQN -69, PPO -73). Thresholds of success are Gymnasium's own.
_KNOWN: dict[str, tuple[tuple[float, float], float]] = {
    "CartPole-v0": ((0.0, 200.0), 195.0),
    "CartPole-v1": ((0.0, 500.0), 475.0),
    "Acrobot-v1": ((-500.0, -60.0), -100.0),
    "MountainCar-v0": ((-200.0, -110.0), -110.0),
}

# MiniGrid and BabyAI give 1 - 0.9 * steps / limit for a success, which is at least 0.1, and 0
# otherwise (Dynamic-Obstacles: -1 for a collision). Half of 0.1 separates success from the rest.
_GRID = ((0.0, 1.0), 0.05)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One environment id, and the scale of its returns."""

    env_id: str
    """A Gymnasium id, or `module:ID`."""
    return_range: tuple[float, float] | None
    """The returns that are score 0 and score 1; None: unknown, scores are the returns."""
    success_return: float | None
    """The smallest return of a successful episode; None if it is unknown."""
    max_episode_steps: int | None
    """Steps after which an episode is truncated; None if it varies or is unknown."""

    def score(self, returns: ArrayLike) -> NDArray[np.float64]:
        """Map returns of any shape to scores: linear over `return_range`, clipped to [0, 1].

        The returns themselves if their range is unknown.
        """
        if self.return_range is None:
            return np.asarray(returns, dtype=np.float64)
        low, high = self.return_range
        scores: NDArray[np.float64] = (np.asarray(returns, dtype=np.float64) - low) / (high - low)
        return np.clip(scores, 0.0, 1.0)

    def is_learnt(self, score: float, learnt_score: float) -> bool | None:
        """Whether a mean score counts as learnt; None if nothing is known of the returns.

        With an unknown range of returns, a mean return of `success_return` does.
        """
        if self.return_range is not None:
            return score >= learnt_score
        return None if self.success_return is None else score >= self.success_return


def get_task(env_id: str) -> Task:
    """The task of `env_id`. Raises UnknownNameError for an unknown id.

    The return range of an environment without an entry here is unknown: a `reward_threshold` says
    when it is learnt, but not the return of an agent that has learnt nothing.
    """
    return_range, success_return, limit = _look_up(env_id)
    return Task(
        env_id=env_id,
        return_range=return_range,
        success_return=success_return,
        max_episode_steps=limit,
    )


def task_in_range(env_id: str, return_range: tuple[float, float]) -> Task:
    """The task of `env_id` with another return range.

    If the return of a success is unknown, it is nine tenths of the range.
    """
    _, success_return, limit = _look_up(env_id)
    low, high = return_range
    return Task(
        env_id=env_id,
        return_range=return_range,
        success_return=low + 0.9 * (high - low) if success_return is None else success_return,
        max_episode_steps=limit,
    )


@cache
def _look_up(env_id: str) -> tuple[tuple[float, float] | None, float | None, int | None]:
    """The return range, the return of a success and the length of an episode, if known."""
    spec = find_spec(env_id)
    base_id = BASE_OF_VARIANT.get(env_id, env_id)
    limit = spec.max_episode_steps
    if env_id in PROCGEN:
        low, high = PROCGEN[env_id].return_range
        return (low, high), low + 0.9 * (high - low), limit
    if base_id.startswith(("MiniGrid-", "BabyAI-")):
        return *_GRID, _grid_limit(base_id)
    if base_id in _KNOWN:
        return *_KNOWN[base_id], limit or find_spec(base_id).max_episode_steps
    threshold = spec.reward_threshold
    return None, None if threshold is None else float(threshold), limit


def _grid_limit(env_id: str) -> int | None:
    env = make_raw_env(env_id)
    limit = getattr(env.unwrapped, "max_steps", None)
    env.close()
    return int(limit) if limit else None
