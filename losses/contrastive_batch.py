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


def draw_targets(
    memory: Memory,
    anchor_rows: Sequence[np.ndarray],
    pools: Sequence[Pool],
    keys: AveragedKeys,
    generator: np.random.Generator,
    *,
    positives: str,
    positive_offset: float,
    window: int,
    recent: bool,
) -> list[TargetBatch]:
    """Adds a positive to each anchor, keys, and masks, for the anchors and pools of several steps.

    `recent`: all are of the current rollout.
    """
    together = np.concatenate(anchor_rows)
    if positives == "temporal":
        matched, valid = draw_positives(memory, together, generator, mean_offset=positive_offset)
    elif positives == "value_matched":
        matched, valid = draw_value_matched(memory, together, generator, recent=recent)
    else:
        matched, valid = together, np.ones(len(together), np.bool_)
    positive_rows = _split_like(matched, anchor_rows)
    valid_ones = _split_like(valid, anchor_rows)
    lines = [pool.lines for pool in pools]
    found = _keys(keys, memory, [*positive_rows, *lines])
    batches = []
    for i, pool in enumerate(pools):
        anchors = memory.info(anchor_rows[i])
        matches = memory.info(positive_rows[i]).where(valid_ones[i])
        batches.append(
            TargetBatch(
                positive_rows=positive_rows[i],
                negative_rows=lines[i],
                positive_keys=found[i],
                negative_keys=found[len(pools) + i],
                mask=negative_mask(anchors, matches, memory.info(lines[i]), window),
                log_weights=pool.log_weights,
                hashes=anchors.hashes,
            )
        )
    return batches


def draw_sources(
    memory: Memory,
    anchor_rows: Sequence[np.ndarray],
    pools: Sequence[Pool],
    source_memory: Memory | None,
    keys: FrozenKeys,
    generator: np.random.Generator,
    *,
    sampler: NegativeSampler,
    learner: Learner,
    n_negatives: int,
    window: int,
) -> list[SourceBatch]:
    """Takes half of the anchors and of the negatives from the source's memory, if there is one.

    There the frozen teacher is at home; the other half are those already drawn for the target
    term of each step (`anchor_rows`, `pools`). Negatives weigh 1 here: the teacher's keys tell
    rows apart by what they are, whatever followed. Where the pools have lines, an anchor of one
    memory has some line of the other's pool.

    Args:
        sampler: of anchors and negatives from the source's memory.
    """
    if source_memory is None or len(source_memory) == 0:
        lines = [pool.lines for pool in pools]
        found = _keys(keys, memory, [*anchor_rows, *lines])
        batches = []
        for i, rows in enumerate(anchor_rows):
            anchors, negatives = memory.info(rows), memory.info(lines[i])
            batches.append(
                SourceBatch(
                    n_from_target=len(rows),
                    from_source=None,
                    negative_rows=(lines[i], lines[i][:, :0]),
                    positive_keys=found[i],
                    negative_keys=found[len(pools) + i],
                    mask=negative_mask(anchors, anchors, negatives, window),
                    hashes=anchors.hashes,
                )
            )
        return batches
    own_anchors = [rows[: len(rows) // 2] for rows in anchor_rows]
    insight = LearnerInsight(source_memory, keys, learner)
    n_anchors = [len(rows) - len(own) for rows, own in zip(anchor_rows, own_anchors, strict=True)]
    if sampler.looks_ahead and len(set(n_anchors)) == 1:
        sampler.look_ahead(source_memory, len(pools), n_anchors[0], generator, insight)
    their_anchors, own_pools, their_pools = [], [], []
    for pool, n, own_rows in zip(pools, n_anchors, own_anchors, strict=True):
        own = pool.thinned(n_negatives // 2, generator)
        rows = sampler.draw_anchors(source_memory, n, generator, insight)
        n_others = n_negatives - own.rows.shape[-1]
        others = sampler.draw(source_memory, rows, n_others, generator, insight)
        check_pool(others, sampler, source_memory, rows)
        own_pool, their_pool = _side_by_side(
            own.lines, others.lines, len(own_rows), len(own_rows) + len(rows)
        )
        their_anchors.append(rows)
        own_pools.append(own_pool)
        their_pools.append(their_pool)
    own_found = _keys(keys, memory, [*own_anchors, *own_pools])
    their_found = _keys(keys, source_memory, [*their_anchors, *their_pools])
    batches = []
    for i, rows in enumerate(their_anchors):
        anchors = RowInfo.concatenate([memory.info(own_anchors[i]), source_memory.info(rows)])
        negatives = RowInfo.concatenate(
            [memory.info(own_pools[i]), source_memory.info(their_pools[i])]
        )
        at = len(pools) + i
        batches.append(
            SourceBatch(
                n_from_target=len(own_anchors[i]),
                from_source=source_memory.observations(rows),
                negative_rows=(own_pools[i], their_pools[i]),
                positive_keys=np.concatenate([own_found[i], their_found[i]]),
                negative_keys=np.concatenate([own_found[at], their_found[at]], axis=1),
                mask=negative_mask(anchors, anchors, negatives, window),
                hashes=anchors.hashes,
            )
        )
    return batches


def duplicate_rate(memory: Memory, pool: Pool) -> float:
    """Share of the negatives of an anchor that repeat an observation among them."""
    hashes = np.sort(memory.hashes(pool.lines), axis=1)
    repeated = int(np.count_nonzero(hashes[:, 1:] == hashes[:, :-1]))
    return repeated / max(hashes.size, 1)


def _split_like(flat: np.ndarray, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`flat` (n, ...) in parts as long as these, one after the other."""
    return np.split(flat, np.cumsum([len(part) for part in parts])[:-1])


def _keys(
    keys: AveragedKeys | FrozenKeys, memory: Memory, rows: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Keys (*shape, D) for each of several arrays of rows, looked up together."""
    flat = [each.reshape(-1) for each in rows]
    found = _split_like(keys.keys(memory, np.concatenate(flat)), flat)
    return [
        part.reshape(*each.shape, part.shape[1]) for part, each in zip(found, rows, strict=True)
    ]


def _side_by_side(
    own: np.ndarray, others: np.ndarray, n_own: int, n_anchors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two pools' lines, (G, K) and (H, L), with as many lines each: one for each anchor at most.

    The anchors are `n_own` of the first memory and then those of the second, whose first one was
    drawn for line 0 of `others`.
    """
    lines = np.arange(min(math.lcm(len(own), len(others)), n_anchors))
    return own[lines % len(own)], others[(lines - n_own) % len(others)]
