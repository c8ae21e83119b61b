"""Contrastive distillation: the encoder keeps what predicts the future, and what a teacher knew.

After Lengerich et al. 2022, https://arxiv.org/abs/2212.11353: a reinforcement-learning
formulation of its claims, not a reproduction.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from contrastive_distillation.memory import (
    Memory,
    NegativeSampler,
    UniformNegatives,
    check_pool,
    concatenate,
    make_negatives,
    n_observations,
    with_shuffled_returns,
)

from .arrays_in_state import ArraysInState
from .auxiliary import AuxiliaryLoss, Learner, Teacher
from .contrastive_batch import (
    AnchorBatch,
    ContrastiveBatch,
    MemoryRows,
    duplicate_rate,
    source_batch,
    target_batch,
)
from .info_nce import info_nce
from .projection import distinct_queries, projection_head, similarities
from .settings import Anneal, LossSettings, annealed
from .teacher_keys import AveragedKeys, FrozenKeys, LearnerInsight


class ContrastiveDistillation(ArraysInState, AuxiliaryLoss):
    """`L = -log( exp(s⁺/τ) / (exp(s⁺/τ) + Σ_j w_j exp(s_j/τ)) )`, s a cosine, in two terms.

    * `target`: `s(x, y) = cos(q(f(x)), q̄(f̄(y)))`, with f the encoder, q a head, and f̄ and q̄ a
      snapshot of their moving averages (`AveragedKeys`). The positive is a later state of the same
      episode, unless `positives` chooses another.
    * `source`, given a teacher T: `s(x, y) = cos(q_s(f(x)), T(y) - mean)`. The positive is the
      anchor itself. Anchors and negatives come from the memory and, in equal parts, from the
      source's memory if there is one. The term's weight anneals over one `learn()`. The mean is
      T's mean feature over up to 1,024 observations (of the source's memory if there is one) at
      the first `sample`; it is never updated.

    Each term is the mean over its usable anchors: those with a positive and an unmasked negative.

    Metrics: `accuracy` (share of usable anchors whose positive beats every usable negative),
    `masked_fraction` (masked share of the pairs of anchor and negative), `usable_anchors`,
    `duplicate_rate` (share of an anchor's negatives that repeat an observation among them),
    `key_age` (frames since the snapshot of the keys was taken) and `key_drift` (1 - cosine of old
    and new keys, when last measured). The source term has the first three, prefixed `source_`.
    """

    name: ClassVar[str] = "contrastive_distillation"

    def __init__(
        self,
        *,
        negatives: str | NegativeSampler = "value_contrast",
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
        positives: str = "temporal",
        band_low: float = 0.001,
        band_high: float = 0.05,
        uniform_share: float = 0.5,
        n_searched: int = 4096,
        index: str = "auto",
        refresh_frames: int = 16_384,
        refresh_drift: float = 0.0,
        shuffled_values: bool = False,
    ) -> None:
        """`LossSettings` documents the other settings.

        Args:
            negatives: a name of `memory.NEGATIVES`, or a sampler with settings of its own.
            teacher: the frozen source encoder; None disables the source term.

        Raises:
            ValueError: a setting is outside its range, or no term is left.
        """
        keywords = dict(locals())
        super().__init__()
        keywords["negatives"] = (
            negatives.name if isinstance(negatives, NegativeSampler) else str(negatives)
        )
        self.settings = LossSettings(**{f.name: keywords[f.name] for f in fields(LossSettings)})
        self.negatives = make_negatives(negatives, **self.settings.sampler_settings())
        self.source_negatives = (  # a source's memory has no current rollout
            UniformNegatives() if self.negatives.recent else copy.deepcopy(self.negatives)
        )
        self.has_own_sampler = isinstance(negatives, NegativeSampler)
        if shuffled_values and not (self.negatives.uses_returns or positives == "value_matched"):
            raise ValueError(
                f"shuffled_values: neither negatives '{self.settings.negatives}' nor positives "
                f"'{positives}' use returns, so shuffling them has no effect; use negatives "
                "'value_contrast' or 'prediction_error', or positives 'value_matched'"
            )
        if teacher is not None and not (callable(teacher) and hasattr(teacher, "n_features")):
            raise ValueError(
                f"teacher is a {type(teacher).__name__}; expected a frozen encoder with "
                "n_features, such as agents.FrozenTeacher.from_model(model)"
            )
        if teacher is None and target_weight == 0:
            raise ValueError("target_weight is 0 and there is no teacher: no term is left")
        self.teacher = teacher
        self.has_target_term = target_weight > 0
        self.has_source_term = teacher is not None and source_weight > 0
        self.source_keys = FrozenKeys(teacher) if teacher is not None else None

    def build(self, learner: Learner) -> None:
        """Make the heads and the moving averages."""
        settings = self.settings
        if self.has_target_term:
            self.target_head = projection_head(learner.n_features, settings.projection_dim)
            self.target_keys = AveragedKeys(
                learner,
                self.target_head,
                width=settings.projection_dim,
                momentum=settings.momentum,
                refresh_frames=settings.refresh_frames,
                refresh_drift=settings.refresh_drift,
            )
        if self.teacher is not None and self.has_source_term:
            self.source_head = projection_head(learner.n_features, self.teacher.n_features)
        self._learner = learner
        self.restore_arrays({})  # the samplers' state belonged to another learner
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
        """Anchors, positives and negatives of one auxiliary step.

        None while the memory has fewer than two rows to draw from.
        """
        settings, recent = self.settings, self.negatives.recent
        if len(memory.recent_rows() if recent else memory) < 2:
            return None
        if settings.shuffled_values:
            memory = with_shuffled_returns(memory, generator)
            if source_memory is not None:
                source_memory = with_shuffled_returns(source_memory, generator)
        if source_memory is not None and not len(source_memory):
            source_memory = None
        metrics: dict[str, float] = {}
        if self.has_target_term:
            metrics |= self.target_keys.renew(memory, generator)
        if self.source_keys is not None and self.has_source_term:
            at_home = memory if source_memory is None else source_memory
            self.source_keys.fix_mean(at_home, generator)
        keys = self.target_keys if self.has_target_term else self.source_keys
        assert keys is not None
        insight = LearnerInsight(memory, keys, self._learner)
        rows = self.negatives.draw_anchors(memory, n_anchors, generator, insight)
        pool = self.negatives.draw(memory, rows, settings.n_negatives, generator, insight)
        check_pool(pool, self.negatives, memory, rows)
        metrics["duplicate_rate"] = duplicate_rate(memory, pool)
        target = source = None
        if self.has_target_term:
            target = target_batch(
                memory, rows, pool, self.target_keys, generator, settings=settings, recent=recent
            )
        if self.source_keys is not None and self.has_source_term:
            source = source_batch(
                MemoryRows(memory, rows, pool.lines),
                source_memory,
                self.source_keys,
                self._learner,
                generator,
                sampler=self.source_negatives,
                settings=settings,
            )
        return ContrastiveBatch(memory.observations(rows), target, source, metrics)

    def forward(self, learner: Learner, batch: ContrastiveBatch) -> Mapping[str, Tensor]:
        """The terms, each a scalar. A term of weight 0 at `learner.progress` is left out."""
        self.metrics = dict(batch.metrics)
        weights = self.term_weights(learner.progress)
        source = batch.source if weights.get("source", 0.0) > 0 else None
        observations, n_anchors = batch.anchors, n_observations(batch.anchors)
        if source is not None and source.from_source is not None:
            observations = concatenate([observations, source.from_source])
        features = learner.encoder(observations)  # each anchor once, for both terms
        terms = {}
        if batch.target is not None:
            terms["target"] = self._term(self.target_head, features[:n_anchors], batch.target)
        if source is not None:
            own, others = features[: source.n_from_target], features[n_anchors:]
            terms["source"] = self._term(
                self.source_head, torch.cat([own, others]), source, prefix="source_"
            )
        return terms

    def _term(
        self, head: nn.Module, features: Tensor, batch: AnchorBatch, *, prefix: str = ""
    ) -> Tensor:
        """The mean of L over the usable anchors; sets the metrics, named with `prefix`.

        Args:
            head: q or q_s.
            features: (B, n_features), of the anchors.
            batch: keys, mask and weights for these anchors.
        """
        queries, inverse = distinct_queries(head, features, batch.hashes)  # (M, D), (B,) or None
        queries = queries / self.settings.temperature
        positives = torch.as_tensor(batch.positive_keys, device=queries.device)  # (B, D)
        negatives = torch.as_tensor(batch.negative_keys, device=queries.device)  # (G, K, D)
        negative_logits = similarities(queries, inverse, negatives)  # (B, K)
        if inverse is not None:
            queries = queries.index_select(0, inverse)
        positive_logits = (queries * positives).sum(dim=1)  # (B,)
        usable, log_weights = batch.mask, None
        if batch.log_weights is not None:
            log_weights = torch.as_tensor(batch.log_weights, device=queries.device)
            usable = usable & (batch.log_weights > -np.inf)
        unusable = torch.as_tensor(~usable, device=queries.device)
        negative_logits = negative_logits.masked_fill(unusable, -torch.inf)
        losses = info_nce(positive_logits, negative_logits, log_weights=log_weights)  # (B,)

        counts = usable.any(axis=1)
        n_usable = int(counts.sum())
        won = (positive_logits.detach()[:, None] > negative_logits.detach()).all(dim=1)
        n_won = int((won.cpu().numpy() & counts).sum())
        n_unmasked = int(np.count_nonzero(batch.mask))
        self.metrics[f"{prefix}masked_fraction"] = 1.0 - n_unmasked / max(batch.mask.size, 1)
        self.metrics[f"{prefix}accuracy"] = n_won / max(n_usable, 1)
        self.metrics[f"{prefix}usable_anchors"] = float(n_usable)
        return losses.sum() / max(n_usable, 1)

    def n_encoded(self, n_anchors: int, *, with_source_memory: bool) -> int:
        """The number of anchors, with those of the source term from the source's memory."""
        from_source = n_anchors - n_anchors // 2 if self.settings.source_weight > 0 else 0
        return n_anchors + from_source * with_source_memory

    def after_step(self, learner: Learner) -> None:
        """Update the moving averages of encoder and head."""
        if self.has_target_term:
            self.target_keys.step(self.target_head)

    def state_arrays(self) -> Mapping[str, np.ndarray]:
        """The state of the samplers."""
        return {
            f"{whose}/{name}": array
            for whose, sampler in self._samplers().items()
            for name, array in sampler.state_arrays().items()
        }

    def restore_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Put back what `state_arrays` gave."""
        for whose, sampler in self._samplers().items():
            start = f"{whose}/"
            own = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
            sampler.restore(own)

    def _samplers(self) -> dict[str, NegativeSampler]:
        return {"negatives": self.negatives, "source_negatives": self.source_negatives}
