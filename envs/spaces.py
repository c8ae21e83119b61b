"""Compare the observation and action spaces of two environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces


@dataclass(frozen=True)
class SpaceRow:
    """One row of the comparison."""

    name: str
    """`action`, `observation`, or the key of a Dict observation."""
    source: str
    """The source's space, `-` if it has none."""
    target: str
    """The target's space, `-` if it has none."""
    fits: bool
    """Whether an agent of the source can act in the target."""


def compare_spaces(
    source_observation: spaces.Space[Any],
    source_action: spaces.Space[Any],
    target_observation: spaces.Space[Any],
    target_action: spaces.Space[Any],
) -> list[SpaceRow]:
    """Compare the spaces: one row for each part of the observation, then one for the action.

    Float spaces may have different bounds. Integer spaces may not, since their numbers are
    categories.
    """
    rows = []
    source_parts, target_parts = _parts(source_observation), _parts(target_observation)
    for name in dict.fromkeys([*source_parts, *target_parts]):
        rows.append(_row(name, source_parts.get(name), target_parts.get(name)))
    rows.append(_row("action", source_action, target_action))
    return rows


def space_table(rows: Sequence[SpaceRow], source: str = "source", target: str = "target") -> str:
    """Format the rows as a plain-text table."""
    lines = [("", source, target, "fits")]
    lines += [(row.name, row.source, row.target, "yes" if row.fits else "NO") for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _parts(space: spaces.Space[Any]) -> dict[str, spaces.Space[Any]]:
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {"observation": space}


def _row(name: str, source: spaces.Space[Any] | None, target: spaces.Space[Any] | None) -> SpaceRow:
    return SpaceRow(
        name=name,
        source=_describe(source),
        target=_describe(target),
        fits=_fits(source, target),
    )


def _fits(source: spaces.Space[Any] | None, target: spaces.Space[Any] | None) -> bool:
    if source is None or target is None or type(source) is not type(target):
        return False
    if isinstance(source, spaces.Box) and np.issubdtype(source.dtype, np.floating):
        return source.shape == target.shape and source.dtype == target.dtype
    return bool(source == target)


def _describe(space: spaces.Space[Any] | None) -> str:
    if space is None:
        return "-"
    if not isinstance(space, spaces.Box):
        return str(space)
    size = "×".join(map(str, space.shape))
    bounds = ""
    if not np.issubdtype(space.dtype, np.floating):
        bounds = f" {space.low.min()}…{space.high.max()}"
    return f"{size} {space.dtype}{bounds}"
