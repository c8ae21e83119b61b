"""What one step of contrastive distillation learns from: anchors, keys and masks, in numpy."""

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


@dataclass(frozen=True)
class TargetBatch:
    """Positives of the B anchors, and a pool of negatives (`memory.Pool`), of one snapshot."""

    positive_rows: np.ndarray
    """(B,) int64, in the memory of the task at hand."""
    negative_rows: np.ndarray
    """(G, K) int64, there too: anchor b has line `b mod G`; G = 1 where all share them."""
    positive_keys: np.ndarray
    """(B, D) float32 of length 1."""
    negative_keys: np.ndarray
    """(G, K, D) float32 of length 1."""
    mask: np.ndarray
    """(B, K) bool, True = usable. A line without True is an anchor that counts nothing."""
    log_weights: np.ndarray | None
    """(B, K) float32; None: all weigh 1."""
    hashes: np.ndarray
    """(B,) int64: of the anchors' observations, by which equal ones are told."""


@dataclass(frozen=True)
class SourceBatch:
    """S anchors of the source term, each its own positive, and a pool of negatives."""

    n_from_target: int
    """The first so many of the target's anchors serve here too..."""
    from_source: Observations | None
    """...and then these, from the source's memory; None: there is none."""
    negative_rows: tuple[np.ndarray, np.ndarray]
    """(G, .) rows of the memory of the task at hand, and of the source's: K together in a line.

    Anchor b has line `b mod G`, as in the target term.
    """
    positive_keys: np.ndarray
    """(S, D) float32 of length 1: of the anchors."""
    negative_keys: np.ndarray
    """(G, K, D) float32 of length 1."""
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
    positive_keys, negative_keys = _keys(keys, memory, positive_rows, pool.lines)
    return TargetBatch(
        positive_rows=positive_rows,
        negative_rows=pool.lines,
        positive_keys=positive_keys,
        negative_keys=negative_keys,
        mask=negative_mask(anchors, matched, memory.info(pool.lines), window),
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
    what they are, whatever followed. Where the pools have lines, an anchor of one memory has some
    line of the other's pool.

    Args:
        sampler: of anchors and negatives from the source's memory.
    """
    if source_memory is None or len(source_memory) == 0:
        anchors, negatives = memory.info(anchor_rows), memory.info(pool.lines)
        positive_keys, negative_keys = _keys(keys, memory, anchor_rows, pool.lines)
        return SourceBatch(
            n_from_target=len(anchor_rows),
            from_source=None,
            negative_rows=(pool.lines, pool.lines[:, :0]),
            positive_keys=positive_keys,
            negative_keys=negative_keys,
            mask=negative_mask(anchors, anchors, negatives, window),
            hashes=anchors.hashes,
        )
    own_anchors = anchor_rows[: len(anchor_rows) // 2]
    own = pool.thinned(n_negatives // 2, generator)
    insight = LearnerInsight(source_memory, keys, learner)
    rows = sampler.draw_anchors(
        source_memory, len(anchor_rows) - len(own_anchors), generator, insight
    )
    n_others = n_negatives - own.rows.shape[-1]
    others = sampler.draw(source_memory, rows, n_others, generator, insight)
    check_pool(others, sampler, source_memory, rows)
    own_pool, source_pool = _side_by_side(
        own.lines, others.lines, len(own_anchors), len(own_anchors) + len(rows)
    )
    anchors = RowInfo.concatenate([memory.info(own_anchors), source_memory.info(rows)])
    negatives = RowInfo.concatenate([memory.info(own_pool), source_memory.info(source_pool)])
    own_keys = _keys(keys, memory, own_anchors, own_pool)
    source_keys = _keys(keys, source_memory, rows, source_pool)
    return SourceBatch(
        n_from_target=len(own_anchors),
        from_source=source_memory.observations(rows),
        negative_rows=(own_pool, source_pool),
        positive_keys=np.concatenate([own_keys[0], source_keys[0]]),
        negative_keys=np.concatenate([own_keys[1], source_keys[1]], axis=1),
        mask=negative_mask(anchors, anchors, negatives, window),
        hashes=anchors.hashes,
    )


def duplicate_rate(memory: Memory, pool: Pool) -> float:
    """Share of the negatives of an anchor that repeat an observation among them."""
    hashes = np.sort(memory.hashes(pool.lines), axis=1)
    repeated = int(np.count_nonzero(hashes[:, 1:] == hashes[:, :-1]))
    return repeated / max(hashes.size, 1)


def _keys(
    keys: AveragedKeys | FrozenKeys, memory: Memory, positive_rows: np.ndarray, lines: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Keys (B, D) of positives and (G, K, D) of negatives, looked up together."""
    both = keys.keys(memory, np.concatenate([positive_rows, lines.reshape(-1)]))
    n = len(positive_rows)
    return both[:n], both[n:].reshape(*lines.shape, both.shape[1])


def _side_by_side(
    own: np.ndarray, others: np.ndarray, n_own: int, n_anchors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two pools' lines, (G, K) and (H, L), with as many lines each: one for each anchor at most.

    The anchors are `n_own` of the first memory and then those of the second, whose first one was
    drawn for line 0 of `others`.
    """
    lines = np.arange(min(math.lcm(len(own), len(others)), n_anchors))
    return own[lines % len(own)], others[(lines - n_own) % len(others)]
