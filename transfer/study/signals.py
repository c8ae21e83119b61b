"""Ctrl-C and SIGTERM, noted instead of raised."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def interrupts_noted() -> Iterator[list[int]]:
    """The SIGINTs and SIGTERMs that arrive, as a list that grows; none is raised meanwhile."""
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever runs us there handles signals
        before = {}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
