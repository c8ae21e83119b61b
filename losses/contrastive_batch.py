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
    """Positives of the B anchors, and a pool of K negatives, of one snapshot."""

    positive_rows: np.ndarray
    """(B,) int64, in the memory of the task at hand."""
    negative_rows: np.ndarray
    """(K,) int64, there too."""
    keys: np.ndarray
    """(B + K, D) float32 of length 1: of the positives, then of the negatives."""
    mask: np.ndarray
    """(B, K) bool, True = usable: meant for the anchor, and not masked.

    A line without True is an anchor that counts nothing.
    """
    n_pairs: int
    """Pairs of an anchor and a negative meant for it: B K where the pool is shared by all."""
    log_weights: np.ndarray | None
    """(B, K) float32; None: all weigh 1."""
    hashes: np.ndarray
    """(B,) int64: of the anchors' observations, by which equal ones are told."""


@dataclass(frozen=True)
class SourceBatch:
    """S anchors of the source term, each its own positive, and a pool of K negatives."""

    n_from_target: int
    """The first so many of the target's anchors serve here too..."""
    from_source: Observations | None
    """...and then these, from the source's memory; None: there is none."""
    negative_rows: tuple[np.ndarray, np.ndarray]
    """Rows of the memory of the task at hand, and of the source's: K together."""
    keys: np.ndarray
    """(S + K, D) float32 of length 1: of the anchors, then of the negatives."""
    mask: np.ndarray
    """(S, K) bool, True = usable: meant for the anchor, and not masked."""
    n_pairs: int
    """Pairs of an anchor and a negative meant for it."""
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
    recent: bool,
) -> TargetBatch:
    """Adds a positive to each anchor, keys, and masks; `recent`: all of the current rollout."""
    if positives == "temporal":
        positive_rows, valid = draw_positives(
            memory, anchor_rows, generator, mean_offset=positive_offset
        )
    elif positives == "value_matched":
        positive_rows, valid = draw_value_matched(memory, anchor_rows, generator, recent=recent)
    else:
        positive_rows, valid = anchor_rows, np.ones(len(anchor_rows), np.bool_)
    anchors, matched = memory.info(anchor_rows), memory.info(positive_rows).where(valid)
    return TargetBatch(
        positive_rows=positive_rows,
        negative_rows=pool.rows,
        keys=keys.keys(memory, np.concatenate([positive_rows, pool.rows])),
        mask=_only_meant(negative_mask(anchors, matched, memory.info(pool.rows), window), pool),
        n_pairs=pool.n_pairs(len(anchor_rows)),
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
    what they are, whatever followed. Where negatives are meant for some anchors alone, an anchor
    of one memory has in the other's pool the negatives of the anchor at its place there.

    Args:
        sampler: of anchors and negatives from the source's memory.
    """
    if source_memory is None or len(source_memory) == 0:
        anchors, negatives = memory.info(anchor_rows), memory.info(pool.rows)
        return SourceBatch(
            n_from_target=len(anchor_rows),
            from_source=None,
            negative_rows=(pool.rows, pool.rows[:0]),
            keys=keys.keys(memory, np.concatenate([anchor_rows, pool.rows])),
            mask=_only_meant(negative_mask(anchors, anchors, negatives, window), pool),
            n_pairs=pool.n_pairs(len(anchor_rows)),
            hashes=anchors.hashes,
        )
    own_anchors = anchor_rows[: len(anchor_rows) // 2]
    n_lines = max(len(own_anchors), 1)
    own = pool.thinned(n_lines, n_negatives // 2, generator)
    insight = LearnerInsight(source_memory, keys, learner)
    rows = sampler.draw_anchors(
        source_memory, len(anchor_rows) - len(own_anchors), generator, insight
    )
    n_others = n_negatives - own.n_pairs(n_lines) // n_lines
    others = sampler.draw(source_memory, rows, n_others, generator, insight)
    check_pool(others, sampler, source_memory, rows)
    own_pool, source_pool = own.rows, others.rows
    both = _of_both(own, others, len(own_anchors), len(rows))
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
        mask=_only_meant(negative_mask(anchors, anchors, negatives, window), both),
        n_pairs=both.n_pairs(len(anchors)),
        hashes=anchors.hashes,
    )


def duplicate_rate(memory: Memory, pool: Pool) -> float:
    """Share of the negatives of an anchor that repeat an observation among them."""
    hashes = memory.hashes(pool.rows)
    if pool.meant is None:
        return 1.0 - len(np.unique(hashes)) / max(len(hashes), 1)
    order = np.argsort(hashes, kind="stable")
    _, starts = np.unique(hashes[order], return_index=True)
    n_distinct = int(np.logical_or.reduceat(pool.meant[:, order], starts, axis=1).sum())
    return 1.0 - n_distinct / max(int(pool.meant.sum()), 1)


def _only_meant(mask: np.ndarray, pool: Pool) -> np.ndarray:
    return mask if pool.meant is None else mask & pool.meant


def _of_both(own: Pool, others: Pool, n_own: int, n_others: int) -> Pool:
    """The pools side by side, with lines for the anchors of both memories."""
    places = np.concatenate([np.arange(n_own), np.arange(n_others)])
    meant = [
        np.ones((len(places), len(pool.rows)), np.bool_)
        if pool.meant is None
        else pool.meant[places % len(pool.meant)]
        for pool in (own, others)
    ]
    return Pool(np.concatenate([own.rows, others.rows]), meant=np.concatenate(meant, axis=1))
