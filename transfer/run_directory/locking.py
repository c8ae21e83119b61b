"""Locks that let one process at a time work in a run directory."""

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
"""Lock file of the command that works in a directory."""
TRAINING_LOCK = ".training.lock"
"""Lock file of the process that trains in a directory."""

_SECONDS_BETWEEN_TRIES = 0.2


class LockedError(SettingsError):
    """Another process works in the directory."""


@contextlib.contextmanager
def locked(directory: Path, name: str, *, patience_seconds: float = 0.0) -> Iterator[None]:
    """Hold a lock; the operating system releases it when this process ends, even if killed.

    Args:
        directory: the run directory, created if it is missing.
        name: the name of the lock file.
        patience_seconds: time to wait for another process to release the lock.

    Raises:
        LockedError: another process holds the lock; the text names the process.
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
            if os.name != "nt":  # Windows cannot remove an open file; a stale one is harmless
                path.unlink(missing_ok=True)


def _held(path: Path) -> BinaryIO | None:
    """The open lock file if this process now holds it; None if another process does."""
    file = path.open("a+b")
    if _take(file) and path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
        return file
    file.close()
    return None


def _holder(path: Path) -> str:
    held_by = path.read_bytes()[1:200] if path.exists() else b""
    return held_by.decode(errors="replace") or "it did not write its name"


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
