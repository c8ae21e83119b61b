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
    ContrastiveBatch,
    SourceBatch,
    SourceRows,
    TargetBatch,
    draw_positive_rows,
    draw_source_rows,
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

    * `target`: `s(x, y) = cos(q(f(x)), q̄(f̄(y)))`, f the encoder, q a head, f̄ and q̄ a snapshot
      of their moving averages (`AveragedKeys`); the positive is a later state of the same episode,
      or what `positives` says.
    * `source`, where there is a teacher T: `s(x, y) = cos(q_s(f(x)), T(y) - mean)`; the positive
      is the anchor itself. Anchors and negatives come half from the memory at hand and half from
      the source's memory, if that is given. The term's weight anneals over one `learn()`. The
      mean is that of T's features over up to 1,024 observations at the first `sample` (of the
      source's memory if it is given), and then stays, as T does.

    Each term is the mean over its usable anchors: those with a positive and an unmasked negative.

    Metrics: `accuracy` (share of usable anchors whose positive beats every usable negative),
    `masked_fraction` (of all pairs of an anchor and a negative of its own), `usable_anchors`,
    `duplicate_rate` (share of an anchor's negatives that repeat an observation among them),
    `key_age` (frames since the keys' snapshot was taken) and `key_drift` (1 - cosine of old and new
    keys, when it was last looked at); for the source term the first three, prefixed `source_`.
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
        """See `LossSettings` for the numbers; they raise ValueError outside their range.

        Args:
            negatives: a name of `memory.NEGATIVES`, or a sampler (which has settings of its own).
            teacher: the frozen source encoder; None leaves the source term out.
        """
        super().__init__()
        self.settings = LossSettings(
            negatives=negatives if isinstance(negatives, str) else LossSettings.negatives,
            n_negatives=n_negatives,
            temperature=temperature,
            target_weight=target_weight,
            source_weight=source_weight,
            source_anneal=source_anneal,
            momentum=momentum,
            projection_dim=projection_dim,
            positive_offset=positive_offset,
            window=window,
            positives=positives,
            band_low=band_low,
            band_high=band_high,
            uniform_share=uniform_share,
            n_searched=n_searched,
            index=index,
            refresh_frames=refresh_frames,
            refresh_drift=refresh_drift,
            shuffled_values=shuffled_values,
        )
        self.negatives = make_negatives(negatives, **self.settings.sampler_settings())
        self.source_negatives = (  # nothing is "recent" in a memory that is no longer written
            UniformNegatives() if self.negatives.recent else copy.deepcopy(self.negatives)
        )
        self.has_own_sampler = isinstance(negatives, NegativeSampler)
        if isinstance(negatives, NegativeSampler):  # may be in no registry, so set unchecked
            object.__setattr__(self.settings, "negatives", negatives.name)
        if shuffled_values and not (self.negatives.uses_returns or positives == "value_matched"):
            raise ValueError(
                f"shuffled_values: neither negatives '{self.settings.negatives}' nor positives "
                f"'{positives}' look at returns, so there is nothing to shuffle; use negatives "
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
        self.restore_arrays({})  # what samplers remember is of another learner
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
        if len(memory.recent_rows() if recent else memory) < 2:
            return None
        if settings.shuffled_values:
            memory = with_shuffled_returns(memory, generator)
            if source_memory is not None:
                source_memory = with_shuffled_returns(source_memory, generator)
        metrics: dict[str, float] = {}
        if self.has_target_term:
            metrics |= self.target_keys.renew(memory, generator)
        if self.source_keys is not None and self.has_source_term:
            at_home = source_memory if source_memory is not None and len(source_memory) else memory
            self.source_keys.fix_mean(at_home, generator)
        keys = self.target_keys if self.has_target_term else self.source_keys
        assert keys is not None
        insight = LearnerInsight(memory, keys, self._learner)
        rows = self.negatives.draw_anchors(memory, n_anchors, generator, insight)
        pool = self.negatives.draw(memory, rows, settings.n_negatives, generator, insight)
        check_pool(pool, self.negatives, memory, rows)
        target = source = None
        if self.has_target_term:
            positives = draw_positive_rows(
                memory,
                rows,
                generator,
                positives=settings.positives,
                positive_offset=settings.positive_offset,
                recent=recent,
            )
            target = target_batch(
                memory, rows, positives, pool, self.target_keys, window=settings.window
            )
        if self.has_source_term and self.source_keys is not None:
            parts = [SourceRows(memory, rows, pool.lines)]
            if source_memory is not None and len(source_memory):
                parts = draw_source_rows(
                    parts[0],
                    source_memory,
                    LearnerInsight(source_memory, self.source_keys, self._learner),
                    generator,
                    sampler=self.source_negatives,
                    n_negatives=settings.n_negatives,
                )
            source = source_batch(parts, self.source_keys, window=settings.window)
        metrics["duplicate_rate"] = duplicate_rate(memory, pool)
        return ContrastiveBatch(memory.observations(rows), target, source, metrics)

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
            terms["source"] = self._source_term(torch.cat([own, others]), source)
        return terms

    def _target_term(self, features: Tensor, batch: TargetBatch) -> Tensor:
        queries, inverse = distinct_queries(self.target_head, features, batch.hashes)
        return self._contrast(queries, inverse, batch, batch.log_weights, prefix="")

    def _source_term(self, features: Tensor, source: SourceBatch) -> Tensor:
        queries, inverse = distinct_queries(self.source_head, features, source.hashes)
        return self._contrast(queries, inverse, source, None, prefix="source_")

    def _contrast(
        self,
        queries: Tensor,
        inverse: Tensor | None,
        batch: TargetBatch | SourceBatch,
        log_weights: np.ndarray | None,
        *,
        prefix: str,
    ) -> Tensor:
        """Mean InfoNCE of B anchors.

        Args:
            queries: (M, D), of the distinct anchors.
            inverse: (B,), which of them each anchor is; None: M = B, each its own.
            batch: its keys and its mask.
            log_weights: (B, K) or None.
            prefix: of the metrics' names.
        """
        mask = batch.mask
        positives = torch.as_tensor(batch.positive_keys, device=queries.device)
        negatives = torch.as_tensor(batch.negative_keys, device=queries.device)
        queries = queries / self.settings.temperature
        negative_logits = similarities(queries, inverse, negatives)
        if inverse is not None:
            queries = queries.index_select(0, inverse)
        positive_logits = (queries * positives).sum(dim=1)
        n_unmasked = int(np.count_nonzero(mask))
        self.metrics[f"{prefix}masked_fraction"] = 1.0 - n_unmasked / max(mask.size, 1)
        weights = None
        if log_weights is not None:
            weights = torch.as_tensor(log_weights, device=queries.device)
            mask = mask & (log_weights > -np.inf)
        counts = mask.any(axis=1)
        n_usable = int(counts.sum())
        unusable = torch.as_tensor(~mask, device=queries.device)
        negative_logits = negative_logits.masked_fill(unusable, -torch.inf)
        losses = info_nce(positive_logits, negative_logits, log_weights=weights)
        won = (positive_logits.detach()[:, None] > negative_logits.detach()).all(dim=1)
        n_won = int((won.cpu().numpy() & counts).sum())
        self.metrics[f"{prefix}accuracy"] = n_won / max(n_usable, 1)
        self.metrics[f"{prefix}usable_anchors"] = float(n_usable)
        return losses.sum() / max(n_usable, 1)

    def n_encoded(self, n_anchors: int, *, with_source_memory: bool) -> int:
        """The anchors, and those of the source term that come from the source's memory."""
        from_source = n_anchors - n_anchors // 2 if self.settings.source_weight > 0 else 0
        return n_anchors + from_source * with_source_memory

    def after_step(self, learner: Learner) -> None:
        """Both averages move by one step."""
        if self.has_target_term:
            self.target_keys.step(self.target_head)

    def state_arrays(self) -> Mapping[str, np.ndarray]:
        """What its samplers remember."""
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
