"""Augmented temporal contrast: identify the observation a few steps later (ATC)."""

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
from .averaged_network import AveragedNetwork
from .in_batch import Pairs, different, draw_later, in_batch_contrast


class ATC(AuxiliaryLoss):
    """`L = -mean_i log( exp(l_ii) / Σ_j exp(l_ij) )`, `l_ij = p_iᵀ W c̄_j`.

    Stooke et al. 2020, https://arxiv.org/abs/2009.08319: `c_i = g(f(o_t))` with g a linear
    compressor, `p_i = c_i + h(c_i)` with h a residual MLP, `c̄_j = ḡ(f̄(o_{t+k}))` with f̄, ḡ moving
    averages; positives come k steps later in the same episode, negatives from the batch.

    As there: k = 3, 256 wide codes, 512 hidden units, momentum .99 (τ = .01), pictures randomly
    shifted by up to 4 pixels. Our reading: grids and vectors are not augmented (the paper has
    pictures only); of positives that show the same observation one is never a negative of the
    other; anchors are drawn from the whole memory. There the loss steps the encoder with an Adam
    of its own (1e-3, after the agent's update, batches of 512), here through the agent's optimiser;
    `published` therefore is the plain sum with weight 1.

    Metrics: `accuracy`, `usable_anchors`.
    """

    name: ClassVar[str] = "atc"
    published: ClassVar[Joining | None] = Joining(weight=1.0)

    def __init__(
        self,
        *,
        offset: int = 3,
        momentum: float = 0.99,
        code_dim: int = 256,
        hidden_dim: int = 512,
        augmentation: str = "pictures",
    ) -> None:
        """
        Args:
            offset: k, steps from anchor to positive, >= 1.
            momentum: of the moving averages, per auxiliary step, in [0, 1).
            code_dim: width of the codes, >= 1.
            hidden_dim: hidden units of the residual MLP, >= 1.
            augmentation: what is augmented, see `augmentation.AUGMENTATIONS`.

        Raises:
            ValueError: one is outside its range.
        """
        super().__init__()
        self.offset, self.code_dim, self.hidden_dim = checks.integers(
            1, offset=offset, code_dim=code_dim, hidden_dim=hidden_dim
        )
        self.momentum = checks.momentum(momentum)
        self.augmentation = checks.one_of(AUGMENTATIONS, "augmentation", augmentation)

    def build(self, learner: Learner) -> None:
        self.compressor = nn.Linear(learner.n_features, self.code_dim)
        self.residual = nn.Sequential(
            nn.Linear(self.code_dim, self.hidden_dim),
            nn.ReLU(),
            nn.Linear(self.hidden_dim, self.code_dim),
        )
        self.bilinear = nn.Linear(self.code_dim, self.code_dim, bias=False)
        self.to(learner.device)
        self.target = AveragedNetwork(learner, self.compressor, momentum=self.momentum)

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> Pairs | None:
        """Anchors and the observations `offset` steps later; None with fewer than two."""
        rows, later = draw_later(memory, n_anchors, generator, offset=self.offset)
        if len(rows) < 2:
            return None
        return Pairs(
            augmented(memory.observations(rows), generator, kind=self.augmentation),
            augmented(memory.observations(later), generator, kind=self.augmentation),
            different(memory.hashes(later)),
        )

    def forward(self, learner: Learner, batch: Pairs) -> Mapping[str, Tensor]:
        codes = self.compressor(learner.encoder(batch.anchors))
        predictions = codes + self.residual(codes)
        keys = self.target(batch.positives)
        logits = torch.einsum("id,jd->ij", predictions, self.bilinear(keys))
        loss, self.metrics = in_batch_contrast(logits, batch.usable)
        return {self.name: loss}

    def after_step(self, learner: Learner) -> None:
        """Update the moving averages."""
        self.target.update(self.compressor)
