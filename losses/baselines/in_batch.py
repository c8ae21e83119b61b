"""Contrast of anchors with the other anchors' positives in the same batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_distillation.memory import Memory, Observations

from .. import checks
from ..auxiliary import AuxiliaryLoss, Learner
from ..info_nce import info_nce
from ..projection import projection_head


@dataclass(frozen=True)
class Pairs:
    """B anchors, each with its positive; the other anchors' positives are its negatives."""

    anchors: Observations
    """(B, ...)"""
    positives: Observations
    """(B, ...)"""
    usable: np.ndarray
    """(B, B) bool: whether positive j may be a negative of anchor i."""


def draw_later(
    memory: Memory, n: int, generator: np.random.Generator, *, offset: int
) -> tuple[np.ndarray, np.ndarray]:
    """Up to n different rows whose episode has a row `offset` steps later, and those rows.

    Returns:
        rows, later rows: (B,) int64, B <= n.
    """
    rows = memory.sample_rows(2 * n, generator)  # some end before
    later, inside = memory.later_rows(rows, np.full(len(rows), offset))
    chosen = generator.permutation(np.flatnonzero(inside))[:n]
    return rows[chosen], later[chosen]


def different(hashes: np.ndarray) -> np.ndarray:
    """(B, B) bool: whether observations i and j differ. MiniGrid's views repeat, and an observation
    equal to the positive must not be a negative."""
    differ: np.ndarray = hashes[:, None] != hashes
    return differ


def in_batch_contrast(logits: Tensor, usable: np.ndarray) -> tuple[Tensor, dict[str, float]]:
    """`-(1/n) Σ_i log( exp(l_ii) / (exp(l_ii) + Σ_j exp(l_ij)) )`, j over the usable.

    Subtracting each row's maximum first, as CURL and ATC do, changes nothing but rounding.

    Args:
        logits: (B, B), anchors by positives.
        usable: (B, B) bool; the diagonal does not count as a negative.

    Returns:
        The mean over the n anchors with a usable negative, exactly 0 for none; metrics.
    """
    mask = torch.as_tensor(usable, device=logits.device)
    mask = mask & ~torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    losses = info_nce(logits.diagonal(), logits, mask=mask)
    counts = mask.any(dim=1)
    n_usable = int(counts.sum())
    hardest = logits.detach().masked_fill(~mask, -torch.inf).amax(dim=1)
    wins = counts & (logits.detach().diagonal() > hardest)
    metrics = {
        "accuracy": float(wins.sum()) / max(n_usable, 1),
        "usable_anchors": float(n_usable),
    }
    return losses.sum() / max(n_usable, 1), metrics


class CosineContrast(AuxiliaryLoss):
    """`L = -mean_i log( exp(s_ii/τ) / Σ_j exp(s_ij/τ) )`, `s_ij = cos(q(f(o_i)), q(f(o⁺_j)))`.

    A subclass draws the `Pairs`. Both sides share encoder and head and take gradient.

    Metrics: `accuracy`, `usable_anchors`.
    """

    def __init__(self, temperature: float, projection_dim: int) -> None:
        super().__init__()
        self.temperature = checks.temperature(temperature)
        (self.projection_dim,) = checks.integers(1, projection_dim=projection_dim)

    def build(self, learner: Learner) -> None:
        self.head = projection_head(learner.n_features, self.projection_dim).to(learner.device)

    def forward(self, learner: Learner, batch: Pairs) -> Mapping[str, Tensor]:
        queries = F.normalize(self.head(learner.encoder(batch.anchors)), dim=1)
        keys = F.normalize(self.head(learner.encoder(batch.positives)), dim=1)
        logits = torch.einsum("id,jd->ij", queries, keys) / self.temperature
        loss, self.metrics = in_batch_contrast(logits, batch.usable)
        return {self.name: loss}
