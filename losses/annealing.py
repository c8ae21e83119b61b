"""The annealing of a term's weight."""

from __future__ import annotations

import math
from typing import Literal

Anneal = Literal["constant", "linear", "cosine"]


def annealed(kind: Anneal, progress: float) -> float:
    """The factor at a progress in [0, 1]: it falls from 1 to 0 unless `kind` is "constant"."""
    progress = min(max(progress, 0.0), 1.0)
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return 1.0 - progress
    return 0.5 * (1.0 + math.cos(math.pi * progress))
