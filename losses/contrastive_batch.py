"""What one step of contrastive distillation learns from: rows of memory, and masks, in numpy."""

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
    UniformNegatives,
    concatenate,
    draw_positives,
    negative_mask,
    take,
)


@dataclass(frozen=True)
class TargetBatch:
    """Positives of the B anchors, and K negatives shared by them."""

    positives: Observations
    """(B, ...): what came later in the anchor's episode."""
    negatives: Observations
    """(K, ...)"""
    mask: np.ndarray
    """(B, K) bool, True = usable; a line without True is an anchor that counts nothing."""
    log_weights: np.ndarray | None
    """(B, K) float32; None: all weigh 1."""


@dataclass(frozen=True)
class SourceBatch:
    """S anchors of the source term, each its own positive, and K negatives shared by them."""

    n_from_target: int
    """The first so many of the target's anchors serve here too..."""
    from_source: Observations | None
    """...and then these, from the source's memory; None: there is none."""
    negatives: Observations
    """(K, ...)"""
    mask: np.ndarray
    """(S, K) bool, True = usable."""


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
    generator: np.random.Generator,
    *,
    positive_offset: float,
    window: int,
) -> TargetBatch:
    """Adds a positive to each anchor, and masks."""
    positive_rows, valid = draw_positives(
        memory, anchor_rows, generator, mean_offset=positive_offset
    )
    anchors, positives = memory.info(anchor_rows), memory.info(positive_rows).where(valid)
    return TargetBatch(
        positives=memory.observations(positive_rows),
        negatives=memory.observations(pool.rows),
        mask=negative_mask(anchors, positives, memory.info(pool.rows), window),
        log_weights=pool.log_weights,
    )


def draw_source(
    memory: Memory,
    anchor_rows: np.ndarray,
    pool: Pool,
    source_memory: Memory | None,
    generator: np.random.Generator,
    *,
    sampler: NegativeSampler,
    n_negatives: int,
    window: int,
) -> SourceBatch:
    """Takes half of the anchors and of the negatives from the source's memory, if there is one.

    There the frozen teacher is at home; the other half are those already drawn for the target
    term (`anchor_rows`, `pool`). Negatives weigh 1 here: the teacher's keys tell rows apart by
    what they are, whatever followed.
    """
    if source_memory is None or len(source_memory) == 0:
        anchors, negatives = memory.info(anchor_rows), memory.info(pool.rows)
        mask = negative_mask(anchors, anchors, negatives, window)
        return SourceBatch(len(anchor_rows), None, memory.observations(pool.rows), mask)
    own_anchors, own_pool = anchor_rows[: len(anchor_rows) // 2], pool.rows[: n_negatives // 2]
    rows = source_memory.sample_rows(len(anchor_rows) - len(own_anchors), generator)
    # Nothing is "recent" in a memory that is no longer written.
    source_sampler = UniformNegatives() if sampler.recent else sampler
    source_pool = source_sampler.draw(
        source_memory, rows, n_negatives - len(own_pool), generator
    ).rows
    anchors = RowInfo.concatenate([memory.info(own_anchors), source_memory.info(rows)])
    negatives = RowInfo.concatenate([memory.info(own_pool), source_memory.info(source_pool)])
    return SourceBatch(
        n_from_target=len(own_anchors),
        from_source=source_memory.observations(rows),
        negatives=concatenate(
            [memory.observations(own_pool), source_memory.observations(source_pool)]
        ),
        mask=negative_mask(anchors, anchors, negatives, window),
    )
