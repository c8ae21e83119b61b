"""Numbers and marks as text for reports."""

from .intervals import Estimate

MISSING = "–"
WORSE = "▼"
"""Marks an arm that is worse than training from scratch."""
NOT_LEARNT = "✗"
"""Marks a source that was not learnt."""


def score(value: float) -> str:
    """``0.62``; never ``-0.00``."""
    return f"{value + 0.0:.2f}" if round(value, 2) else "0.00"


def signed(value: float) -> str:
    """``+0.06``, with a minus sign as wide as the plus."""
    text = f"{value:+.2f}" if round(value, 2) else "±0.00"
    return text.replace("-", "−")


def with_interval(estimate: Estimate | None, *, sign: bool = False) -> str:
    """``0.62 (0.55 to 0.70)``; the number alone where there is no interval."""
    if estimate is None:
        return MISSING
    show = signed if sign else score
    if estimate.low is None or estimate.high is None:
        return show(estimate.value)
    return f"{show(estimate.value)} ({show(estimate.low)} to {show(estimate.high)})"


def frames(value: float) -> str:
    """``1.5M``, ``304k``, ``950``."""
    if value >= 999_500:
        return f"{value / 1e6:.2f}".rstrip("0").rstrip(".") + "M"
    return f"{value / 1e3:.0f}k" if value >= 1000 else f"{value:.0f}"


def seconds(value: float) -> str:
    """``95 s``, ``12 min``, ``3.4 h``."""
    if value < 100:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 6000 else f"{value / 3600:.1f} h"


def number(n: int, noun: str) -> str:
    """``one target``, ``3 targets``."""
    return f"one {noun}" if n == 1 else f"{n} {noun}s"
