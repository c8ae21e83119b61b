"""Settings of a loss as flags and YAML keys: three have flags, the others are NAME=VALUE texts."""

from collections.abc import Mapping
from typing import Any

import yaml

from ..errors import SettingsError

Value = int | float | str | bool

LOSS_FLAGS = ("negatives", "n_negatives", "positives")
"""Settings of a loss that have flags of their own."""


def write_loss_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of a loss's constructor as values of flags."""
    named = {key: settings[key] for key in LOSS_FLAGS if key in settings}
    others = [format_setting(key, x) for key, x in settings.items() if key not in LOSS_FLAGS]
    return {**named, "loss_settings": others} if others else named


def read_loss_settings(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of a loss's constructor from values of flags; other flags are ignored.

    Raises:
        SettingsError: an entry of ``loss_settings`` is not NAME=VALUE.
    """
    named = {key: flags[key] for key in LOSS_FLAGS if flags.get(key) is not None}
    return named | dict(map(_parse_setting, flags.get("loss_settings") or ()))


def format_setting(name: str, value: Value) -> str:
    """A setting as ``--loss-settings`` takes it."""
    return f"{name}={value}"


def _parse_setting(text: str) -> tuple[str, Value]:
    name, equals, word = text.partition("=")
    try:
        if name.isidentifier() and equals:
            return name, parse_value(word)
    except SettingsError:
        pass
    raise SettingsError(f"--loss-settings {text}: expected NAME=VALUE, such as temperature=0.2")


def parse_value(word: str) -> Value:
    """The value of a setting, as YAML reads it.

    Raises:
        SettingsError: it is neither a number, a word nor a truth value.
    """
    try:
        value = yaml.safe_load(word)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, int | float | str):
        raise SettingsError("must be a number, a word, true or false")
    return value
