"""Unknown names: what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_names(name: str, names: Iterable[str]) -> str:
    """The three of `names` that are most similar to `name`, as a sentence for an error."""
    nearest = difflib.get_close_matches(name, list(names), n=3, cutoff=0.0)
    return f"Nearest: {', '.join(nearest)}" if nearest else "There is none to choose from"
