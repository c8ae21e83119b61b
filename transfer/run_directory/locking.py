"""One process at a time in a run's directory."""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import SettingsError

RUN_LOCK = ".run.lock"
"""Held by the command that works on a directory."""
TRAINING_LOCK = ".training.lock"
"""Held by the process that trains in it."""

_SECONDS_BETWEEN_TRIES = 0.2


class LockedError(SettingsError):
    """Another process works in the directory."""


@contextlib.contextmanager
def locked(directory: Path, name: str, *, patience_seconds: float = 0.0) -> Iterator[None]:
    """Hold a directory's lock; the system frees it when this process ends, however it ends.

    Args:
        directory: is made where it is missing.
        name: the lock's file.
        patience_seconds: how long to wait for another to finish.

    Raises:
        LockedError: another process holds it; the text names it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    deadline = time.monotonic() + patience_seconds
    while (file := _held(path)) is None:
        if time.monotonic() >= deadline:
            raise LockedError(
                f"{directory}: another process works in it ({_holder(path)}); wait for it, "
                "end it, or give another directory with --output"
            )
        time.sleep(_SECONDS_BETWEEN_TRIES)
    with file:
        file.seek(1)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        try:
            yield
        finally:
            if os.name != "nt":  # Windows removes no open file; an old one does no harm
                path.unlink(missing_ok=True)


def _held(path: Path) -> BinaryIO | None:
    """The lock's file, held; None while another process holds it, or has just removed it."""
    file = path.open("a+b")
    if _take(file) and path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
        return file
    file.close()
    return None


def _holder(path: Path) -> str:
    held_by = path.read_bytes()[1:200] if path.exists() else b""
    return held_by.decode(errors="replace") or "which one is not known"


if sys.platform == "win32":
    import msvcrt

    def _take(file: BinaryIO) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _take(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
