"""Play complete episodes, to choose among finalists by their return."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

_N_EPISODES = 16
_MOST_STEPS = 1_000


def mean_return(model: BaseAlgorithm, *, n_episodes: int = _N_EPISODES) -> tuple[float, int]:
    """Mean return of complete episodes in the model's environments, and the frames they took.

    Every environment plays as many episodes, all from a reset on; an episode that has not ended
    after 1,000 steps counts with its return so far.
    """
    env = model.get_env()
    assert env is not None
    normalised = model.get_vec_normalize_env()
    wanted = -(-n_episodes // env.num_envs)
    returns: list[float] = []
    total, finished = np.zeros(env.num_envs), np.zeros(env.num_envs, dtype=np.int64)
    length, frames = np.zeros(env.num_envs, dtype=np.int64), 0
    seen: Any = env.reset()
    states, starts = None, np.ones(env.num_envs, dtype=np.bool_)
    while (finished < wanted).any():
        actions, states = model.predict(
            seen,
            state=states,
            episode_start=starts,
            deterministic=isinstance(model, OffPolicyAlgorithm),
        )
        seen, rewards, starts, _ = env.step(actions)
        frames += env.num_envs
        total += rewards if normalised is None else normalised.get_original_reward()
        length += 1
        for i in np.flatnonzero(starts | (length >= _MOST_STEPS)):
            if finished[i] < wanted:
                returns.append(float(total[i]))
            finished[i] += 1
            total[i], length[i] = 0.0, 0
    return float(np.mean(returns)), frames
