"""Predict the features of the next few observations from the actions taken (SPR)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastive_distillation.memory import Memory, Observations

from .. import checks
from ..auxiliary import AuxiliaryLoss, Joining, Learner
from .augmentation import AUGMENTATIONS, augmented
from .averaged_network import AveragedNetwork


@dataclass(frozen=True)
class Steps:
    """B observations, each with the next K observations and actions."""

    observations: Observations
    """(B, ...)"""
    later: Observations
    """(B K, ...), observation by observation; where there is none, the first again."""
    actions: np.ndarray
    """(B, K, A) float32: the actions that lead to them."""
    known: np.ndarray
    """(B, K) bool: whether the later observation of the same episode is stored."""


class SPR(AuxiliaryLoss):
    """`L = mean_{t,k} (2 - 2 cos( q(g(ẑ_{t+k})), ḡ(f̄(o_{t+k})) ))`, k = 1 … 5.

    `ẑ_t = f(o_t)`, `ẑ_{t+k+1} = h(ẑ_{t+k}, a_{t+k})`: h a transition model on features, g a
    projection, q a linear predictor, f̄ and ḡ moving averages. Schwarzer et al. 2020,
    https://arxiv.org/abs/2007.05929; the cosine is their normalised squared error; weight 5 as in
    the authors' code. Pairs beyond the episode's end do not count.

    Our reading: features are vectors here, so h is an MLP of two layers on features and action
    (one-hot, or as it is for continuous ones), not a convolution; g is a linear layer of its own,
    for heads differ by agent (theirs is the q-head's first); momentum .99, theirs without
    augmentation, though pictures are shifted.

    Metrics: `cosine`, mean over the pairs.
    """

    name: ClassVar[str] = "spr"
    published: ClassVar[Joining | None] = Joining(weight=5.0)

    def __init__(
        self,
        *,
        n_steps: int = 5,
        momentum: float = 0.99,
        projection_dim: int = 256,
        augmentation: str = "pictures",
    ) -> None:
        """
        Args:
            n_steps: K, >= 1.
            momentum: of the moving averages, per auxiliary step, in [0, 1).
            projection_dim: width of the projection, >= 1.
            augmentation: what is augmented, see `augmentation.AUGMENTATIONS`.

        Raises:
            ValueError: one is outside its range.
        """
        super().__init__()
        self.n_steps, self.projection_dim = checks.integers(
            1, n_steps=n_steps, projection_dim=projection_dim
        )
        self.momentum = checks.momentum(momentum)
        self.augmentation = checks.one_of(AUGMENTATIONS, "augmentation", augmentation)

    def build(self, learner: Learner) -> None:
        space = learner.policy.action_space
        assert isinstance(space, gym.Space)
        self._action_space = space
        n_features, width = learner.n_features, self.projection_dim
        self.transition = nn.Sequential(
            nn.Linear(n_features + gym.spaces.flatdim(space), n_features),
            nn.ReLU(),
            nn.Linear(n_features, n_features),
        )
        self.projection = nn.Linear(n_features, width)
        self.predictor = nn.Linear(width, width)
        self.to(learner.device)
        self.target = AveragedNetwork(learner, self.projection, momentum=self.momentum)

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> Steps | None:
        """Up to n_anchors rows and the n_steps that followed each."""
        rows = memory.sample_rows(n_anchors, generator)
        if not len(rows):
            return None
        offsets = np.tile(np.arange(self.n_steps + 1), (len(rows), 1))
        paths, known = memory.later_rows(np.repeat(rows, self.n_steps + 1), offsets.ravel())
        paths, known = paths.reshape(offsets.shape), known.reshape(offsets.shape)[:, 1:]
        acted = paths[:, :-1].ravel()
        later = memory.observations(paths[:, 1:].ravel())
        return Steps(
            augmented(memory.observations(rows), generator, kind=self.augmentation),
            augmented(later, generator, kind=self.augmentation),
            self._as_numbers(memory.actions(acted)).reshape(len(rows), self.n_steps, -1),
            known,
        )

    def _as_numbers(self, actions: np.ndarray) -> np.ndarray:
        """(N, A) float32: one-hot for a Discrete space, flat as they are for others."""
        space = self._action_space
        if isinstance(space, gym.spaces.Discrete):
            chosen = actions.reshape(-1).astype(np.int64) - int(space.start)
            hot: np.ndarray = np.eye(int(space.n), dtype=np.float32)[chosen]
            return hot
        flat = [gym.spaces.flatten(space, action) for action in actions]
        return np.asarray(flat, dtype=np.float32)

    def forward(self, learner: Learner, batch: Steps) -> Mapping[str, Tensor]:
        features = learner.encoder(batch.observations)
        actions = torch.as_tensor(batch.actions, device=features.device)
        predicted = []
        for k in range(self.n_steps):
            features = self.transition(torch.cat([features, actions[:, k]], dim=1))
            predicted.append(self.predictor(self.projection(features)))
        wanted = self.target(batch.later).view(len(actions), self.n_steps, -1)
        cosines = F.cosine_similarity(torch.stack(predicted, dim=1), wanted, dim=2)
        known = torch.as_tensor(batch.known, device=features.device)
        n_known = max(int(known.sum()), 1)
        self.metrics = {"cosine": float((cosines.detach() * known).sum()) / n_known}
        return {self.name: ((2.0 - 2.0 * cosines) * known).sum() / n_known}

    def after_step(self, learner: Learner) -> None:
        """Update the moving averages."""
        self.target.update(self.projection)
