"""Plain InfoNCE in the batch, without memory, teacher, moving averages or masks."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from contrastive_distillation.memory import Memory, draw_positives

from .. import checks
from ..auxiliary import Joining
from .in_batch import CosineContrast, Pairs


class InfoNCE(CosineContrast):
    """`L = -mean_i log( exp(s_ii/τ) / Σ_j exp(s_ij/τ) )`, `s_ij = cos(q(f(o_i)), q(f(o⁺_j)))`.

    Oord et al. 2018, https://arxiv.org/abs/1807.03748, without the recurrent context: what
    contrastive distillation would be without its memory, teacher, averages, masks and weights.
    Positives are later states of the same episode (geometric offset), drawn from the current
    rollout; both sides share encoder and head and take gradient. Cosines in place of the paper's
    bilinear product, temperature, head and offsets are ours, and so the same as in
    contrastive_distillation. The paper adds it to the agent's loss without a coefficient.

    Metrics: `accuracy`, `usable_anchors`.
    """

    name: ClassVar[str] = "info_nce"
    published: ClassVar[Joining | None] = Joining(weight=1.0)

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        projection_dim: int = 128,
        positive_offset: float = 5.0,
    ) -> None:
        """
        Args:
            temperature: τ, above 0.
            projection_dim: width of the head, >= 1.
            positive_offset: mean steps from anchor to positive, >= 1.

        Raises:
            ValueError: one is outside its range.
        """
        super().__init__(temperature, projection_dim)
        (self.positive_offset,) = checks.numbers(1, positive_offset=positive_offset)

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> Pairs | None:
        """Recent anchors and later states; None while there are fewer than two rows."""
        rows = memory.sample_rows(n_anchors, generator, recent=True)
        if len(rows) < 2:
            return None
        later, valid = draw_positives(memory, rows, generator, mean_offset=self.positive_offset)
        return Pairs(
            memory.observations(rows),
            memory.observations(later),
            valid[:, None] & valid,
        )
