"""Contrastive distillation: the encoder keeps what predicts the future, and what a teacher knew.

After Lengerich et al. 2022, https://arxiv.org/abs/2212.11353: a reinforcement-learning
formulation of its claims, not a reproduction.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastive_distillation.memory import (
    Memory,
    NegativeSampler,
    concatenate,
    make_negatives,
    n_observations,
)

from .auxiliary import AuxiliaryLoss, AveragedEncoder, Learner, Teacher
from .contrastive_batch import (
    ContrastiveBatch,
    SourceBatch,
    TargetBatch,
    draw_source,
    draw_target,
)
from .info_nce import info_nce
from .settings import Anneal, LossSettings, annealed

_N_MEAN_ROWS = 1024  # observations over which the teacher's mean feature is taken


class ContrastiveDistillation(AuxiliaryLoss):
    """`L = -log( exp(s⁺/τ) / (exp(s⁺/τ) + Σ_j w_j exp(s_j/τ)) )`, s a cosine, in two terms.

    * `target`: `s(x, y) = cos(q(f(x)), q̄(f̄(y)))`, f the encoder, q a head, f̄ and q̄ their
      moving averages; the positive is a later state of the same episode.
    * `source`, where there is a teacher T: `s(x, y) = cos(q_s(f(x)), T(y) - mean)`; the positive
      is the anchor itself. Anchors and negatives come half from the memory at hand and half from
      the source's memory, if that is given. The term's weight anneals over one `learn()`. The
      mean is that of T's features over up to 1,024 observations at the first `sample` (of the
      source's memory if it is given), and then stays, as T does.

    Each term is the mean over its usable anchors: those with a positive and an unmasked negative.

    Metrics: `accuracy` (share of usable anchors whose positive beats every usable negative),
    `masked_fraction` (of all pairs), `usable_anchors`, `duplicate_rate` (share of the pool that
    repeats an observation of it); for the source term the same, prefixed `source_`.
    """

    name: ClassVar[str] = "contrastive_distillation"

    teacher_mean: Tensor
    teacher_mean_known: Tensor

    def __init__(
        self,
        *,
        negatives: str | NegativeSampler = "uniform",
        n_negatives: int = 128,
        temperature: float = 0.1,
        target_weight: float = 1.0,
        source_weight: float = 1.0,
        teacher: Teacher | None = None,
        source_anneal: Anneal = "linear",
        momentum: float = 0.99,
        projection_dim: int = 128,
        positive_offset: float = 5.0,
        window: int = 8,
    ) -> None:
        """See `LossSettings` for the numbers; they raise ValueError outside their range.

        Args:
            negatives: a name of `memory.NEGATIVES`, or a sampler.
            teacher: the frozen source encoder; None leaves the source term out.
        """
        super().__init__()
        self.negatives = make_negatives(negatives)
        self.settings = LossSettings(
            negatives=negatives if isinstance(negatives, str) else "uniform",
            n_negatives=n_negatives,
            temperature=temperature,
            target_weight=target_weight,
            source_weight=source_weight,
            source_anneal=source_anneal,
            momentum=momentum,
            projection_dim=projection_dim,
            positive_offset=positive_offset,
            window=window,
        )
        if isinstance(negatives, NegativeSampler):  # may be in no registry, so set unchecked
            object.__setattr__(self.settings, "negatives", negatives.name)
        if teacher is None and target_weight == 0:
            raise ValueError("target_weight is 0 and there is no teacher: no term is left")
        self.teacher = teacher
        self.has_target_term = target_weight > 0
        self.has_source_term = teacher is not None and source_weight > 0
        if teacher is not None:
            self.register_buffer("teacher_mean", torch.zeros(teacher.n_features))
            self.register_buffer("teacher_mean_known", torch.tensor(False))

    def build(self, learner: Learner) -> None:
        n_features = learner.n_features
        if self.has_target_term:
            self.target_head = _head(n_features, self.settings.projection_dim)
            self.averaged_head = copy.deepcopy(self.target_head).requires_grad_(False)
            self.averaged_encoder: AveragedEncoder = learner.moving_average(self.settings.momentum)
        if self.teacher is not None and self.has_source_term:
            self.source_head = _head(n_features, self.teacher.n_features)
        self.to(learner.device)

    def head_parameters(self) -> list[nn.Parameter]:
        heads = [getattr(self, name, None) for name in ("target_head", "source_head")]
        return [parameter for head in heads if head is not None for parameter in head.parameters()]

    def term_weights(self, progress: float) -> Mapping[str, float]:
        weights = {}
        if self.has_target_term:
            weights["target"] = self.settings.target_weight
        if self.has_source_term:
            factor = annealed(self.settings.source_anneal, progress)
            weights["source"] = self.settings.source_weight * factor
        return weights

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> ContrastiveBatch | None:
        """One step's rows; None while the memory has fewer than two that may be drawn."""
        settings, recent = self.settings, self.negatives.recent
        if len(memory.recent_rows() if recent else memory.rows()) < 2:
            return None
        anchor_rows = memory.sample_rows(n_anchors, generator, recent=recent)
        pool = self.negatives.draw(memory, anchor_rows, settings.n_negatives, generator)
        target = source = None
        if self.has_target_term:
            target = draw_target(
                memory,
                anchor_rows,
                pool,
                generator,
                positive_offset=settings.positive_offset,
                window=settings.window,
            )
        if self.has_source_term:
            source = draw_source(
                memory,
                anchor_rows,
                pool,
                source_memory,
                generator,
                sampler=self.negatives,
                n_negatives=settings.n_negatives,
                window=settings.window,
            )
            self._fix_teacher_mean(memory, source_memory, generator)
        n_distinct = len(np.unique(memory.hashes(pool.rows)))
        metrics = {"duplicate_rate": 1.0 - n_distinct / max(len(pool.rows), 1)}
        return ContrastiveBatch(memory.observations(anchor_rows), target, source, metrics)

    def _fix_teacher_mean(
        self, memory: Memory, source_memory: Memory | None, generator: np.random.Generator
    ) -> None:
        if self.teacher is None or bool(self.teacher_mean_known):
            return
        seen = source_memory if source_memory is not None and len(source_memory) else memory
        rows = seen.sample_rows(_N_MEAN_ROWS, generator)
        with torch.no_grad():
            self.teacher_mean.copy_(self.teacher(seen.observations(rows)).mean(dim=0))
            self.teacher_mean_known.fill_(True)

    def forward(self, learner: Learner, batch: ContrastiveBatch) -> Mapping[str, Tensor]:
        """The terms, each a scalar. A term that weighs 0 at `learner.progress` is left out."""
        self.metrics = dict(batch.metrics)
        weights = self.term_weights(learner.progress)
        source = batch.source if weights.get("source", 0.0) > 0 else None
        observations, n_anchors = batch.anchors, n_observations(batch.anchors)
        if source is not None and source.from_source is not None:
            observations = concatenate([observations, source.from_source])
        features = learner.encoder(observations)  # each anchor once, for both terms
        terms = {}
        if batch.target is not None:
            terms["target"] = self._target_term(features[:n_anchors], batch.target)
        if source is not None:
            own, others = features[: source.n_from_target], features[n_anchors:]
            terms["source"] = self._source_term(torch.cat([own, others]), batch, source)
        return terms

    def _target_term(self, features: Tensor, batch: TargetBatch) -> Tensor:
        queries = F.normalize(self.target_head(features), dim=1)
        with torch.no_grad():  # positives and negatives through the same snapshot
            keys = self.averaged_encoder(concatenate([batch.positives, batch.negatives]))
            keys = F.normalize(self.averaged_head(keys), dim=1)
        return self._contrast(queries, keys, batch.mask, batch.log_weights, prefix="")

    def _source_term(
        self, features: Tensor, batch: ContrastiveBatch, source: SourceBatch
    ) -> Tensor:
        assert self.teacher is not None
        queries = F.normalize(self.source_head(features), dim=1)
        with torch.no_grad():
            keys = self.teacher(concatenate([batch.source_anchors(), source.negatives]))
            keys = F.normalize(keys - self.teacher_mean, dim=1)
        return self._contrast(queries, keys, source.mask, None, prefix="source_")

    def _contrast(
        self,
        queries: Tensor,
        keys: Tensor,
        mask: np.ndarray,
        log_weights: np.ndarray | None,
        *,
        prefix: str,
    ) -> Tensor:
        """Mean InfoNCE: queries (B, D); keys (B + K, D), positives first; mask (B, K)."""
        positives, negatives = keys[: len(queries)], keys[len(queries) :]
        positive_logits = (queries * positives).sum(dim=1) / self.settings.temperature
        negative_logits = queries @ negatives.T / self.settings.temperature
        usable = torch.as_tensor(mask, device=queries.device)
        weights = None
        if log_weights is not None:
            weights = torch.as_tensor(log_weights, device=queries.device)
            usable = usable & (weights > -torch.inf)
        losses = info_nce(positive_logits, negative_logits, mask=usable, log_weights=weights)
        counts = usable.any(dim=1)
        n_usable = int(counts.sum())
        hardest = negative_logits.detach().masked_fill(~usable, -torch.inf)
        wins = counts & (positive_logits.detach()[:, None] > hardest).all(dim=1)
        self.metrics[f"{prefix}accuracy"] = float(wins.sum()) / max(n_usable, 1)
        self.metrics[f"{prefix}masked_fraction"] = 1.0 - float(usable.sum()) / max(mask.size, 1)
        self.metrics[f"{prefix}usable_anchors"] = float(n_usable)
        return losses.sum() / max(n_usable, 1)

    def after_step(self, learner: Learner) -> None:
        """Both averages move by one step."""
        if not self.has_target_term:
            return
        self.averaged_encoder.update()
        heads = zip(self.averaged_head.parameters(), self.target_head.parameters(), strict=True)
        with torch.no_grad():
            for average, current in heads:
                average.lerp_(current, 1.0 - self.settings.momentum)


def _head(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_in), nn.ReLU(), nn.Linear(n_in, n_out))
