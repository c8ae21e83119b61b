"""`Learner`: an auxiliary loss's view of the agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from contrastive_distillation.losses import ActsBy
from contrastive_distillation.memory import Memory

from .action_logits import action_logits, acts_by, seen_by
from .module_copy import copy_module
from .observation_encoder import ObservationEncoder, Observations, blank_observations
from .prediction_errors import prediction_errors
from .teachers import MovingAverageTeacher


@dataclass(kw_only=True)
class Learner:
    """An auxiliary loss's view of the agent."""

    policy: nn.Module
    """The whole policy (for losses that act on more than the encoder)."""
    encoder: ObservationEncoder
    """f: raw observations to features (B, n_features), with gradient."""
    gamma: float
    """The agent's discount."""
    optimizer: torch.optim.Optimizer | None = None
    """The optimiser that steps the encoder; None: it steps the whole policy."""
    reward_scale: Callable[[], float] = lambda: 1.0
    """The factor of rewards before the agent sees them (VecNormalize)."""
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

    @property
    def acts_by(self) -> ActsBy:
        """ "probabilities" (PPO, A2C), "values" (DQN), or "other": what `logits` are."""
        return acts_by(self.policy)

    def logits(self, observations: Observations) -> Tensor:
        """Logits of the discrete actions, or Q-values, (B, A), of raw observations, with gradient.

        Raises:
            ValueError: the agent acts by neither (SAC, a recurrent policy, a Box of actions).
        """
        return action_logits(
            self.policy, seen_by(self.policy, observations, self.encoder.normalise)
        )

    def logit_parameters(self) -> list[nn.Parameter]:
        """The parameters that `logits` depend on, of those in `named_parameters`.

        Raises:
            ValueError: as `logits`.
        """
        tried = copy_module(self.policy).requires_grad_(True).eval()
        blank = blank_observations(self.encoder.observation_space, 2)
        names, parameters = zip(*tried.named_parameters(), strict=True)
        logits = action_logits(tried, seen_by(tried, blank, None))
        found = torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
        reached = {name for name, g in zip(names, found, strict=True) if g is not None}
        return [p for name, p in self.named_parameters().items() if name in reached]

    def named_parameters(self) -> Mapping[str, nn.Parameter]:
        """The policy's parameters that the encoder's optimiser steps, by name."""
        named = dict(self.policy.named_parameters())
        if self.optimizer is None:
            return named
        stepped = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        return {name: p for name, p in named.items() if id(p) in stepped}

    def moving_average(self, momentum: float) -> MovingAverageTeacher:
        """A new moving average of the encoder; the caller calls its `update()`."""
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
    """VecNormalize's present factor of rewards; 1 without it."""
    statistics = model.get_vec_normalize_env()
    if statistics is None or not statistics.norm_reward:
        return 1.0
    return float(1.0 / np.sqrt(statistics.ret_rms.var + statistics.epsilon))
