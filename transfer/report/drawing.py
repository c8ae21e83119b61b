"""Size, fonts, axes and legends of all figures, and their conversion to PNG."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .labels import Style, in_legend

WIDTH = 4.8
"""Inches; narrow enough for its text to be legible on a phone."""
_DPI = 200
_SHORT = 26
"""Names up to this length are set in two columns in a legend."""
_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "path.simplify": False,
    "text.parse_math": False,
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure as PNG, with its texts."""

    name: str
    """Name of its file, without ``.png``."""
    title: str
    alt: str
    """Alternative text for readers who cannot see it."""
    png: bytes


@contextmanager
def drawing(
    *, height: float = 3.4, width: float = WIDTH, rows: int = 1
) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """A figure with one column of axes, in the style of the report."""
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
        yield figure, list(axes)


def finished(figure: Figure, *, name: str, title: str, alt: str) -> Picture:
    """The figure as PNG; the same figure gives the same bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return Picture(name=name, title=title, alt=alt, png=file.getvalue())


def legend_below(figure: Figure, axes: Axes) -> None:
    """Add the legend of some axes below the figure."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=_n_columns(labels),
            handlelength=3.2, fontsize=8.5,
        )  # fmt: skip


def legend_height(labels: Sequence[str]) -> float:
    """Height in inches of `legend_below` for some arms."""
    return 0.19 * -(-len(labels) // _n_columns([in_legend(label) for label in labels])) + 0.1


def _n_columns(texts: Sequence[str]) -> int:
    return 2 if max(map(len, texts), default=0) <= _SHORT else 1


def line(axes: Axes, style: Style, label: str, x: Any, y: Any, **more: Any) -> None:
    """Draw a line in the style of its arm."""
    axes.plot(
        x, y, color=style.colour, linestyle=style.dashes, marker=style.marker,
        markersize=3.8, linewidth=1.7, label=in_legend(label), **more,
    )  # fmt: skip


def thousands(axes: Axes, what: str) -> None:
    """Label the horizontal axis in thousands."""
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}")
    axes.set_xlabel(f"{what} (thousands)")


def unit(axes: Axes, label: str, *, step: float = 0.2) -> None:
    """Scale the vertical axis from 0 to 1."""
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks(np.arange(0, 1 + step / 2, step))
    axes.set_ylabel(label)
