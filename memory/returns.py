"""Discounted returns-to-go."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from scipy.signal import lfilter

MISSING_TAIL = 0.01
"""A return is taken as known when what is missing of it weighs less than this."""

_MOST_CELLS = 2**22  # of one padded table of rewards, 32 MB


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
    gamma = float(gamma)
    backwards = np.asarray(rewards, dtype=np.float64)[::-1].tolist()
    sums = accumulate(backwards, lambda later, reward: reward + gamma * later, initial=0.0)
    returns = np.array([*sums][:0:-1], dtype=np.float64).astype(np.float32)
    if terminated:
        return returns, np.ones(len(returns), dtype=np.bool_)
    rows_to_end = np.arange(len(returns), 0, -1)
    known = np.power(gamma, rows_to_end) < MISSING_TAIL
    return np.where(known, returns, np.float32(0.0)), known


def returns_of_episodes(
    rewards: np.ndarray, lengths: np.ndarray, gamma: float, *, terminated: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`returns_to_go` of several episodes that stand one after the other: the same numbers.

    Args:
        rewards: (N,), in order of time within each episode.
        lengths: (E,) rows of each, >= 1, N together.
        gamma, terminated: as in `returns_to_go`, for all.

    Returns:
        returns (N,) float32; known (N,) bool.
    """
    n_episodes, longest = len(lengths), int(lengths.max(initial=0))
    if n_episodes == 1:
        return returns_to_go(rewards, gamma, terminated=terminated)
    if n_episodes * longest > _MOST_CELLS:
        half = n_episodes // 2
        n_rows = int(lengths[:half].sum())
        parts = (
            returns_of_episodes(rewards[:n_rows], lengths[:half], gamma, terminated=terminated),
            returns_of_episodes(rewards[n_rows:], lengths[half:], gamma, terminated=terminated),
        )
        returns, known = (np.concatenate(both) for both in zip(*parts, strict=True))
        return returns, known
    inside = np.arange(longest) < lengths[:, None]
    table = np.zeros((n_episodes, longest))
    table[inside] = rewards  # 0 after an episode's end, where G is 0
    returns = lfilter([1.0], [1.0, -gamma], table[:, ::-1])[:, ::-1][inside].astype(np.float32)
    if terminated:
        return returns, np.ones(len(returns), dtype=np.bool_)
    rows_to_end = (lengths[:, None] - np.arange(longest))[inside]
    known = np.power(float(gamma), rows_to_end) < MISSING_TAIL
    return np.where(known, returns, np.float32(0.0)), known
