"""Seeds. Training and evaluation never share one.

The seed of a vectorised environment is in [0, 2³¹). Bit 30 is clear for training (so every small
number is a training seed) and set for evaluation, also in the seeds of its single environments.
Training and evaluation seeds are therefore always different.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

SEED_LIMIT = 2**31
_EVALUATE_BIT = 2**30
_PURPOSES = ("train", "evaluate")

Purpose = Literal["train", "evaluate"]


def episode_seed(seed: int, purpose: Purpose, index: int = 0) -> int:
    """The seed to pass to `make_vec` for training, or for the `index`-th evaluation, of run `seed`.

    Returns an int in [0, 2³⁰) for `"train"` and in [2³⁰, 2³¹) for `"evaluate"`. Raises
    ValueError for another purpose, a negative seed or a negative index.
    """
    if purpose not in _PURPOSES:
        raise ValueError(f"purpose must be one of {_PURPOSES}, got {purpose!r}")
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must not be negative, got seed={seed}, index={index}")
    return _hash30(seed, index) | (_EVALUATE_BIT if purpose == "evaluate" else 0)


def env_seeds(seed: int, n_envs: int) -> list[int]:
    """Seeds for `n_envs` environments, all different, of the same purpose as `seed`.

    Raises ValueError for a seed outside [0, 2³¹).
    """
    if not 0 <= seed < SEED_LIMIT:
        raise ValueError(f"seed must be in [0, {SEED_LIMIT}), got {seed}")
    purpose_bit = seed & _EVALUATE_BIT
    first = _hash30(seed)
    return [((first + i) % _EVALUATE_BIT) | purpose_bit for i in range(n_envs)]


def _hash30(*numbers: int) -> int:
    """A hash of `numbers` in [0, 2³⁰)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0]) >> 2
