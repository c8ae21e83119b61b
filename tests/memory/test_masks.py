"""negative_mask against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastive_distillation.memory import RowInfo, negative_mask


def random_info(generator: np.random.Generator, n: int) -> RowInfo:
    """Few different numbers, so that everything happens."""
    return RowInfo(
        rows=generator.integers(-1, 5, n),
        hashes=generator.integers(-3, 3, n),
        episodes=generator.integers(-1, 3, n),
        steps=generator.integers(0, 9, n),
        valid=generator.random(n) < 0.8,
    )


def naive_mask(anchors: RowInfo, positives: RowInfo, negatives: RowInfo, window: int) -> list:
    mask = []
    for b in range(len(anchors)):
        line = []
        for k in range(len(negatives)):
            usable = bool(anchors.valid[b] and positives.valid[b] and negatives.valid[k])
            for info in (anchors, positives):
                if info.hashes[b] == negatives.hashes[k]:
                    usable = False
                if info.rows[b] >= 0 and info.rows[b] == negatives.rows[k]:
                    usable = False
                same_episode = info.episodes[b] >= 0 and info.episodes[b] == negatives.episodes[k]
                if same_episode and abs(int(info.steps[b]) - int(negatives.steps[k])) <= window:
                    usable = False
            line.append(usable)
        mask.append(line)
    return mask


@given(
    seed=st.integers(0, 2**32 - 1),
    n_anchors=st.integers(1, 8),
    n_negatives=st.integers(0, 8),
    window=st.integers(0, 6),
)
def test_against_loops(seed: int, n_anchors: int, n_negatives: int, window: int) -> None:
    generator = np.random.default_rng(seed)
    anchors, positives = random_info(generator, n_anchors), random_info(generator, n_anchors)
    negatives = random_info(generator, n_negatives)
    mask = negative_mask(anchors, positives, negatives, window)
    assert mask.shape == (n_anchors, n_negatives)
    assert mask.dtype == np.bool_
    assert mask.tolist() == naive_mask(anchors, positives, negatives, window)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_anchors=st.integers(1, 20),
    n_groups=st.integers(1, 9),
    n_negatives=st.integers(0, 8),
    window=st.integers(0, 6),
)
def test_lines_against_loops(
    seed: int, n_anchors: int, n_groups: int, n_negatives: int, window: int
) -> None:
    """Anchor b is compared with group `b mod G` only."""
    generator = np.random.default_rng(seed)
    anchors, positives = random_info(generator, n_anchors), random_info(generator, n_anchors)
    groups = [random_info(generator, n_negatives) for _ in range(n_groups)]
    fields = ("rows", "hashes", "episodes", "steps", "valid")
    stacked = RowInfo(*(np.stack([getattr(group, field) for group in groups]) for field in fields))
    mask = negative_mask(anchors, positives, stacked, window)
    assert mask.shape == (n_anchors, n_negatives)
    for b in range(n_anchors):
        one = np.array([b])
        expected = naive_mask(anchors[one], positives[one], groups[b % n_groups], window)
        assert mask[b].tolist() == expected[0]


def test_on_a_memory(filled) -> None:
    memory = filled()
    batch = memory.batch(memory.rows())
    mask = negative_mask(batch.info, batch.info, batch.info, 3)
    near = np.abs(batch.steps[:, None] - batch.steps) <= 3
    same_episode = batch.episodes[:, None] == batch.episodes
    same = (batch.observations["image"][:, None] == batch.observations["image"]).all(axis=(2, 3))
    same &= (batch.observations["direction"][:, None] == batch.observations["direction"])[..., 0]
    np.testing.assert_array_equal(mask, ~(near & same_episode) & ~same)


def test_concatenate_keeps_memories_apart(filled) -> None:
    """Two memories have equal row and episode numbers, which mean different rows."""
    ours, theirs = filled(seed=1), filled(seed=2)
    rows = np.intersect1d(ours.rows(), theirs.rows())[:50]
    anchors = RowInfo.concatenate([ours.info(rows), theirs.info(rows)])
    assert len(np.unique(anchors.rows)) == 100
    negatives = RowInfo.concatenate([ours.info(rows[:0]), theirs.info(rows)])
    mask = negative_mask(anchors, anchors, negatives, window=10_000)
    different = anchors.hashes[:, None] != negatives.hashes
    np.testing.assert_array_equal(mask[:50], different[:50])
    same_episode = anchors.episodes[50:, None] == negatives.episodes
    np.testing.assert_array_equal(mask[50:], different[50:] & ~same_episode)


def test_concatenate_leaves_no_row_no_row() -> None:
    nowhere = RowInfo(*(np.array([-1]) for _ in range(4)), valid=np.array([True]))
    assert RowInfo.concatenate([nowhere, nowhere]).rows.tolist() == [-1, -1]
    with pytest.raises(ValueError, match="at least one"):
        RowInfo.concatenate([])


def test_bad_arguments(filled) -> None:
    memory = filled()
    info = memory.info(memory.rows()[:4])
    with pytest.raises(ValueError, match="window is -1 steps; it must be 0 or more"):
        negative_mask(info, info, info, -1)
    with pytest.raises(ValueError, match="4 anchors but 3 positives"):
        negative_mask(info, info[:3], info, 1)
