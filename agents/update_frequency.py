"""Default frequency and size of auxiliary updates."""

from __future__ import annotations

from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm

DEFAULT_EVERY = 8
"""Optimiser steps for each auxiliary update; twice as many where an update costs more."""

_FEW_ANCHORS = 64


def default_every(algorithm: type[BaseAlgorithm], n_anchors: int | None = None) -> int:
    """Optimiser steps for each auxiliary update: 8, or 16 where an update costs relatively more.

    16 with DQN, whose steps cost less than those of an actor and two critics, and with fewer than
    64 anchors: an update of 8 anchors takes nearly as long as one of 64, but the optimiser's steps
    on small minibatches take less.

    Args:
        algorithm: class of the model.
        n_anchors: of an update; None: at least 64.
    """
    few = n_anchors is not None and n_anchors < _FEW_ANCHORS
    return 2 * DEFAULT_EVERY if few or issubclass(algorithm, DQN) else DEFAULT_EVERY


def default_n_anchors(model: BaseAlgorithm) -> int:
    """Default anchors of an update: min(256, a quarter of the RL minibatch), at least 8."""
    return max(8, min(256, _batch_size(model) // 4))


def _batch_size(model: BaseAlgorithm) -> int:
    """Samples in a minibatch; A2C's is the whole rollout."""
    batch_size = getattr(model, "batch_size", None)
    if batch_size is None:
        batch_size = int(getattr(model, "n_steps", 32)) * model.n_envs
    return int(batch_size)
