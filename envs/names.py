"""Unknown names, and suggestions for them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_names(name: str, names: Iterable[str], n: int = 3) -> list[str]:
    """The `n` entries of `names` that are most similar to `name`, best first.

    Upper and lower case are equal. Names that contain `name` rank higher, so that `DoorKey-5x5`
    finds `MiniGrid-DoorKey-5x5-v0`.
    """
    typed = name.lower()

    def similarity(candidate: str) -> float:
        text = candidate.lower()
        contained = bool(typed) and (typed in text or text in typed)
        return difflib.SequenceMatcher(None, typed, text).ratio() + (0.5 if contained else 0.0)

    scored = sorted(((similarity(each), each) for each in set(names)), key=lambda s: (-s[0], s[1]))
    return [each for score, each in scored[:n] if score >= 0.4]


_FEW = 12
"""Up to this many names are all listed."""


class UnknownNameError(ValueError):
    """An unknown name of an environment, a suite, a configuration key, ….

    Attributes: `kind` (`"environment"`, `"suite"`, …), `name` (as typed), `nearest` (similar known
    names, best first).
    """

    def __init__(self, kind: str, name: str, names: Iterable[str], *, hint: str = "") -> None:
        self.kind = kind
        self.name = name
        known = list(names)
        self.nearest = nearest_names(name, known)
        text = f"unknown {kind} {name!r}."
        if self.nearest:
            text += f" Nearest: {', '.join(self.nearest)}."
        if len(self.nearest) < len(known) <= _FEW:
            text += f" Choose from: {', '.join(known)}."
        super().__init__(f"{text} {hint}".rstrip())
