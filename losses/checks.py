"""Range checks for the settings of losses. Each returns the values that it has checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def integers(low: int, **settings: Any) -> list[int]:
    """The values, each a whole number of at least `low`; ValueError otherwise."""
    for name, value in settings.items():
        _check_number(name, value)
        if value != int(value):
            raise ValueError(f"{name} is {value!r}; expected a whole number")
        if value < low:
            raise ValueError(f"{name} is {value}; it must be {low} or more")
    return [int(value) for value in settings.values()]


def numbers(low: float, high: float = math.inf, **settings: Any) -> list[float]:
    """The values, each a finite number in [low, high]; ValueError otherwise."""
    for name, value in settings.items():
        _check_number(name, value)
        if not low <= value <= high:
            allowed = f"lie in [{low:g}, {high:g}]" if high < math.inf else f"be {low:g} or more"
            raise ValueError(f"{name} is {value}; it must {allowed}")
    return [float(value) for value in settings.values()]


def temperature(value: Any) -> float:
    """The value, a finite number above 0; ValueError otherwise."""
    _check_number("temperature", value)
    if not value > 0:
        raise ValueError(f"temperature is {value}; it must be above 0")
    return float(value)


def momentum(value: Any) -> float:
    """The value, a number in [0, 1); ValueError otherwise."""
    _check_number("momentum", value)
    if not 0 <= value < 1:
        raise ValueError(f"momentum is {value}; it must lie in [0, 1)")
    return float(value)


def one_of(choices: Sequence[str], name: str, value: Any) -> Any:
    """The value, one of `choices`; ValueError otherwise."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    return value


def boolean(name: str, value: Any) -> bool:
    """The value, true or false; ValueError otherwise."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; expected true or false")
    return value


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {value!r}; expected a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; expected a finite number")
