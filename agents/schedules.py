"""Schedules for the weight of an auxiliary loss over one `learn()`."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[float], float]
"""Remaining progress, 1 at the start of a `learn()`, 0 at its end, to a weight ≥ 0."""

SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class WeightSchedule:
    """A weight that goes from `start` to `end` while a `learn()` runs, p its share done, 0..1.

    * "constant": start
    * "linear": start + (end − start) · p
    * "cosine": end + (start − end) · (1 + cos πp) / 2

    It is a function of the remaining progress 1 − p, as Stable-Baselines3's own schedules, and is
    saved with the callback. Stable-Baselines3 counts progress over all frames so far: with
    `reset_num_timesteps=False` a second `learn()` of equal length begins at p = ½. Its last rollout
    may go past the end; p stays 1 there.

    Raises:
        ValueError: an unknown kind, or a weight that is negative or not finite.
    """

    kind: str
    """One of `SCHEDULES`."""
    start: float
    """Weight at p = 0; ≥ 0."""
    end: float = 0.0
    """Weight at p = 1; ≥ 0, not used by "constant"."""

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise ValueError(
                f"kind is '{self.kind}', expected one of {', '.join(SCHEDULES)}, or pass a "
                "function of the remaining progress as the weight"
            )
        for name in ("start", "end"):
            check_weight(getattr(self, name), name)

    def __call__(self, progress_remaining: float) -> float:
        """The weight with `progress_remaining` (1 → 0) of the `learn()` to go."""
        if self.kind == "constant":
            return self.start
        done = min(max(1.0 - progress_remaining, 0.0), 1.0)
        if self.kind == "linear":
            return self.start + (self.end - self.start) * done
        return self.end + (self.start - self.end) * 0.5 * (1.0 + math.cos(math.pi * done))


def check_weight(weight: float, name: str = "weight") -> float:
    """The weight as a float; ValueError if it is not a number, negative or not finite."""
    if not isinstance(weight, numbers.Real) or not 0.0 <= weight < math.inf:
        raise ValueError(f"{name} is {weight!r}, expected a number ≥ 0 or a schedule")
    return float(weight)
