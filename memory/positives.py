"""Positives: what came later in the anchor's episode, or what is worth as much in another."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from .base import Memory
from .observations import Int64Array

POSITIVES: Mapping[str, str] = MappingProxyType(
    {
        "temporal": "a later state of the anchor's episode",
        "same": "the anchor's own observation, as the teacher sees it",
        "value_matched": "a state of another episode after which as much followed",
    }
)
"""Kinds of positives, and what each is."""

_N_REDRAWS = 4
_N_CANDIDATES = 256
_TOLERANCE = 0.1
_SMALLEST_TOLERANCE = 1e-7


def draw_positives(
    memory: Memory,
    anchor_rows: np.ndarray,
    generator: np.random.Generator,
    *,
    mean_offset: float,
    distinct: bool = True,
) -> tuple[Int64Array, np.ndarray]:
    """For each anchor a strictly later row of its episode, by default another observation.

    The offset in steps is geometric, `P(k) ∝ (1 - p)^(k - 1) p` with `p = 1 / mean_offset`,
    given that the row is stored: so it never crosses the episode's end.

    Args:
        memory: that of the anchors.
        anchor_rows: (B,).
        generator: the only source of random numbers.
        mean_offset: steps, >= 1 (1: always the next row).
        distinct: a row that shows the anchor's own observation (equal hash) is drawn again, a few
            times. False leaves the chances as they are, as an unbiased measurement needs.

    Returns:
        rows (B,) int64; valid (B,) bool: False, with the anchor itself in place, where the
        episode has no later row or none of the draws differed from the anchor.
    """
    if not mean_offset >= 1.0:
        raise ValueError(f"mean_offset is {mean_offset} steps; it must be 1 or more")
    remaining = memory.remaining(anchor_rows)
    some = np.flatnonzero(remaining >= 1)
    n_draws = 1 + _N_REDRAWS if distinct else 1
    tried = np.concatenate([anchor_rows[some]] * n_draws)
    offsets = _geometric(generator, mean_offset, np.concatenate([remaining[some]] * n_draws))
    later, _inside = memory.later_rows(tried, offsets)
    differs = ((memory.hashes(later) != memory.hashes(tried)) | (not distinct)).reshape(n_draws, -1)
    first = differs.argmax(axis=0)  # of the draws that differ
    found = later.reshape(n_draws, -1)[first, np.arange(len(some))]
    rows = anchor_rows.copy()
    valid = np.zeros(len(rows), dtype=np.bool_)
    valid[some] = differs.any(axis=0)
    rows[some] = np.where(valid[some], found, anchor_rows[some])
    return rows, valid


def _geometric(generator: np.random.Generator, mean: float, largest: np.ndarray) -> Int64Array:
    """Geometric numbers >= 1, given that each is <= its `largest` (n,): by the inverse CDF."""
    uniform = generator.random(len(largest))
    if mean == 1.0:
        return np.ones(len(largest), dtype=np.int64)
    log_q = np.log1p(-1.0 / mean)
    mass = -np.expm1(largest * log_q)  # 1 - q^largest
    offsets = np.ceil(np.log1p(-uniform * mass) / log_q).astype(np.int64)
    clipped: Int64Array = np.clip(offsets, 1, largest)
    return clipped


def draw_value_matched(
    memory: Memory,
    anchor_rows: np.ndarray,
    generator: np.random.Generator,
    *,
    recent: bool = False,
) -> tuple[Int64Array, np.ndarray]:
    """For each anchor a row of another episode, of any task, with nearly the same return-to-go.

    Out of 256 rows drawn uniformly, one is picked at random among those of other episodes and
    other observations (by hash) whose known return differs from the anchor's by at most a tenth
    of the standard deviation of the returns known among them, over all tasks. Where these do not
    vary yet, as before the first reward, nothing matches.

    Args:
        memory: that of the anchors.
        anchor_rows: (B,).
        generator: the only source of random numbers.
        recent: only rows of the current rollout.

    Returns:
        rows (B,) int64; valid (B,) bool: False, with the anchor itself in place, where the
        anchor's return is not known or no row matches.
    """
    candidates = memory.sample_rows(_N_CANDIDATES, generator, recent=recent)
    candidates = candidates[memory.return_known(candidates)]
    if not len(candidates):
        return anchor_rows.copy(), np.zeros(len(anchor_rows), np.bool_)
    returns = memory.returns(candidates)
    tolerance = _TOLERANCE * returns.std()
    matches = np.abs(memory.returns(anchor_rows)[:, None] - returns) <= tolerance
    matches &= tolerance > _SMALLEST_TOLERANCE
    matches &= memory.return_known(anchor_rows)[:, None]
    matches &= memory.episodes(anchor_rows)[:, None] != memory.episodes(candidates)
    matches &= memory.hashes(anchor_rows)[:, None] != memory.hashes(candidates)
    picked = np.where(matches, generator.random(matches.shape), -1.0).argmax(axis=1)
    valid = matches.any(axis=1)
    return np.where(valid, candidates[picked], anchor_rows), valid
