"""What a run says while it works: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

Report = Callable[[int], None]
"""Takes the frames a training has done so far."""
Stop = Callable[[], bool]
"""Whether a training should stop now."""

_SECONDS_BETWEEN_LINES = 15.0
_SPEED_OVER_SECONDS = 20.0


class Tally:
    """Frames done by all trainings of a run, how fast, and how long the rest will take."""

    def __init__(self, frames: dict[str, int]) -> None:
        """Args: frames: cell name → frames it may take."""
        self._frames = dict(frames)
        self._done = dict.fromkeys(frames, 0)
        self._recent: deque[tuple[float, int]] = deque()
        self._skipped = 0

    @property
    def names(self) -> set[str]:
        """Of all its cells."""
        return set(self._frames)

    def skip(self, name: str) -> None:
        """A cell that was done before this run."""
        self._skipped += self._frames[name]
        self._done[name] = self._frames[name]

    def update(self, name: str, frames: int) -> None:
        """A cell has done so many frames."""
        self._done[name] = min(frames, self._frames[name])
        now = time.monotonic()
        self._recent.append((now, self.done - self._skipped))
        while now - self._recent[0][0] > _SPEED_OVER_SECONDS:
            self._recent.popleft()

    def finish(self, name: str, frames: int | None) -> None:
        """A cell has ended, having taken so many frames; None where it failed."""
        self._frames[name] = min(self._frames[name], self._done[name] if frames is None else frames)
        self.update(name, self._frames[name])

    @property
    def done(self) -> int:
        """Frames done."""
        return sum(self._done.values())

    @property
    def total(self) -> int:
        """Frames there are to do, as far as is known."""
        return sum(self._frames.values())

    @property
    def frames_per_second(self) -> float:
        """Over the last seconds, all trainings together."""
        if not self._recent:
            return 0.0
        (start, before), (end, after) = self._recent[0], self._recent[-1]
        return max(0, after - before) / (end - start) if end - start > 1 else 0.0

    @property
    def time_left(self) -> str:
        """``m:ss``, or dashes while it is unknown."""
        speed = self.frames_per_second
        if speed <= 0:
            return "-:--"
        minutes, seconds = divmod(round((self.total - self.done) / speed), 60)
        return f"{minutes}:{seconds:02d}"

    def __str__(self) -> str:
        text = f"{_short(self.done)} of {_short(self.total)} frames"
        speed = self.frames_per_second
        return f"{text} · {_short(speed)} frames/s · {self.time_left} left" if speed else text


def _short(number: float) -> str:
    """``950``, ``62k``, ``1.40M``."""
    if number >= 1e6:
        return f"{number / 1e6:.2f}M"
    return f"{number / 1e3:.0f}k" if number >= 1e4 else f"{number:.0f}"


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

    def __init__(self, console: Console) -> None:
        self._console = console
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
            self.say(str(tally))

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        sys.stdout.flush()


def make_display(console: Console) -> Display:
    """A bar where the console is a terminal, lines elsewhere."""
    return BarDisplay(console) if console.is_terminal else LineDisplay(console)
