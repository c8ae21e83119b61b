"""`Learner`: what an auxiliary loss sees of the agent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

from contrastive_distillation.memory import Memory

from .observation_encoder import ObservationEncoder
from .prediction_errors import prediction_errors
from .teachers import MovingAverageTeacher


def _unscaled() -> float:
    """1: rewards as they are."""
    return 1.0


@dataclass(kw_only=True)
class Learner:
    """What an auxiliary loss sees of the agent."""

    policy: nn.Module
    """The whole policy (for losses that act on more than the encoder)."""
    encoder: ObservationEncoder
    """f: raw observations to features (B, n_features), with gradient."""
    gamma: float
    """The agent's discount."""
    reward_scale: Callable[[], float] = field(default=_unscaled)
    """What rewards are multiplied by before the agent sees them (VecNormalize)."""
    progress: float = 0.0
    """Share of the current `learn()` that is done, 0..1."""

    @property
    def n_features(self) -> int:
        """Width of the encoder's features."""
        return self.encoder.n_features

    @property
    def device(self) -> torch.device:
        """Device of the encoder."""
        return self.encoder.device

    def moving_average(self, momentum: float) -> MovingAverageTeacher:
        """A moving average of the encoder; whoever asks for it calls its `update()`."""
        return MovingAverageTeacher(self.encoder, momentum=momentum)

    def prediction_errors(self, memory: Memory, rows: np.ndarray) -> np.ndarray:
        """(n,) float32: how far the value function is off, see `agents.prediction_errors`."""
        return prediction_errors(
            self.policy,
            self.encoder,
            memory,
            rows,
            gamma=self.gamma,
            reward_scale=self.reward_scale(),
        )


def reward_scale_of(model: BaseAlgorithm) -> float:
    """What VecNormalize multiplies rewards by just now; 1 without it."""
    statistics = model.get_vec_normalize_env()
    if statistics is None or not statistics.norm_reward:
        return 1.0
    return float(1.0 / np.sqrt(statistics.ret_rms.var + statistics.epsilon))
