"""How often an auxiliary update is made, and of what size, where nobody says."""

from __future__ import annotations

from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm

DEFAULT_EVERY = 8
"""Optimiser steps for each auxiliary update; twice as many where it costs more beside them."""

_FEW_ANCHORS = 64


def default_every(algorithm: type[BaseAlgorithm], n_anchors: int | None = None) -> int:
    """Optimiser steps for each auxiliary update: 8, or 16 where it costs more beside them.

    With DQN, whose steps take less than those of an actor and two critics; and with fewer than 64
    anchors: an update of 8 takes nearly as long as one of 64, while the steps of the small
    minibatches that they go with take less.

    Args:
        algorithm: class of the model.
        n_anchors: of an update; None: not few.
    """
    few = n_anchors is not None and n_anchors < _FEW_ANCHORS
    return 2 * DEFAULT_EVERY if few or issubclass(algorithm, DQN) else DEFAULT_EVERY


def default_n_anchors(model: BaseAlgorithm) -> int:
    """Anchors of an auxiliary update, where nobody says: min(256, a quarter of the RL minibatch).

    At least 8.
    """
    return max(8, min(256, _batch_size(model) // 4))


def _batch_size(model: BaseAlgorithm) -> int:
    """Samples in a minibatch; A2C's is the whole rollout."""
    batch_size = getattr(model, "batch_size", None)
    if batch_size is None:
        batch_size = int(getattr(model, "n_steps", 32)) * model.n_envs
    return int(batch_size)
