"""Which negatives may stand against which anchors: the one place that decides."""

from __future__ import annotations

import numpy as np

from .rows import RowInfo


def negative_mask(
    anchors: RowInfo, positives: RowInfo, negatives: RowInfo, window: int
) -> np.ndarray:
    """True where negative k may be used against anchor b.

    It may not, if to the anchor *or* to its positive it is the same observation (hash of the
    encoder's whole input), the same row, or a row of the same episode at most `window` steps
    away; nor if it is invalid, or if the anchor or its positive is (the whole line is False
    then, and `info_nce` gives such an anchor exactly 0).

    Args:
        anchors, positives: B rows each.
        negatives: K rows, shared by all anchors.
        window: steps, >= 0, inclusive.

    Returns:
        (B, K) bool.
    """
    if window < 0:
        raise ValueError(f"window is {window} steps; it must be 0 or more")
    if len(anchors) != len(positives):
        raise ValueError(f"{len(anchors)} anchors but {len(positives)} positives")
    negative_rows = np.where(negatives.rows < 0, -2, negatives.rows)  # "none" is no one's equal
    usable: np.ndarray = (anchors.valid & positives.valid)[:, None] & negatives.valid[None, :]
    for rows in (anchors, positives):
        usable &= rows.hashes[:, None] != negatives.hashes
        usable &= rows.rows[:, None] != negative_rows
        same_episode = np.flatnonzero(rows.episodes[:, None] == negatives.episodes)  # few pairs
        b, k = np.divmod(same_episode, max(len(negatives), 1))
        near = (np.abs(rows.steps[b] - negatives.steps[k]) <= window) & (rows.episodes[b] >= 0)
        usable[b[near], k[near]] = False
    return usable
