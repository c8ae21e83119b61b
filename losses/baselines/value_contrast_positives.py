"""Align observations of equal return, and separate those of different returns (VEP, RCRL)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from contrastive_distillation.memory import Memory, draw_value_matched

from .in_batch import CosineContrast, Pairs, different

_TOLERANCE = 0.1  # of the returns' standard deviation


class ValueContrastPositives(CosineContrast):
    """`L = -mean_i log( exp(s_ii/τ) / Σ_j exp(s_ij/τ) )`, `s_ij = cos(q(f(o_i)), q(f(o⁺_j)))`.

    The positive o⁺_i is a state of another episode, of any task, with the same return-to-go; the
    negatives are those positives of the batch with another return. In the manner of value
    explicit pretraining (Lekkala et al. 2023, https://arxiv.org/abs/2312.12339), which relates
    states across tasks by Monte Carlo returns, and of return-based contrastive learning (Liu et
    al. 2021, https://arxiv.org/abs/2102.10960), whose negatives have other returns.

    Our reading: the same is a difference of at most a tenth of the returns' standard deviation
    (`memory.draw_value_matched`); one encoder and head on both sides, both with gradient;
    cosines, τ = .1. VEP pretrains, RCRL classifies pairs of state and action: neither weight fits,
    so none is `published`. Before returns vary nothing matches, and the loss is exactly 0.

    Metrics: `accuracy`, `usable_anchors`.
    """

    name: ClassVar[str] = "value_contrast_positives"

    def __init__(self, *, temperature: float = 0.1, projection_dim: int = 128) -> None:
        """
        Args:
            temperature: τ, above 0.
            projection_dim: width of the head, >= 1.

        Raises:
            ValueError: one is outside its range.
        """
        super().__init__(temperature, projection_dim)

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> Pairs | None:
        """Anchors and rows of equal return; None while there are fewer than two rows."""
        rows = memory.sample_rows(n_anchors, generator)
        if len(rows) < 2:
            return None
        matched, valid = draw_value_matched(memory, rows, generator)
        here, there = memory.returns(rows), memory.returns(matched)
        spread = float(here[valid].std()) if valid.any() else 0.0
        usable = np.abs(here[:, None] - there) > _TOLERANCE * spread
        usable &= valid[:, None] & valid & different(memory.hashes(matched))
        return Pairs(memory.observations(rows), memory.observations(matched), usable)
