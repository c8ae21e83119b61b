"""Discounted returns-to-go."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

MISSING_TAIL = 0.01
"""A return is taken as known when what is missing of it weighs less than this."""


def returns_to_go(
    rewards: np.ndarray, gamma: float, *, terminated: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`G_t = r_t + gamma * G_{t+1}` along one episode, with `G = 0` after its last row.

    Args:
        rewards: (T,) in order of time.
        gamma: discount per step, in [0, 1].
        terminated: True if the episode ended there by its own rules, so that G is exact. False
            if it was truncated or cut: then G_t lacks a tail of weight `gamma^(T - t)`, and is
            known only where that is below 1 %.

    Returns:
        returns (T,) float32, computed in float64; known (T,) bool. Unknown returns are 0.
    """
    backwards = np.asarray(rewards, dtype=np.float64)[::-1]
    returns = lfilter([1.0], [1.0, -gamma], backwards)[::-1].astype(np.float32)
    if terminated:
        return returns, np.ones(len(returns), dtype=np.bool_)
    rows_to_end = np.arange(len(returns), 0, -1)
    known = np.power(float(gamma), rows_to_end) < MISSING_TAIL
    return np.where(known, returns, np.float32(0.0)), known
