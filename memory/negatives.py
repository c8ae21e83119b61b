"""Negatives: which rows of a memory an anchor is told apart from."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from .base import Memory


@dataclass(frozen=True)
class Pool:
    """Negatives drawn once per auxiliary step and shared by all its anchors."""

    rows: np.ndarray
    """(K',) int64, all different, K' <= K."""
    log_weights: np.ndarray | None = None
    """(B, K') float32: log of each anchor's weight for each negative; None: all weigh 1."""


class NegativeSampler(ABC):
    """Draws the pool of negatives. Masks are not its concern: `negative_mask` sees to them."""

    name: ClassVar[str]
    recent: ClassVar[bool] = False
    """Do anchors and negatives come only from the current rollout?"""

    @abstractmethod
    def draw(
        self, memory: Memory, anchors: np.ndarray, k: int, generator: np.random.Generator
    ) -> Pool:
        """Up to k rows of `memory` for the anchors in its rows `anchors` (B,)."""


class InBatchNegatives(NegativeSampler):
    """The control without a memory: rows of the current rollout only.

    For an off-policy agent (nothing calls `begin_rollout`) it is one draw from all rows.
    """

    name = "in_batch"
    recent = True

    def draw(
        self, memory: Memory, anchors: np.ndarray, k: int, generator: np.random.Generator
    ) -> Pool:
        return Pool(memory.sample_rows(k, generator, recent=True))


class UniformNegatives(NegativeSampler):
    """Uniform over the whole memory: the control for hardness."""

    name = "uniform"

    def draw(
        self, memory: Memory, anchors: np.ndarray, k: int, generator: np.random.Generator
    ) -> Pool:
        return Pool(memory.sample_rows(k, generator))


NEGATIVES: Mapping[str, type[NegativeSampler]] = MappingProxyType(
    {sampler.name: sampler for sampler in (InBatchNegatives, UniformNegatives)}
)
"""The samplers by name."""


def make_negatives(sampler: str | NegativeSampler) -> NegativeSampler:
    """The sampler of that name, or the given one; ValueError names the nearest."""
    if isinstance(sampler, NegativeSampler):
        return sampler
    if sampler not in NEGATIVES:
        nearest = difflib.get_close_matches(sampler, NEGATIVES, n=3, cutoff=0.0)
        raise ValueError(f"unknown negatives '{sampler}'. Nearest: {', '.join(nearest)}")
    return NEGATIVES[sampler]()
