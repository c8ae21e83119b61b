"""Tell the teacher's features of an observation from those of others, pair by pair (CRD)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastive_distillation.memory import Memory, Observations

from .. import checks
from ..auxiliary import Joining, Learner, Teacher
from ..teacher_keys import FrozenKeys
from .source_agent import TeacherLoss, draw_from_both


@dataclass(frozen=True)
class CRDBatch:
    """B anchors and N negatives shared by them, with the teacher's features."""

    anchors: Observations
    """(B, ...)"""
    features: np.ndarray
    """(B + N, D) float32: the teacher's, of the anchors and then of the negatives."""
    usable: np.ndarray
    """(B, N) bool: whether the negative's observation differs from the anchor's."""
    n_rows: int
    """M, the rows that negatives are drawn from."""


class CRD(TeacherLoss):
    """`L = mean_i [ -log h(i, i) - Σ_j log(1 - h(i, j)) ]`, j over N negatives.

    `h(i, j) = e_ij / (e_ij + N/M)`, `e_ij = exp( g_S(f(o_i)) · g_T(T(o_j)) / τ )`, g_S and g_T
    linear maps to 128 followed by L2 normalisation, M the rows that negatives come from: binary
    noise-contrastive estimation. Tian et al. 2019, https://arxiv.org/abs/1910.10699; τ = .07,
    weight .8.

    Our reading: in reinforcement learning there are no classes, so negatives are rows with
    another observation. Their bank is the memory itself: T's features are kept, for T is frozen,
    and g_T is applied at each step, so no key is stale (theirs ages while g_T learns). N = 1,024
    instead of 16,384 (`n_negatives`), shared by the anchors; no constant divides e; teacher anchors
    against student negatives are left out. Half of the anchors and negatives are the source's, if
    its memory is given.

    Metrics: `accuracy`, the share of anchors whose positive beats every usable negative, and
    `usable_anchors`.
    """

    name: ClassVar[str] = "crd"
    published: ClassVar[Joining | None] = Joining(weight=0.8)

    def __init__(
        self,
        *,
        teacher: Teacher | None = None,
        n_negatives: int = 1024,
        temperature: float = 0.07,
        projection_dim: int = 128,
    ) -> None:
        """
        Args:
            teacher: the frozen source encoder.
            n_negatives: N, >= 1.
            temperature: τ, above 0.
            projection_dim: width of both heads, >= 1.

        Raises:
            ValueError: one is outside its range.
        """
        super().__init__(teacher)
        self.n_negatives, self.projection_dim = checks.integers(
            1, n_negatives=n_negatives, projection_dim=projection_dim
        )
        self.temperature = checks.temperature(temperature)
        self.teacher_features = None if teacher is None else FrozenKeys(teacher, normalised=False)

    def build(self, learner: Learner) -> None:
        """
        Raises:
            ValueError: the teacher is missing.
        """
        teacher = self.required_teacher()
        self.student_head = nn.Linear(learner.n_features, self.projection_dim)
        self.teacher_head = nn.Linear(teacher.n_features, self.projection_dim)
        self.to(learner.device)

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> CRDBatch | None:
        """Anchors and negatives, half of both from the source's memory if it is given."""
        if len(memory) == 0:
            return None
        assert self.teacher_features is not None
        anchors = draw_from_both(memory, source_memory, n_anchors, generator)
        negatives = draw_from_both(memory, source_memory, self.n_negatives, generator)
        of_teacher = [drawn.keys(self.teacher_features) for drawn in (anchors, negatives)]
        return CRDBatch(
            anchors=anchors.observations(),
            features=np.concatenate(of_teacher),
            usable=anchors.hashes()[:, None] != negatives.hashes(),
            n_rows=len(memory) + (0 if source_memory is None else len(source_memory)),
        )

    def forward(self, learner: Learner, batch: CRDBatch) -> Mapping[str, Tensor]:
        queries = F.normalize(self.student_head(learner.encoder(batch.anchors)), dim=1)
        known = torch.as_tensor(batch.features, device=queries.device)
        keys = F.normalize(self.teacher_head(known), dim=1)
        positives, negatives = keys[: len(queries)], keys[len(queries) :]
        usable = torch.as_tensor(batch.usable, device=queries.device)
        own = (queries * positives).sum(dim=1) / self.temperature
        others = queries @ negatives.T / self.temperature
        losses = binary_nce(own, others, usable, n_rows=batch.n_rows)
        counts = usable.any(dim=1)
        hardest = others.detach().masked_fill(~usable, -torch.inf).amax(dim=1)
        n_usable = int(counts.sum())
        self.metrics = {
            "accuracy": float((counts & (own.detach() > hardest)).sum()) / max(n_usable, 1),
            "usable_anchors": float(n_usable),
        }
        return {self.name: losses.sum() / max(n_usable, 1)}


def binary_nce(
    positive_logits: Tensor, negative_logits: Tensor, usable: Tensor, *, n_rows: int
) -> Tensor:
    """`-log h(s_i) - Σ_j log(1 - h(s_ij))`, `h(s) = exp(s) / (exp(s) + N/M)`, j over the usable.

    Args:
        positive_logits: (B,), similarity divided by the temperature.
        negative_logits: (B, N).
        usable: (B, N) bool.
        n_rows: M.

    Returns:
        (B,); exactly 0, with gradient 0, for an anchor without a usable negative.
    """
    log_share = float(np.log(max(negative_logits.shape[1], 1) / n_rows))
    own = F.softplus(log_share - positive_logits)  # -log h
    others = F.softplus(negative_logits - log_share).masked_fill(~usable, 0.0)  # -log(1 - h)
    return (own + others.sum(dim=1)) * usable.any(dim=1)
