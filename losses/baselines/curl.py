"""Identify the second view of the same observation, by a bilinear product (CURL)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from contrastive_distillation.memory import Memory

from .. import checks
from ..auxiliary import AuxiliaryLoss, Joining, Learner
from .augmentation import AUGMENTATIONS, augmented
from .in_batch import Pairs, different, in_batch_contrast


class CURL(AuxiliaryLoss):
    """`L = -mean_i log( exp(l_ii) / Σ_j exp(l_ij) )`, `l_ij = f(v_i)ᵀ W f̄(v'_j)`.

    Srinivas et al. 2020, https://arxiv.org/abs/2004.04136: v_i and v'_i are two random views of
    observation i, f̄ the moving average of f (momentum .95), W learnt, negatives from the batch.

    The views (`augmentation.augmented`): pictures are shifted by up to 4 pixels, as CURL's random
    crops, and that is all of the paper's. Ours: of a grid each cell is blotted out with chance .1
    (a shift would move the agent), and float vectors are multiplied by one number from
    [.8, 1.2] (Laskin et al. 2020, https://arxiv.org/abs/2004.14990, for states); what is neither,
    such as a direction, stays. Twins of the positive are no negatives: grid views repeat.

    The weight in the authors' code is 1, on four Atari games .01; the averages move at every
    auxiliary step, there at every second.

    Metrics: `accuracy`, `usable_anchors`.
    """

    name: ClassVar[str] = "curl"
    published: ClassVar[Joining | None] = Joining(weight=1.0)

    def __init__(
        self,
        *,
        momentum: float = 0.95,
        augmentation: str = "auto",
        shift: int = 4,
        drop: float = 0.1,
        scale: float = 0.2,
    ) -> None:
        """
        Args:
            momentum: of the moving average, per auxiliary step, in [0, 1).
            augmentation: what is augmented, see `augmentation.AUGMENTATIONS`.
            shift: pixels, at most, >= 0.
            drop: chance of each grid cell, in [0, 1].
            scale: how far from 1 vectors are scaled, in [0, 1].

        Raises:
            ValueError: one is outside its range.
        """
        super().__init__()
        self.momentum = checks.momentum(momentum)
        self.augmentation = checks.one_of(AUGMENTATIONS, "augmentation", augmentation)
        (self.shift,) = checks.integers(0, shift=shift)
        self.drop, self.scale = checks.numbers(0, 1, drop=drop, scale=scale)

    def build(self, learner: Learner) -> None:
        self.bilinear = nn.Linear(learner.n_features, learner.n_features, bias=False)
        self.to(learner.device)
        self.target = learner.moving_average(self.momentum)

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> Pairs | None:
        """Two views of up to n_anchors observations; None while there are fewer than two."""
        rows = memory.sample_rows(n_anchors, generator)
        if len(rows) < 2:
            return None
        observations = memory.observations(rows)
        first, second = (
            augmented(
                observations,
                generator,
                kind=self.augmentation,
                shift=self.shift,
                drop=self.drop,
                scale=self.scale,
            )
            for _ in range(2)
        )
        return Pairs(first, second, different(memory.hashes(rows)))

    def forward(self, learner: Learner, batch: Pairs) -> Mapping[str, Tensor]:
        queries = learner.encoder(batch.anchors)
        keys = self.target(batch.positives)
        logits = torch.einsum("id,jd->ij", queries, self.bilinear(keys))
        loss, self.metrics = in_batch_contrast(logits, batch.usable)
        return {self.name: loss}

    def after_step(self, learner: Learner) -> None:
        """Update the moving average."""
        self.target.update()
