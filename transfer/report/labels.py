"""What arms are called, and how each is drawn."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

REFERENCE = "fine_tune"
"""What other arms are held against, where it is there."""
CANDIDATE = "contrastive_distillation"
SCRATCH = "scratch"

_LEGEND = 56
_AXIS = 26
_MOST_BANDS = 5
_OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which the colour-blind can tell apart; yellow is unseen on white."""
_DASHES: tuple[Any, ...] = (
    "solid", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)),
)  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_OWN = {CANDIDATE: (0, 0, 0), REFERENCE: (1, 1, 1), SCRATCH: (6, 2, 2)}
"""Colour, dashes and marker of the best known arms, by number."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """An arm's label taken apart: ``ARM+negatives=uniform+n_negatives=8``."""

    label: str
    arm: str
    axes: dict[str, str] = field(default_factory=dict)
    """Setting → value, as text."""

    def number(self, axis: str) -> float | None:
        """The value on an axis, where it is a number."""
        try:
            return float(self.axes[axis])
        except (KeyError, ValueError):
            return None


def parse_label(label: str) -> Variant:
    """The arm and the settings that vary in it; what is no ``setting=value`` is text of the last.

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
    return Variant(label=label, arm=arm, axes=axes)


def readable(label: str) -> str:
    """A label as people read it: ``contrastive distillation, n_negatives 8``."""
    variant = parse_label(label)
    arm = variant.arm.replace("_", " ")
    return ", ".join([arm, *(f"{name} {value}" for name, value in variant.axes.items())])


def in_legend(label: str) -> str:
    """A label on one line of a figure: ``contrastive distillation: 128, value_contrast``."""
    variant = parse_label(label)
    arm, values = variant.arm.replace("_", " "), ", ".join(variant.axes.values())
    return _shortened(f"{arm}: {values}" if values else arm, _LEGEND)


def on_axis(text: str) -> str:
    """Text beside an axis, broken after its first part and where it is long; four lines at most."""
    first, _, rest = text.partition(", ")
    lines = [*textwrap.wrap(first, _AXIS), *textwrap.wrap(rest, _AXIS)] or [""]
    return "\n".join(_shortened(line, _AXIS) for line in lines[:4])


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def short_env(env_id: str) -> str:
    """An environment's id without what all have in common."""
    name = env_id.rpartition("/")[2].removeprefix("MiniGrid-").removeprefix("BabyAI-")
    head, dash, version = name.rpartition("-v")
    return head if dash and version.isdigit() else name


@dataclass(frozen=True, kw_only=True)
class Style:
    """How an arm is drawn, in every figure; colour, dashes and marker each tell it apart."""

    colour: str
    dashes: Any
    marker: str


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """A style for each label: the same for the same labels, and fixed for the best known arms.

    The others take the colours that are left, and with each the next dashes and marker, so that no
    two of up to 35 look alike.
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
    """Whose bands are drawn: of up to five arms all; of more, whose bands hide one another, two.

    These are the first and plain fine-tuning; without it, the first two.
    """
    if len(labels) <= _MOST_BANDS:
        return labels
    others = [label for label in labels[1:] if label == REFERENCE] or labels[1:]
    return [labels[0], others[0]]
