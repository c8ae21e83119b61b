"""The settings of contrastive distillation, checked."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from contrastive_distillation.memory import INDEXES, POSITIVES, make_negatives

Anneal = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Contrastive distillation in numbers; ValueError for one outside its range."""

    negatives: str = "value_contrast"
    """How negatives are drawn from memory, see memory.NEGATIVES."""
    n_negatives: int = 128
    """K, negatives of each anchor; >= 1."""
    temperature: float = 0.1
    """tau, by which cosines are divided; > 0."""
    target_weight: float = 1.0
    """Weight of the target term (information about the future); >= 0, 0 leaves it out."""
    source_weight: float = 1.0
    """Weight of the source term (information of the teacher); >= 0, 0 leaves it out."""
    source_anneal: Anneal = "linear"
    """How the source term's weight falls to 0 over one learn(); "constant": not at all."""
    momentum: float = 0.99
    """Of the moving averages of encoder and head, per auxiliary step; in [0, 1)."""
    projection_dim: int = 128
    """Width of the target term's head; >= 1."""
    positive_offset: float = 5.0
    """Mean of the geometric offset from anchor to positive, in steps; >= 1."""
    window: int = 8
    """No negatives from the same episode within so many steps of anchor or positive; >= 0."""

    positives: str = "temporal"
    """What an anchor is held to, see memory.POSITIVES."""
    band_low: float = 0.001
    """The nearest share of ranks that nearest and value_contrast skip; in [0, band_high)."""
    band_high: float = 0.05
    """The share of ranks that they reach to; in (band_low, 1]."""
    uniform_share: float = 0.5
    """Share of the negatives that stays uniform beside hard ones; in [0.5, 1]."""
    n_searched: int = 4096
    """Rows of the memory that hard negatives are looked for in; >= 2."""
    index: str = "auto"
    """How those are searched, see memory.NearestKeys."""
    refresh_frames: int = 16_384
    """Frames (rows written) between two snapshots of the averages that keys come from; >= 1."""
    refresh_drift: float = 0.0
    """A snapshot is kept where its keys have drifted by less (1 - cosine); in [0, 2]."""
    shuffled_values: bool = False
    """A control: returns are permuted within each task, anew for each auxiliary step."""

    def sampler_settings(self) -> dict[str, Any]:
        """Those of a negative sampler."""
        return {
            "band": (self.band_low, self.band_high),
            "uniform_share": self.uniform_share,
            "n_searched": self.n_searched,
            "index": self.index,
        }

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, str):
                continue
            if isinstance(field.default, bool):
                if not isinstance(value, bool):
                    raise ValueError(f"{field.name} is {value!r}; expected true or false")
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"{field.name} is {value!r}; expected a number")
            if isinstance(field.default, int) and value != int(value):
                raise ValueError(f"{field.name} is {value!r}; expected a whole number")
            if not math.isfinite(value):
                raise ValueError(f"{field.name} is {value}; expected a finite number")
        if self.positives not in POSITIVES:
            nearest = difflib.get_close_matches(self.positives, POSITIVES, n=3, cutoff=0.0)
            raise ValueError(f"unknown positives '{self.positives}'. Nearest: {', '.join(nearest)}")
        if self.index not in INDEXES:
            raise ValueError(f"index is {self.index!r}; expected one of {', '.join(INDEXES)}")
        make_negatives("nearest", **self.sampler_settings())  # checks them, whoever will take them
        make_negatives(self.negatives)
        if self.source_anneal not in get_args(Anneal):
            raise ValueError(
                f"source_anneal is {self.source_anneal!r}; expected one of {get_args(Anneal)}"
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it must lie in [0, 1)")
        if not 0 <= self.refresh_drift <= 2:
            raise ValueError(f"refresh_drift is {self.refresh_drift}; it must lie in [0, 2]")
        for name in ("n_negatives", "projection_dim", "positive_offset", "refresh_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("target_weight", "source_weight", "window"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.target_weight == 0 and self.source_weight == 0:
            raise ValueError("target_weight and source_weight are both 0: no term is left")


def annealed(kind: Anneal, progress: float) -> float:
    """1 at progress 0, falling to 0 at progress 1 unless constant."""
    progress = min(max(progress, 0.0), 1.0)
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return 1.0 - progress
    return 0.5 * (1.0 + math.cos(math.pi * progress))
