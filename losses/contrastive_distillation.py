"""Contrastive distillation: the encoder keeps what predicts the future, and what a teacher knew.

After Lengerich et al. 2022, https://arxiv.org/abs/2212.11353: a reinforcement-learning
formulation of its claims, not a reproduction.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import ClassVar, get_args

import numpy as np
import torch
from torch import Tensor, nn

from contrastive_distillation.memory import (
    POSITIVES,
    Memory,
    NegativeSampler,
    UniformNegatives,
    check_pool,
    concatenate,
    make_negatives,
    n_observations,
    with_shuffled_returns,
)

from . import checks
from .annealing import Anneal, annealed
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
        """
        Args:
            negatives: a name of `memory.NEGATIVES`, or a sampler with settings of its own.
            n_negatives: K, the number of negatives of each anchor; >= 1.
            temperature: tau; cosines are divided by it; > 0.
            target_weight: of the target term (information about the future); 0 disables it.
            source_weight: of the source term (information from the teacher); 0 disables it.
            teacher: the frozen source encoder; None disables the source term.
            source_anneal: how the source term's weight falls to 0 over one learn().
            momentum: of the moving averages of encoder and head, per auxiliary step; in [0, 1).
            projection_dim: width of the target term's head; >= 1.
            positive_offset: mean of the geometric offset from anchor to positive, in steps; >= 1.
            window: steps; rows of the same episode this near to anchor or positive are no
                negatives; >= 0.
            positives: how the positive of an anchor is chosen, see `memory.POSITIVES`.
            band_low: share of the nearest ranks that nearest and value_contrast skip.
            band_high: share of the ranks up to which they draw; in (band_low, 1].
            uniform_share: of the negatives that are drawn uniformly, beside hard ones; in [0.5, 1].
            n_searched: rows of the memory among which hard negatives are searched; >= 2.
            index: how those are searched: "auto" or "flat", the exact search.
            refresh_frames: rows written between two snapshots of the averages; >= 1.
            refresh_drift: a snapshot whose keys have drifted by less (1 - cosine) is kept.
            shuffled_values: control: permute returns within each task, at each auxiliary step.

        Raises:
            ValueError: a setting is outside its range, or no term is left.
        """
        super().__init__()
        self.n_negatives, self.projection_dim, self.refresh_frames = checks.integers(
            1,
            n_negatives=n_negatives,
            projection_dim=projection_dim,
            refresh_frames=refresh_frames,
        )
        (self.window,) = checks.integers(0, window=window)
        (self.n_searched,) = checks.integers(2, n_searched=n_searched)
        self.temperature = checks.temperature(temperature)
        self.momentum = checks.momentum(momentum)
        (self.positive_offset,) = checks.numbers(1, positive_offset=positive_offset)
        self.target_weight, self.source_weight = checks.numbers(
            0, target_weight=target_weight, source_weight=source_weight
        )
        self.band_low, self.band_high = checks.numbers(0, 1, band_low=band_low, band_high=band_high)
        (self.uniform_share,) = checks.numbers(0.5, 1, uniform_share=uniform_share)
        (self.refresh_drift,) = checks.numbers(0, 2, refresh_drift=refresh_drift)
        self.source_anneal = checks.one_of(get_args(Anneal), "source_anneal", source_anneal)
        self.positives = checks.one_of(tuple(POSITIVES), "positives", positives)
        self.shuffled_values = checks.boolean("shuffled_values", shuffled_values)
        self.index = index
        searched = {
            "band": (self.band_low, self.band_high),
            "uniform_share": self.uniform_share,
            "n_searched": self.n_searched,
            "index": index,
        }
        make_negatives("nearest", **searched)  # checks their combination
        if target_weight == 0 and source_weight == 0:
            raise ValueError("target_weight and source_weight are both 0: no term is left")
        self.sampler = make_negatives(negatives, **searched)
        self.negatives = self.sampler.name
        self.source_negatives = (  # a source's memory has no current rollout
            UniformNegatives() if self.sampler.recent else copy.deepcopy(self.sampler)
        )
        self.has_own_sampler = isinstance(negatives, NegativeSampler)
        if shuffled_values and not (self.sampler.uses_returns or positives == "value_matched"):
            raise ValueError(
                f"shuffled_values: neither negatives '{self.negatives}' nor positives "
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
        if self.has_target_term:
            self.target_head = projection_head(learner.n_features, self.projection_dim)
            self.target_keys = AveragedKeys(
                learner,
                self.target_head,
                width=self.projection_dim,
                momentum=self.momentum,
                refresh_frames=self.refresh_frames,
                refresh_drift=self.refresh_drift,
            )
        if self.teacher is not None and self.has_source_term:
            self.source_head = projection_head(learner.n_features, self.teacher.n_features)
        self.source_keys = None if self.teacher is None else FrozenKeys(self.teacher)
        self._learner = learner
        self.restore_arrays({})  # the samplers' state belonged to another learner
        self.to(learner.device)

    def head_parameters(self) -> list[nn.Parameter]:
        heads = [getattr(self, name, None) for name in ("target_head", "source_head")]
        return [parameter for head in heads if head is not None for parameter in head.parameters()]

    def term_weights(self, progress: float) -> Mapping[str, float]:
        weights = {}
        if self.has_target_term:
            weights["target"] = self.target_weight
        if self.has_source_term:
            factor = annealed(self.source_anneal, progress)
            weights["source"] = self.source_weight * factor
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
        recent = self.sampler.recent
        if len(memory.recent_rows() if recent else memory) < 2:
            return None
        if self.shuffled_values:
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
        rows = self.sampler.draw_anchors(memory, n_anchors, generator, insight)
        pool = self.sampler.draw(memory, rows, self.n_negatives, generator, insight)
        check_pool(pool, self.sampler, memory, rows)
        metrics["duplicate_rate"] = duplicate_rate(memory, pool)
        target = source = None
        if self.has_target_term:
            target = target_batch(
                memory,
                rows,
                pool,
                self.target_keys,
                generator,
                chosen=self.positives,
                mean_offset=self.positive_offset,
                window=self.window,
                recent=recent,
            )
        if self.source_keys is not None and self.has_source_term:
            source = source_batch(
                MemoryRows(memory, rows, pool.rows_by_group),
                source_memory,
                self.source_keys,
                self._learner,
                generator,
                sampler=self.source_negatives,
                n_negatives=self.n_negatives,
                window=self.window,
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
        queries = queries / self.temperature
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
        from_source = n_anchors - n_anchors // 2 if self.source_weight > 0 else 0
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
        return {"negatives": self.sampler, "source_negatives": self.source_negatives}
