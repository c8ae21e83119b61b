"""Which negatives may stand against which anchors: the one place that decides."""

from __future__ import annotations

import numpy as np

from .rows import RowInfo, by_anchor, by_group


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
        negatives: (K,), shared by all anchors, or (G, K); anchor b is in group `b mod G`.
        window: steps, >= 0, inclusive.

    Returns:
        (B, K) bool.
    """
    if window < 0:
        raise ValueError(f"window is {window} steps; it must be 0 or more")
    if len(anchors) != len(positives):
        raise ValueError(f"{len(anchors)} anchors but {len(positives)} positives")
    negative_rows = np.where(
        negatives.rows < 0, -2, negatives.rows
    )  # so that two rows of no memory never match
    n_columns = negatives.rows.shape[-1]
    usable = by_group(anchors.valid & positives.valid, negative_rows) & negatives.valid
    flat = usable.reshape(-1)
    for rows in (anchors,) if positives is anchors else (anchors, positives):
        usable &= by_group(rows.hashes, negative_rows) != negatives.hashes
        usable &= by_group(rows.rows, negative_rows) != negative_rows
        episodes = by_group(rows.episodes, negative_rows)
        same_episode = np.flatnonzero(episodes == negatives.episodes)  # few pairs
        b = same_episode // max(n_columns, 1) % max(len(anchors), 1)
        steps = negatives.steps.reshape(-1)[same_episode % max(negatives.rows.size, 1)]
        near = (np.abs(rows.steps[b] - steps) <= window) & (rows.episodes[b] >= 0)
        flat[same_episode[near]] = False
    return by_anchor(usable, len(anchors))
