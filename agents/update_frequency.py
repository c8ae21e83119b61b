"""Default frequency and size of auxiliary updates."""

from __future__ import annotations

from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm

DEFAULT_EVERY = 8
"""Optimiser steps per auxiliary update; `default_every` doubles them for some models."""

_FEW_ANCHORS = 64
_STEPS_OF_UNKNOWN_MODEL = 32
"""Assumed steps of a rollout, for a model with neither `batch_size` nor `n_steps`."""


def default_every(algorithm: type[BaseAlgorithm], n_anchors: int | None = None) -> int:
    """Default number of optimiser steps per auxiliary update: 8 or 16.

    It is 16 where an update takes long compared with the steps between two updates:

    * with DQN, since a step of DQN is cheap. SAC and TD3 have 8: their steps update an actor and
      two critics.
    * with fewer than 64 anchors, since an update of 8 anchors takes nearly as long as one of 64,
      whereas steps on small minibatches are short.

    Args:
        algorithm: class of the model.
        n_anchors: number of anchors in an update; None stands for 64 or more.
    """
    few = n_anchors is not None and n_anchors < _FEW_ANCHORS
    return 2 * DEFAULT_EVERY if few or issubclass(algorithm, DQN) else DEFAULT_EVERY


def default_n_anchors(model: BaseAlgorithm) -> int:
    """Default number of anchors in an update: a quarter of the RL minibatch, within 8 and 256."""
    return max(8, min(256, _batch_size(model) // 4))


def _batch_size(model: BaseAlgorithm) -> int:
    """Number of samples in a minibatch; with A2C it is the whole rollout."""
    batch_size = getattr(model, "batch_size", None)
    if batch_size is None:
        batch_size = int(getattr(model, "n_steps", _STEPS_OF_UNKNOWN_MODEL)) * model.n_envs
    return int(batch_size)
