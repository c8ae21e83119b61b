"""One step of contrastive distillation in numpy: positives, negatives, their keys and masks.

B is the number of anchors, K the number of negatives of each, and D the width of the keys.
Negatives come in G groups: anchor b has group `b mod G`. With G = 1 all anchors share one group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from contrastive_distillation.memory import (
    Memory,
    NegativeSampler,
    Observations,
    Pool,
    RowInfo,
    check_pool,
    concatenate,
    draw_positives,
    draw_value_matched,
    negative_mask,
    take,
)

from .auxiliary import Learner
from .teacher_keys import AveragedKeys, FrozenKeys, LearnerInsight


@dataclass(frozen=True, kw_only=True)
class AnchorBatch:
    """The input of one term besides the anchors' features."""

    positive_keys: np.ndarray
    """(B, D) float32 of length 1."""
    negative_keys: np.ndarray
    """(G, K, D) float32 of length 1."""
    mask: np.ndarray
    """(B, K) bool, True = usable. An anchor without a usable negative does not count."""
    log_weights: np.ndarray | None = None
    """(B, K) float32, log w; None: all negatives weigh 1."""
    hashes: np.ndarray
    """(B,) int64, of the anchors' observations; equal observations have equal hashes."""


@dataclass(frozen=True, kw_only=True)
class TargetBatch(AnchorBatch):
    """Positives and negatives from the agent's own memory, with keys of one snapshot."""

    positive_rows: np.ndarray
    """(B,) int64"""
    negative_rows: np.ndarray
    """(G, K) int64"""


@dataclass(frozen=True, kw_only=True)
class SourceBatch(AnchorBatch):
    """Anchors and negatives from both memories; each anchor is its own positive."""

    n_from_target: int
    """The number of anchors shared with the target term, the first ones of it."""
    from_source: Observations | None
    """The other anchors, from the source's memory; None without one."""
    negative_rows: tuple[np.ndarray, np.ndarray]
    """(G, K') rows of the agent's memory, and (G, K - K') rows of the source's."""


@dataclass(frozen=True)
class ContrastiveBatch:
    """One auxiliary step."""

    anchors: Observations
    """(B, ...), from the agent's own memory."""
    target: TargetBatch | None
    source: SourceBatch | None
    metrics: Mapping[str, float]

    def source_anchors(self) -> Observations:
        """The observations of the source term's anchors."""
        assert self.source is not None
        own, others = self.source.n_from_target, self.source.from_source
        anchors = take(self.anchors, slice(0, own))
        return anchors if others is None else concatenate([anchors, others])


def target_batch(
    memory: Memory,
    anchor_rows: np.ndarray,
    pool: Pool,
    keys: AveragedKeys,
    generator: np.random.Generator,
    *,
    chosen: str,
    mean_offset: float,
    window: int,
    recent: bool,
) -> TargetBatch:
    """Draw the positives of the anchors, and add keys and masks.

    Args:
        memory: the agent's own.
        anchor_rows: (B,).
        pool: the negatives.
        keys: their source.
        generator: the only source of randomness.
        chosen: how the positives are chosen, see `memory.POSITIVES`.
        mean_offset: of temporal positives, in steps.
        window: steps; rows of the same episode this near are no negatives.
        recent: whether value-matched positives come from the current rollout alone.
    """
    positive_rows, valid = anchor_rows, np.ones(len(anchor_rows), np.bool_)
    if chosen == "temporal":
        positive_rows, valid = draw_positives(
            memory, anchor_rows, generator, mean_offset=mean_offset
        )
    elif chosen == "value_matched":
        positive_rows, valid = draw_value_matched(memory, anchor_rows, generator, recent=recent)
    anchors, positives = memory.info(anchor_rows), memory.info(positive_rows).where(valid)
    positive_keys, negative_keys = _keys(keys, memory, positive_rows, pool.rows_by_group)
    return TargetBatch(
        positive_rows=positive_rows,
        negative_rows=pool.rows_by_group,
        positive_keys=positive_keys,
        negative_keys=negative_keys,
        mask=negative_mask(anchors, positives, memory.info(pool.rows_by_group), window),
        log_weights=pool.log_weights,
        hashes=anchors.hashes,
    )


@dataclass(frozen=True)
class MemoryRows:
    """Anchors and negatives from one memory."""

    memory: Memory
    anchors: np.ndarray
    """(n,) rows"""
    negatives: np.ndarray
    """(G, k) rows"""


def source_batch(
    own: MemoryRows,
    source_memory: Memory | None,
    keys: FrozenKeys,
    learner: Learner,
    generator: np.random.Generator,
    *,
    sampler: NegativeSampler,
    n_negatives: int,
    window: int,
) -> SourceBatch:
    """Replace half of the anchors and negatives by the source's, and add keys and masks.

    All negatives weigh 1: the teacher's keys do not depend on the agent's returns.

    Args:
        own: the anchors and negatives of the target term.
        source_memory: not empty; None: all anchors and negatives are the agent's own.
        keys: of the teacher.
        learner: the agent, for the sampler's `LearnerInsight`.
        generator: the only source of randomness.
        sampler: draws from the source's memory.
        n_negatives: of each anchor, from both memories together.
        window: steps; rows of the same episode this near are no negatives.
    """
    parts = [own]
    if source_memory is not None:
        insight = LearnerInsight(source_memory, keys, learner)
        parts = _halves(own, source_memory, insight, generator, sampler, n_negatives)
    anchors = RowInfo.concatenate([part.memory.info(part.anchors) for part in parts])
    negatives = RowInfo.concatenate([part.memory.info(part.negatives) for part in parts])
    found = [_keys(keys, part.memory, part.anchors, part.negatives) for part in parts]
    first, others = parts[0], parts[1:]
    return SourceBatch(
        n_from_target=len(first.anchors),
        from_source=others[0].memory.observations(others[0].anchors) if others else None,
        negative_rows=(
            first.negatives,
            others[0].negatives if others else first.negatives[:, :0],
        ),
        positive_keys=np.concatenate([positive for positive, _ in found]),
        negative_keys=np.concatenate([negative for _, negative in found], axis=1),
        mask=negative_mask(anchors, anchors, negatives, window),
        hashes=anchors.hashes,
    )


def _halves(
    own: MemoryRows,
    source_memory: Memory,
    insight: LearnerInsight,
    generator: np.random.Generator,
    sampler: NegativeSampler,
    n_negatives: int,
) -> list[MemoryRows]:
    """Half of the own anchors and negatives, and as many from the source's memory."""
    anchors = own.anchors[: len(own.anchors) // 2]
    kept = Pool(own.negatives).thinned(n_negatives // 2, generator)
    n_others = n_negatives - kept.rows.shape[-1]
    rows = sampler.draw_anchors(source_memory, len(own.anchors) - len(anchors), generator, insight)
    others = sampler.draw(source_memory, rows, n_others, generator, insight)
    check_pool(others, sampler, source_memory, rows)
    own_groups, source_groups = paired_groups(
        kept.rows_by_group, others.rows_by_group, len(anchors), len(anchors) + len(rows)
    )
    return [
        MemoryRows(own.memory, anchors, own_groups),
        MemoryRows(source_memory, rows, source_groups),
    ]


def paired_groups(
    own: np.ndarray, others: np.ndarray, n_own: int, n_anchors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Repeat the groups of two pools, (G, K) and (H, L), to the same number of groups.

    Each anchor keeps its group. The first `n_own` of the `n_anchors` anchors were drawn for `own`,
    the rest for `others`, beginning with its group 0. There is at most one group for each anchor.
    """
    groups = np.arange(min(math.lcm(len(own), len(others)), n_anchors))
    return own[groups % len(own)], others[(groups - n_own) % len(others)]


def duplicate_rate(memory: Memory, pool: Pool) -> float:
    """Share of an anchor's negatives that repeat an observation among them."""
    hashes = np.sort(memory.hashes(pool.rows_by_group), axis=1)
    repeated = int(np.count_nonzero(hashes[:, 1:] == hashes[:, :-1]))
    return repeated / max(hashes.size, 1)


def _keys(
    keys: AveragedKeys | FrozenKeys, memory: Memory, rows: np.ndarray, negatives: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Keys (n, D) of rows (n,), and (G, k, D) of negatives (G, k), looked up together."""
    both = keys.keys(memory, np.concatenate([rows, negatives.reshape(-1)]))
    n = len(rows)
    return both[:n], both[n:].reshape(*negatives.shape, both.shape[1])
