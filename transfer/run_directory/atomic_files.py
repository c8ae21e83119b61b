"""Files that are whole or not there, and on the disk before anybody relies on them."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file at once: a reader finds the old one or the new one, also after a power cut.

    Raises:
        OSError: as on a full disk; the old file, where there was one, is then as it was.
    """

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_with(path, write)


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """As `write_bytes`, for a writer that wants a path: it is given one beside `path`.

    Raises:
        OSError: also for a full disk that the writer reports as an error of its own.
    """
    temporary = path.with_name(f"{path.stem}.writing{path.suffix}")
    try:
        try:
            write(temporary)
            sync(temporary)
        except Exception as error:  # safetensors and torch have errors of their own
            raise as_os_error(error, path) from error
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync(path: Path) -> None:
    """Have a file's content on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Have a directory's entries on the disk; Windows has no such call, and does it by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(content: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def as_os_error(error: Exception, path: Path) -> Exception:
    """The `OSError` behind a writer's own error, where its text shows one; else the error.

    It names `path`: a write to a full disk does not say to which file.
    """
    text = str(error)
    if isinstance(error, OSError):
        if error.errno in _ADVICE:
            error.filename = str(path)
        return error
    full = "No space left" in text or "os error 28" in text or "PytorchStreamWriter" in text
    if full:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    return error


_ADVICE = {
    errno.ENOSPC: "make room, then give the same command again: it continues",
    errno.EDQUOT: "make room, then give the same command again: it continues",
    errno.EROFS: "choose another directory with --output",
    errno.EACCES: "choose another directory with --output",
    errno.EPERM: "choose another directory with --output",
}


def explain(error: OSError) -> str:
    """One line on a disk that is full or may not be written, and what to do; else its own text."""
    if error.errno not in _ADVICE:
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text}"
    where = f"{error.filename}: " if error.filename else ""
    what = (error.strerror or os.strerror(error.errno)).lower()
    return f"{where}cannot be written: {what}; {_ADVICE[error.errno]}"
