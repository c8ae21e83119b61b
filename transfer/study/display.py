"""Shows the progress of a run: live on a terminal, as plain lines elsewhere."""

import sys
import time
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from ..console import say
from .progress import RunProgress, State

_SECONDS_BETWEEN_LINES = 15.0


class Display:
    """Prints lines of text; subclasses also show the progress.

    A display is a context manager: what it draws live is shown inside its block only.
    """

    def __init__(self, console: Console, live: Live | Progress | None = None) -> None:
        """
        Args:
            console: where to print.
            live: drawn below the lines.
        """
        self._console = console
        self._live = live

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def refresh(self, progress: RunProgress) -> None:
        """Show new progress."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        """Print a line that stays."""
        say(self._console, text)
        sys.stdout.flush()


class BarDisplay(Display):
    """A progress bar at the bottom of the terminal."""

    def __init__(self, console: Console) -> None:
        columns = BarColumn(bar_width=None), TaskProgressColumn(), TextColumn("{task.description}")
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("starting", total=None)
        super().__init__(console, self._bar)

    def refresh(self, progress: RunProgress) -> None:
        """Move the bar."""
        self._bar.update(
            self._task, completed=progress.done, total=progress.total, description=str(progress)
        )


class TableDisplay(Display):
    """A table at the bottom of the terminal, with one row for each arm."""

    def __init__(self, console: Console) -> None:
        self._progress: RunProgress | None = None
        live = Live(
            get_renderable=self._draw, console=console, refresh_per_second=2, transient=True
        )
        super().__init__(console, live)

    def _draw(self) -> RenderableType:
        if self._progress is None:
            return ""
        width, most_rows = min(80, self._console.width), max(4, self._console.height - 8)
        return progress_table(self._progress, width, most_rows=most_rows)

    def refresh(self, progress: RunProgress) -> None:
        """Show this at the next redraw, of which there are two a second."""
        self._progress = progress


class LineDisplay(Display):
    """A plain line every 15 seconds, for logs and pipes."""

    def __init__(self, console: Console, *, count_trainings: bool = False) -> None:
        """
        Args:
            console: where to print.
            count_trainings: lines also give the number of finished trainings.
        """
        super().__init__(console)
        self._count_trainings = count_trainings
        self._last = time.monotonic()

    def refresh(self, progress: RunProgress) -> None:
        """Print a line if the last one is old enough."""
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            text = f"{progress.trainings} · {progress}" if self._count_trainings else str(progress)
            self.say(text)


_STATES: tuple[tuple[State, str], ...] = (
    ("finished", "green"), ("running", "cyan"), ("waiting", "dim"), ("failed", "bold red"),
)  # fmt: skip


def progress_table(progress: RunProgress, width: int, *, most_rows: int) -> RenderableType:
    """Number of trainings of each arm in each state, and the time left.

    If there are more arms than rows, those with running or failed trainings come first.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), width=width)
    table.add_column("trainings", no_wrap=True, overflow="ellipsis", ratio=1)
    for state, style in _STATES:
        table.add_column(state, justify="right", style=style, min_width=8)
    counts = progress.counts()
    groups = [*counts]
    if len(groups) > most_rows:
        groups.sort(key=lambda g: (not counts[g]["running"], not counts[g]["failed"]))
    for group in groups[:most_rows]:
        table.add_row(group, *(str(counts[group][state] or "") for state, _ in _STATES))
    if len(groups) > most_rows:
        table.add_row(f"… and {len(groups) - most_rows} more")
    return Group(table, Text(f"{progress.trainings}\n{progress}"))


def make_display(console: Console, *, many: bool = False) -> Display:
    """The display for a console: a bar, or a table if there are many trainings; else lines."""
    if not console.is_terminal:
        return LineDisplay(console, count_trainings=many)
    return TableDisplay(console) if many else BarDisplay(console)
