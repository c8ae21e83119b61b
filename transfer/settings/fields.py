"""Types and ranges of settings, checked alike for flags and for YAML.

A settings class is a frozen dataclass; the annotation of a field gives its type and range:
``Annotated[int, whole(1)]``, ``Annotated[float, real(0, 1)]``, ``Literal["a", "b"]``, ``bool``,
``str``, ``tuple[str, ...]``, each perhaps ``| None``. `check` checks a value by it.
"""

import contextlib
import dataclasses
import math
import types
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tyro.constructors import PrimitiveConstructorSpec

from ..errors import SettingsError


class Number(PrimitiveConstructorSpec[Any]):
    """A number and the closed range it must lie in; tells tyro how to parse it."""

    def __init__(self, kind: type, low: float, high: float) -> None:
        self.kind, self.low, self.high = kind, low, high
        super().__init__(
            nargs=1,
            metavar="INT" if kind is int else "FLOAT",
            instance_from_str=lambda texts: self.read(texts[0]),
            is_instance=lambda value: value is None or isinstance(value, (int, float)),
            str_from_instance=lambda value: ["none" if value is None else str(value)],
        )

    def __str__(self) -> str:
        noun = "a whole number" if self.kind is int else "a number"
        if self.high == math.inf:
            return f"{noun} of at least {_plain(self.low)}"
        return f"{noun} from {_plain(self.low)} to {_plain(self.high)}"

    def check(self, value: object) -> int | float:
        """The value as ``kind``; `SettingsError` where its type or its size is wrong."""
        number: Any = value
        if self.kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as text
            with contextlib.suppress(ValueError):
                number = float(value)
        allowed = (int,) if self.kind is int else (int, float)
        if isinstance(number, bool) or not isinstance(number, allowed):
            raise SettingsError(f"must be {self}")
        if not (self.low <= number <= self.high and math.isfinite(number)):
            raise SettingsError(f"must be {self}")
        return self.kind(number)  # type: ignore[no-any-return]

    def read(self, text: str) -> int | float:
        """A number as typed: ``400_000``, ``1e-3``; the range is checked later, with the rest."""
        try:
            return self.kind(text)  # type: ignore[no-any-return]
        except ValueError:
            raise ValueError(f"{text!r}: must be {self}") from None


def _plain(number: float) -> str:
    return f"{int(number):_}" if number == int(number) else f"{number:g}"


def whole(low: int, high: float = math.inf) -> Any:
    """Annotation of a whole number from ``low`` to ``high``, both included."""
    return Number(int, low, high)


def real(low: float, high: float = math.inf) -> Any:
    """Annotation of a finite number from ``low`` to ``high``, both included."""
    return Number(float, low, high)


def key_of(field_name: str) -> str:
    """The field's name in YAML; a trailing underscore only dodges Python's keywords."""
    return field_name.rstrip("_")


def flag_of(field_name: str) -> str:
    """The field's flag on the command line."""
    return "--" + key_of(field_name).replace("_", "-")


def nearest(name: str, names: list[str] | tuple[str, ...], n: int = 3) -> str:
    """``" Nearest: a, b."`` or, where nothing is near, ``" There are: …"``."""
    close = get_close_matches(name, names, n=n, cutoff=0.5)
    return f" Nearest: {', '.join(close)}." if close else f" There are: {', '.join(names)}."


def check(annotation: Any, value: object) -> object:
    """Check a value by a field's annotation.

    Returns:
        The value in the field's type (a list becomes a tuple, an int a float where floats go).

    Raises:
        SettingsError: with the condition alone; the caller adds the setting and the value.
    """
    bare, number = _parts(annotation)
    options = get_args(bare) if get_origin(bare) in (Union, types.UnionType) else (bare,)
    if value is None and type(None) in options:
        return None
    if number is not None:
        return number.check(value)
    return _check_plain(next(kind for kind in options if kind is not type(None)), value)


def read(annotation: Any, text: str) -> object:
    """The checked value of one word of the command line.

    Raises:
        SettingsError: as `check`.
    """
    bare, number = _parts(annotation)
    value: object = text
    if bare is bool:
        value = {"true": True, "false": False}.get(text.lower())
    elif number is not None:
        with contextlib.suppress(ValueError):
            value = number.read(text)
    return check(annotation, value)


def _parts(annotation: Any) -> tuple[Any, Number | None]:
    """An annotation's type, and its range if it is that of a number."""
    metadata = getattr(annotation, "__metadata__", ())
    numbers = [entry for entry in metadata if isinstance(entry, Number)]
    return annotation.__origin__ if metadata else annotation, numbers[0] if numbers else None


def _check_plain(kind: Any, value: object) -> object:
    if get_origin(kind) is Literal:
        choices = [str(choice) for choice in get_args(kind)]
        if value not in choices:
            raise SettingsError(f"must be one of {', '.join(choices)}")
        return value
    if get_origin(kind) is tuple:
        if get_args(kind) == (float, float):
            return _low_and_high(value)
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, (list, tuple)) or not all(isinstance(v, str) for v in values):
            raise SettingsError("must be a list of names")
        return tuple(values)
    if kind is bool and not isinstance(value, bool):
        raise SettingsError("must be true or false")
    if kind is str and not isinstance(value, str):
        raise SettingsError("must be text")
    return value


def _low_and_high(value: Any) -> tuple[float, float]:
    number = Number(float, -1e300, 1e300)
    low, high = value if isinstance(value, (list, tuple)) and len(value) == 2 else (None, None)
    with contextlib.suppress(SettingsError):
        low, high = number.check(low), number.check(high)
        if low < high:
            return low, high
    raise SettingsError("must be two numbers, the lower one first")


def annotations_of(settings: type) -> dict[str, Any]:
    """Field name → annotation with its metadata, in the order of the fields."""
    hints = get_type_hints(settings, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(settings)}


def validate(settings: object) -> None:
    """Check every field of a settings dataclass.

    Raises:
        SettingsError: naming the flag, the value and what is allowed.
    """
    for name, annotation in annotations_of(type(settings)).items():
        value = getattr(settings, name)
        try:
            check(annotation, value)
        except SettingsError as error:
            raise SettingsError(f"{flag_of(name)} {_shown(value)}: {error}") from None


def from_mapping(settings: type, values: Mapping[str, object], *, origin: str) -> dict[str, Any]:
    """Checked field values of ``settings`` from a YAML file's mapping.

    Args:
        settings: the dataclass.
        values: key → value; a key is a field's name (hyphens allowed for underscores).
        origin: the file's name, for messages.

    Raises:
        SettingsError: for an unknown key (with the nearest ones), a wrong type or range.
    """
    annotations = {key_of(name): (name, kind) for name, kind in annotations_of(settings).items()}
    checked: dict[str, Any] = {}
    for given, value in values.items():
        key = str(given).replace("-", "_")
        if key not in annotations:
            raise SettingsError(f"{origin}: unknown key {given!r}.{nearest(key, [*annotations])}")
        name, annotation = annotations[key]
        try:
            checked[name] = check(annotation, value)
        except SettingsError as error:
            raise SettingsError(f"{origin}: {key}: {_shown(value)}: {error}") from None
    return checked


def _shown(value: object) -> str:
    return str(value) if isinstance(value, (int, float, str)) else repr(value)
