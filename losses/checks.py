"""Range checks for the settings of losses. Each returns the settings that it has checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def integers(low: int, **settings: Any) -> dict[str, int]:
    """The settings, each a whole number of at least `low`; ValueError otherwise."""
    for name, value in settings.items():
        _check_number(name, value)
        if value != int(value):
            raise ValueError(f"{name} is {value!r}; expected a whole number")
        if value < low:
            raise ValueError(f"{name} is {value}; it must be {low} or more")
    return {name: int(value) for name, value in settings.items()}


def numbers(low: float, high: float = math.inf, **settings: Any) -> dict[str, float]:
    """The settings, each a finite number in [low, high]; ValueError otherwise."""
    for name, value in settings.items():
        _check_number(name, value)
        if not low <= value <= high:
            allowed = f"lie in [{low:g}, {high:g}]" if high < math.inf else f"be {low:g} or more"
            raise ValueError(f"{name} is {value}; it must {allowed}")
    return {name: float(value) for name, value in settings.items()}


def temperature(value: Any) -> dict[str, float]:
    """`{"temperature": value}`, a finite number above 0; ValueError otherwise."""
    _check_number("temperature", value)
    if not value > 0:
        raise ValueError(f"temperature is {value}; it must be above 0")
    return {"temperature": float(value)}


def momentum(value: Any) -> dict[str, float]:
    """`{"momentum": value}`, a number in [0, 1); ValueError otherwise."""
    _check_number("momentum", value)
    if not 0 <= value < 1:
        raise ValueError(f"momentum is {value}; it must lie in [0, 1)")
    return {"momentum": float(value)}


def one_of(choices: Sequence[str], **settings: Any) -> dict[str, str]:
    """The settings, each one of `choices`; ValueError otherwise."""
    for name, value in settings.items():
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    return settings


def boolean(name: str, value: Any) -> dict[str, bool]:
    """`{name: value}`, true or false; ValueError otherwise."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; expected true or false")
    return {name: value}


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {value!r}; expected a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; expected a finite number")
