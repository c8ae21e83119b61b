"""Settings of a loss, held against their ranges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def whole(low: int, **settings: Any) -> dict[str, int]:
    """The settings as they are, each a whole number of `low` or more; else ValueError."""
    for name, value in settings.items():
        _check_number(name, value)
        if value != int(value):
            raise ValueError(f"{name} is {value!r}; expected a whole number")
        if value < low:
            raise ValueError(f"{name} is {value}; it must be {low} or more")
    return {name: int(value) for name, value in settings.items()}


def real(low: float, high: float = math.inf, **settings: Any) -> dict[str, float]:
    """The settings as they are, each a finite number from `low` to `high`; else ValueError."""
    for name, value in settings.items():
        _check_number(name, value)
        if not low <= value <= high:
            allowed = f"lie in [{low:g}, {high:g}]" if high < math.inf else f"be {low:g} or more"
            raise ValueError(f"{name} is {value}; it must {allowed}")
    return {name: float(value) for name, value in settings.items()}


def above(low: float, **settings: Any) -> dict[str, float]:
    """The settings as they are, each a finite number above `low`; else ValueError."""
    for name, value in settings.items():
        _check_number(name, value)
        if not value > low:
            raise ValueError(f"{name} is {value}; it must be above {low:g}")
    return {name: float(value) for name, value in settings.items()}


def momentum(value: Any) -> dict[str, float]:
    """`{"momentum": value}`, a number in [0, 1); else ValueError."""
    _check_number("momentum", value)
    if not 0 <= value < 1:
        raise ValueError(f"momentum is {value}; it must lie in [0, 1)")
    return {"momentum": float(value)}


def one_of(choices: Sequence[str], **settings: Any) -> dict[str, str]:
    """The settings as they are, each one of `choices`; else ValueError."""
    for name, value in settings.items():
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    return settings


def yes_or_no(**settings: Any) -> dict[str, bool]:
    """The settings as they are, each true or false; else ValueError."""
    for name, value in settings.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}; expected true or false")
    return settings


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {value!r}; expected a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; expected a finite number")
