"""Print text and tables for a person, at 80 columns at most."""

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table


def plain_table() -> Table:
    """An empty table without frames, set close."""
    return Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def show(console: Console, renderable: RenderableType) -> None:
    """Print at 80 columns at most."""
    console.print(renderable, width=min(80, console.width))


def say(console: Console, text: str, *, style: str | None = None) -> None:
    """Print plain text, which may hold brackets and long paths."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
