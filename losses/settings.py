"""The settings of contrastive distillation, with their ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from contrastive_distillation.memory import POSITIVES, make_negatives

from . import checks

Anneal = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """The settings of contrastive distillation.

    Raises:
        ValueError: a setting is outside its range.
    """

    negatives: str = "value_contrast"
    """Name of the sampler of negatives, see memory.NEGATIVES; `make_negatives` checks it."""
    n_negatives: int = 128
    """K, the number of negatives of each anchor; >= 1."""
    temperature: float = 0.1
    """tau; cosines are divided by it; > 0."""
    target_weight: float = 1.0
    """Weight of the target term (information about the future); >= 0, 0 disables it."""
    source_weight: float = 1.0
    """Weight of the source term (information from the teacher); >= 0, 0 disables it."""
    source_anneal: Anneal = "linear"
    """How the source term's weight falls to 0 over one learn(); "constant" keeps it."""
    momentum: float = 0.99
    """Momentum of the moving averages of encoder and head, per auxiliary step; in [0, 1)."""
    projection_dim: int = 128
    """Width of the target term's head; >= 1."""
    positive_offset: float = 5.0
    """Mean of the geometric offset from anchor to positive, in steps; >= 1."""
    window: int = 8
    """Steps; rows of the same episode this near to anchor or positive are no negatives; >= 0."""

    positives: str = "temporal"
    """How the positive of an anchor is chosen, see memory.POSITIVES."""
    band_low: float = 0.001
    """Share of the nearest ranks that nearest and value_contrast skip; in [0, band_high)."""
    band_high: float = 0.05
    """Share of the ranks up to which they draw; in (band_low, 1]."""
    uniform_share: float = 0.5
    """Share of the negatives that are drawn uniformly, beside hard ones; in [0.5, 1]."""
    n_searched: int = 4096
    """Number of rows of the memory among which hard negatives are searched; >= 2."""
    index: str = "auto"
    """How those are searched: "auto" or "flat", the exact search."""
    refresh_frames: int = 16_384
    """Frames (rows written) between two snapshots of the averages that give the keys; >= 1."""
    refresh_drift: float = 0.0
    """A snapshot whose keys have drifted by less (1 - cosine) is kept; in [0, 2]."""
    shuffled_values: bool = False
    """Control: permute returns within each task, at each auxiliary step."""

    def sampler_settings(self) -> dict[str, Any]:
        """The settings of the sampler of negatives."""
        return {
            "band": (self.band_low, self.band_high),
            "uniform_share": self.uniform_share,
            "n_searched": self.n_searched,
            "index": self.index,
        }

    def __post_init__(self) -> None:
        checks.integers(
            1,
            n_negatives=self.n_negatives,
            projection_dim=self.projection_dim,
            refresh_frames=self.refresh_frames,
        )
        checks.integers(0, window=self.window)
        checks.integers(2, n_searched=self.n_searched)
        checks.temperature(self.temperature)
        checks.momentum(self.momentum)
        checks.numbers(1, positive_offset=self.positive_offset)
        checks.numbers(0, target_weight=self.target_weight, source_weight=self.source_weight)
        checks.numbers(0, 1, band_low=self.band_low, band_high=self.band_high)
        checks.numbers(0.5, 1, uniform_share=self.uniform_share)
        checks.numbers(0, 2, refresh_drift=self.refresh_drift)
        checks.one_of(get_args(Anneal), source_anneal=self.source_anneal)
        checks.one_of(tuple(POSITIVES), positives=self.positives)
        checks.boolean("shuffled_values", self.shuffled_values)
        make_negatives("nearest", **self.sampler_settings())  # checks their combination
        if self.target_weight == 0 and self.source_weight == 0:
            raise ValueError("target_weight and source_weight are both 0: no term is left")


def annealed(kind: Anneal, progress: float) -> float:
    """The factor at a progress in [0, 1]: it falls from 1 to 0 unless `kind` is "constant"."""
    progress = min(max(progress, 0.0), 1.0)
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return 1.0 - progress
    return 0.5 * (1.0 + math.cos(math.pi * progress))
