"""What one step of contrastive distillation learns from: anchors, keys and masks, in numpy."""

from __future__ import annotations

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


@dataclass(frozen=True)
class TargetBatch:
    """Positives of the B anchors, and K negatives shared by them, of one snapshot."""

    positive_rows: np.ndarray
    """(B,) int64, in the memory of the task at hand."""
    negative_rows: np.ndarray
    """(K,) int64, there too."""
    keys: np.ndarray
    """(B + K, D) float32 of length 1: of the positives, then of the negatives."""
    mask: np.ndarray
    """(B, K) bool, True = usable; a line without True is an anchor that counts nothing."""
    log_weights: np.ndarray | None
    """(B, K) float32; None: all weigh 1."""
    hashes: np.ndarray
    """(B,) int64: of the anchors' observations, by which equal ones are told."""


@dataclass(frozen=True)
class SourceBatch:
    """S anchors of the source term, each its own positive, and K negatives shared by them."""

    n_from_target: int
    """The first so many of the target's anchors serve here too..."""
    from_source: Observations | None
    """...and then these, from the source's memory; None: there is none."""
    negative_rows: tuple[np.ndarray, np.ndarray]
    """Rows of the memory of the task at hand, and of the source's: K together."""
    keys: np.ndarray
    """(S + K, D) float32 of length 1: of the anchors, then of the negatives."""
    mask: np.ndarray
    """(S, K) bool, True = usable."""
    hashes: np.ndarray
    """(S,) int64: of the anchors' observations."""


@dataclass(frozen=True)
class ContrastiveBatch:
    """One auxiliary step."""

    anchors: Observations
    """(B, ...), from the memory of the task at hand."""
    target: TargetBatch | None
    source: SourceBatch | None
    metrics: Mapping[str, float]

    def source_anchors(self) -> Observations:
        """(S, ...): the observations of the source term's anchors."""
        assert self.source is not None
        own, others = self.source.n_from_target, self.source.from_source
        anchors = take(self.anchors, slice(0, own))
        return anchors if others is None else concatenate([anchors, others])


def draw_target(
    memory: Memory,
    anchor_rows: np.ndarray,
    pool: Pool,
    keys: AveragedKeys,
    generator: np.random.Generator,
    *,
    positives: str,
    positive_offset: float,
    window: int,
) -> TargetBatch:
    """Adds a positive to each anchor, keys, and masks."""
    if positives == "temporal":
        positive_rows, valid = draw_positives(
            memory, anchor_rows, generator, mean_offset=positive_offset
        )
    elif positives == "value_matched":
        positive_rows, valid = draw_value_matched(memory, anchor_rows, generator)
    else:
        positive_rows, valid = anchor_rows, np.ones(len(anchor_rows), np.bool_)
    anchors, matched = memory.info(anchor_rows), memory.info(positive_rows).where(valid)
    return TargetBatch(
        positive_rows=positive_rows,
        negative_rows=pool.rows,
        keys=keys.keys(memory, np.concatenate([positive_rows, pool.rows])),
        mask=negative_mask(anchors, matched, memory.info(pool.rows), window),
        log_weights=pool.log_weights,
        hashes=anchors.hashes,
    )


def draw_source(
    memory: Memory,
    anchor_rows: np.ndarray,
    pool: Pool,
    source_memory: Memory | None,
    keys: FrozenKeys,
    generator: np.random.Generator,
    *,
    sampler: NegativeSampler,
    learner: Learner,
    n_negatives: int,
    window: int,
) -> SourceBatch:
    """Takes half of the anchors and of the negatives from the source's memory, if there is one.

    There the frozen teacher is at home; the other half are those already drawn for the target
    term (`anchor_rows`, `pool`). Negatives weigh 1 here: the teacher's keys tell rows apart by
    what they are, whatever followed.

    Args:
        sampler: of negatives from the source's memory.
    """
    if source_memory is None or len(source_memory) == 0:
        anchors, negatives = memory.info(anchor_rows), memory.info(pool.rows)
        return SourceBatch(
            n_from_target=len(anchor_rows),
            from_source=None,
            negative_rows=(pool.rows, pool.rows[:0]),
            keys=keys.keys(memory, np.concatenate([anchor_rows, pool.rows])),
            mask=negative_mask(anchors, anchors, negatives, window),
            hashes=anchors.hashes,
        )
    own_anchors = anchor_rows[: len(anchor_rows) // 2]
    own_pool = generator.choice(
        pool.rows, min(n_negatives // 2, len(pool.rows)), replace=False, shuffle=False
    )
    rows = source_memory.sample_rows(len(anchor_rows) - len(own_anchors), generator)
    n_others = n_negatives - len(own_pool)
    insight = LearnerInsight(source_memory, keys, learner)
    pool_of_source = sampler.draw(source_memory, rows, n_others, generator, insight)
    check_pool(pool_of_source, sampler, source_memory, rows)
    source_pool = pool_of_source.rows
    anchors = RowInfo.concatenate([memory.info(own_anchors), source_memory.info(rows)])
    negatives = RowInfo.concatenate([memory.info(own_pool), source_memory.info(source_pool)])
    own_keys = keys.keys(memory, np.concatenate([own_anchors, own_pool]))
    source_keys = keys.keys(source_memory, np.concatenate([rows, source_pool]))
    (a, b), (c, d) = (
        np.split(each, [n]) for each, n in ((own_keys, len(own_anchors)), (source_keys, len(rows)))
    )
    return SourceBatch(
        n_from_target=len(own_anchors),
        from_source=source_memory.observations(rows),
        negative_rows=(own_pool, source_pool),
        keys=np.concatenate([a, c, b, d]),
        mask=negative_mask(anchors, anchors, negatives, window),
        hashes=anchors.hashes,
    )
