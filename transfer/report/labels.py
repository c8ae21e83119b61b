"""Names of arms for readers, and the style in which each arm is drawn."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

REFERENCE = "fine_tune"
"""The arm that others are compared with, if it was run."""
CANDIDATE = "contrastive_distillation"
SCRATCH = "scratch"

_LEGEND = 56
_AXIS = 26
_MOST_BANDS = 5
_OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Palette by Okabe and Ito for colour-blind readers, without yellow, which is too light."""
_DASHES: tuple[Any, ...] = (
    "solid", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)),
)  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_OWN = {CANDIDATE: (0, 0, 0), REFERENCE: (1, 1, 1), SCRATCH: (6, 2, 2)}
"""Indexes of colour, dashes and marker of the main arms."""


@dataclass(frozen=True, kw_only=True)
class ArmLabel:
    """The parts of a label such as ``ARM+negatives=uniform+n_negatives=8``."""

    arm: str
    axes: dict[str, str] = field(default_factory=dict)
    """Setting that varies → its value as text."""

    def number(self, axis: str) -> float | None:
        """The value of a setting as a number; None if it is not one."""
        try:
            return float(self.axes[axis])
        except (KeyError, ValueError):
            return None


def parse_label(label: str) -> ArmLabel:
    """Split a label at ``+``; a part that is not ``setting=value`` belongs to the part before it.

    >>> parse_label("fine_tune+weight=1e+2").axes
    {'weight': '1e+2'}
    """
    arm, *parts = label.split("+")
    axes: dict[str, str] = {}
    last = None
    for part in parts:
        name, equals, value = part.partition("=")
        if equals and name.isidentifier():
            axes[name], last = value, name
        elif last is not None:
            axes[last] += f"+{part}"
        else:
            arm += f"+{part}"
    return ArmLabel(arm=arm, axes=axes)


def readable(label: str) -> str:
    """A label for readers: ``contrastive distillation, n_negatives 8``."""
    parts = parse_label(label)
    arm = parts.arm.replace("_", " ")
    return ", ".join([arm, *(f"{name} {value}" for name, value in parts.axes.items())])


def in_legend(label: str) -> str:
    """A label for one line of a legend: ``contrastive distillation: 128, value_contrast``."""
    parts = parse_label(label)
    arm, values = parts.arm.replace("_", " "), ", ".join(parts.axes.values())
    return _shortened(f"{arm}: {values}" if values else arm, _LEGEND)


def on_axis(text: str) -> str:
    """Text for a tick, broken after its first part and where it is long; at most four lines."""
    first, _, rest = text.partition(", ")
    lines = [*textwrap.wrap(first, _AXIS), *textwrap.wrap(rest, _AXIS)] or [""]
    return "\n".join(_shortened(line, _AXIS) for line in lines[:4])


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def short_env(env_id: str) -> str:
    """An environment's id without its usual prefixes and its version."""
    name = env_id.rpartition("/")[2].removeprefix("MiniGrid-").removeprefix("BabyAI-")
    head, dash, version = name.rpartition("-v")
    return head if dash and version.isdigit() else name


@dataclass(frozen=True, kw_only=True)
class Style:
    """Style of an arm in all figures; colour, dashes and marker each identify it."""

    colour: str
    dashes: Any
    marker: str


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """A style for each label, fixed for the main arms.

    The others take the remaining colours in turn with the next dashes and marker, so that up to 35
    arms look different. The same labels always give the same styles.
    """
    taken = {_OWN[label][0] for label in labels if label in _OWN}
    free = [i for i in range(len(_OKABE_ITO)) if i not in taken]
    others = [label for label in labels if label not in _OWN]
    found = {}
    for label in labels:
        if label in _OWN:
            colour, dashes, marker = _OWN[label]
        else:
            n = others.index(label)
            colour, dashes, marker = free[n % len(free)], 3 + n % len(free) + n // len(free), 3 + n
        found[label] = Style(
            colour=_OKABE_ITO[colour],
            dashes=_DASHES[dashes % len(_DASHES)],
            marker=_MARKERS[marker % len(_MARKERS)],
        )
    return found


def with_bands(labels: Sequence[str]) -> Sequence[str]:
    """Labels of the arms drawn with bands: all of up to five, else two, for bands hide each other.

    The two are the first arm and plain fine-tuning or, without it, the first two arms.
    """
    if len(labels) <= _MOST_BANDS:
        return labels
    others = [label for label in labels[1:] if label == REFERENCE] or labels[1:]
    return [labels[0], others[0]]
