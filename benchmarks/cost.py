"""The cost of the loss: an agent without it and an agent with it take turns in one process.

The loss has a weight so small (1e-20) that it changes no weight of the agent: both agents learn
the same from the same episodes, and differ only in the work of the loss.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from contestants import learn, our_agent
from stable_baselines3.common.utils import set_random_seed

from contrastive_distillation.transfer.report.intervals import bootstrap_interval

N_TURN = 81_920
"""Frames of a turn of PPO; DQN has half as many."""

N_WARM = 3
"""Turns before the measurement; they fill the memory of 100,000 rows."""


def cost(
    agent: str,
    env_ids: Sequence[str],
    n_pairs: int,
    *,
    picture: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> str:
    """Three cells: frames/s without the loss, time with / time without, and the pairs."""
    n_turn = N_TURN if agent == "ppo" else N_TURN // 2
    contestants = [
        our_agent(
            agent, env_ids, seed=0, loss=loss, picture=picture, weight=1e-20, overrides=overrides
        )
        for loss in (False, True)
    ]
    seconds: list[list[float]] = [[], []]
    for turn in range(-N_WARM, n_pairs):
        for which in (0, 1) if turn % 2 else (1, 0):
            model, callbacks = contestants[which]
            set_random_seed(turn + N_WARM)
            took = learn(model, n_turn, callbacks, go_on=True)
            if turn >= 0:
                seconds[which].append(took)
    learnt = [np.concatenate([p.detach().ravel() for p in m.policy.parameters()])
              for m, _ in contestants]  # fmt: skip
    if not np.allclose(*learnt, rtol=0, atol=1e-12):
        print("the weights of the two agents differ: the ratio is not that of the loss alone")
    ratios = np.divide(seconds[1], seconds[0])
    low, high = bootstrap_interval(
        ratios, np.random.default_rng(0), statistic=lambda tables: np.median(tables, axis=(1, 2))
    )
    n_frames = contestants[0][0].num_timesteps / (N_WARM + n_pairs)  # whole rollouts, so a few more
    speed = n_frames / statistics.median(seconds[0])
    return f"{speed:,.0f} | {np.median(ratios):.2f} ({low:.2f}–{high:.2f}) | {n_pairs}"
