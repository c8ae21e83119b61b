"""What a run says while it works: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from .tally import State, Tally

_SECONDS_BETWEEN_LINES = 15.0


class Display(Protocol):
    """Shows how a run gets on."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def refresh(self, tally: Tally) -> None:
        """Something has moved."""

    def say(self, text: str) -> None:
        """One line that stays."""


class BarDisplay:
    """A progress bar at the foot of the terminal; lines scroll above it."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def refresh(self, tally: Tally) -> None:
        """Move the bar."""
        self._progress.update(
            self._task, completed=tally.done, total=tally.total, description=str(tally)
        )

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)


class LineDisplay:
    """A plain line now and then, for logs and pipes."""

    def __init__(self, console: Console, *, of_grid: bool = False) -> None:
        self._console = console
        self._of_grid = of_grid
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def refresh(self, tally: Tally) -> None:
        """Print a line when the last one is old enough."""
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            self.say(f"{tally.trainings} · {tally}" if self._of_grid else str(tally))

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        sys.stdout.flush()


class GridDisplay:
    """A table at the foot of the terminal: a line for each arm, and how far all are."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tally: Tally | None = None
        self._live = Live(
            get_renderable=self._drawn, console=console, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def _drawn(self) -> RenderableType:
        width = min(80, self._console.width)
        if self._tally is None:
            return ""
        return progress_table(self._tally, width, most_rows=max(4, self._console.height - 8))

    def refresh(self, tally: Tally) -> None:
        """It is drawn anew twice a second, whatever comes."""
        self._tally = tally

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


_STATES: tuple[tuple[State, str], ...] = (
    ("finished", "green"), ("running", "cyan"), ("waiting", "dim"), ("failed", "bold red"),
)  # fmt: skip


def progress_table(tally: Tally, width: int, *, most_rows: int) -> RenderableType:
    """How many trainings of each arm are in which state, and how long the rest will take.

    Where there are more arms than rows, those at work and those that failed come first.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), width=width)
    table.add_column("trainings", no_wrap=True, overflow="ellipsis", ratio=1)
    for state, style in _STATES:
        table.add_column(state, justify="right", style=style, min_width=8)
    counts = tally.counts()
    groups = [*counts]
    if len(groups) > most_rows:
        groups.sort(key=lambda g: (not counts[g]["running"], not counts[g]["failed"]))
    for group in groups[:most_rows]:
        table.add_row(group, *(str(counts[group][state] or "") for state, _ in _STATES))
    if len(groups) > most_rows:
        table.add_row(f"… and {len(groups) - most_rows} more")
    return Group(table, Text(f"{tally.trainings}\n{tally}"))


def make_display(console: Console, *, of_grid: bool = False) -> Display:
    """A bar, for a grid a table, where the console is a terminal; lines elsewhere."""
    if not console.is_terminal:
        return LineDisplay(console, of_grid=of_grid)
    return GridDisplay(console) if of_grid else BarDisplay(console)
