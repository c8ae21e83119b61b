"""How often an auxiliary update is made, and of what size, where nobody says."""

from __future__ import annotations

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

DEFAULT_EVERY = 8
"""Optimiser steps for each auxiliary update; twice as many where few anchors share its cost."""

_FEW_ANCHORS = 64


def default_every(n_anchors: int) -> int:
    """Optimiser steps for each auxiliary update of so many anchors: 8, or 16 for fewer than 64.

    An update of 8 anchors takes nearly as long as one of 64, while the steps of the small
    minibatches that they go with take less.
    """
    return 2 * DEFAULT_EVERY if n_anchors < _FEW_ANCHORS else DEFAULT_EVERY


def default_n_anchors(model: BaseAlgorithm) -> int:
    """Anchors of an auxiliary update, where nobody says: min(256, a quarter of the RL minibatch).

    At least 8.
    """
    return max(8, min(256, _batch_size(model) // 4))


def steps_of_one_train(model: BaseAlgorithm, n_frames: int) -> int:
    """Optimiser steps that `train()` makes after a rollout of `n_frames`, if nothing stops it."""
    if isinstance(model, OnPolicyAlgorithm):
        return int(getattr(model, "n_epochs", 1)) * -(-n_frames // _batch_size(model))
    steps = int(getattr(model, "gradient_steps", 1))
    return steps if steps >= 0 else n_frames


def _batch_size(model: BaseAlgorithm) -> int:
    """Samples in a minibatch; A2C's is the whole rollout."""
    batch_size = getattr(model, "batch_size", None)
    if batch_size is None:
        batch_size = int(getattr(model, "n_steps", 32)) * model.n_envs
    return int(batch_size)
