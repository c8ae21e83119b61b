"""What one step of contrastive distillation learns from: anchors, keys and masks, in numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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


def draw_positive_rows(
    memory: Memory,
    anchor_rows: np.ndarray,
    generator: np.random.Generator,
    *,
    positives: str,
    positive_offset: float,
    recent: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """A row (B,) for each anchor, and whether it is to be used; `recent`: of this rollout."""
    if positives == "temporal":
        return draw_positives(memory, anchor_rows, generator, mean_offset=positive_offset)
    if positives == "value_matched":
        return draw_value_matched(memory, anchor_rows, generator, recent=recent)
    return anchor_rows, np.ones(len(anchor_rows), np.bool_)


def target_batch(
    memory: Memory,
    anchor_rows: np.ndarray,
    positives: tuple[np.ndarray, np.ndarray],
    pool: Pool,
    keys: AveragedKeys,
    *,
    window: int,
) -> TargetBatch:
    """Adds keys and masks to the rows of one step; `positives` as drawn for its anchors."""
    positive_rows, valid = positives
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


@dataclass(frozen=True)
class SourceRows:
    """Rows of one step of the source term, in one of the memories."""

    memory: Memory
    anchors: np.ndarray
    """(n,)"""
    lines: np.ndarray
    """(G, k): negatives, with those of the other memory beside them."""


def draw_source_rows(
    own: SourceRows,
    source_memory: Memory,
    insight: LearnerInsight,
    generator: np.random.Generator,
    *,
    sampler: NegativeSampler,
    n_negatives: int,
) -> list[SourceRows]:
    """Keeps half of the anchors and of the negatives, and takes as many from the source's memory.

    There the frozen teacher is at home. Where the pools have lines, an anchor of one memory has
    some line of the other's pool.

    Args:
        own: those drawn for the target term.
        source_memory: not empty.
        insight: into it.
        sampler: of anchors and negatives from it.
    """
    anchors = own.anchors[: len(own.anchors) // 2]
    kept = Pool(own.lines).thinned(n_negatives // 2, generator)
    n_others = n_negatives - kept.rows.shape[-1]
    rows = sampler.draw_anchors(source_memory, len(own.anchors) - len(anchors), generator, insight)
    others = sampler.draw(source_memory, rows, n_others, generator, insight)
    check_pool(others, sampler, source_memory, rows)
    lines, source_lines = _side_by_side(
        kept.lines, others.lines, len(anchors), len(anchors) + len(rows)
    )
    return [
        SourceRows(own.memory, anchors, lines),
        SourceRows(source_memory, rows, source_lines),
    ]


def source_batch(parts: Sequence[SourceRows], keys: FrozenKeys, *, window: int) -> SourceBatch:
    """Adds keys and masks to the rows of one step: of the memory at hand, and of the source's.

    Negatives weigh 1 here: the teacher's keys tell rows apart by what they are, whatever followed.
    """
    anchors = RowInfo.concatenate([part.memory.info(part.anchors) for part in parts])
    negatives = RowInfo.concatenate([part.memory.info(part.lines) for part in parts])
    found = [_keys(keys, part.memory, part.anchors, part.lines) for part in parts]
    own, others = parts[0], parts[1:]
    return SourceBatch(
        n_from_target=len(own.anchors),
        from_source=others[0].memory.observations(others[0].anchors) if others else None,
        negative_rows=(own.lines, others[0].lines if others else own.lines[:, :0]),
        positive_keys=np.concatenate([positives for positives, _ in found]),
        negative_keys=np.concatenate([lines for _, lines in found], axis=1),
        mask=negative_mask(anchors, anchors, negatives, window),
        hashes=anchors.hashes,
    )


def duplicate_rate(memory: Memory, pool: Pool) -> float:
    """Share of the negatives of an anchor that repeat an observation among them."""
    hashes = np.sort(memory.hashes(pool.lines), axis=1)
    repeated = int(np.count_nonzero(hashes[:, 1:] == hashes[:, :-1]))
    return repeated / max(hashes.size, 1)


def _keys(
    keys: AveragedKeys | FrozenKeys, memory: Memory, rows: np.ndarray, lines: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Keys (n, D) of rows and (G, K, D) of lines, looked up together."""
    both = keys.keys(memory, np.concatenate([rows, lines.reshape(-1)]))
    n = len(rows)
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
