"""Prints text and tables, at most 80 columns wide."""

from collections.abc import Callable

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table

Say = Callable[[str], None]
"""Prints one line for the user."""


def plain_table() -> Table:
    """An empty table without a frame."""
    return Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def show(console: Console, renderable: RenderableType) -> None:
    """Print a table or text, at most 80 columns wide."""
    console.print(renderable, width=min(80, console.width))


def say(console: Console, text: str, *, style: str | None = None) -> None:
    """Print text as it is: brackets are not markup, and long lines are not wrapped."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
