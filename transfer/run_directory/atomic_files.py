"""Write files atomically: a reader sees the old file or the new one, also after a power cut."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from contrastive_distillation.memory import replace_file


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file's content, and flush it to the disk.

    Raises:
        OSError: for example a full disk. The old file is then unchanged.
    """
    write_with(path, lambda temporary: temporary.write_bytes(content))


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Replace a file by what `write` writes; it receives a temporary path in the same directory.

    Raises:
        OSError: for example a full disk, also if the writer raises another error for it.
    """
    try:
        replace_file(path, write)
    except Exception as error:  # safetensors and torch have errors of their own
        raise as_os_error(error, path) from error
    sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a file by UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a file by JSON; NumPy scalars are written as numbers."""
    text = json.dumps(plain(value), indent=2, default=lambda scalar: scalar.item())
    write_text(path, text + "\n")


def plain(value: Any) -> Any:
    """Convert to types of YAML and JSON: tuples to lists, mappings to dicts with text keys."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value


def sync_directory(path: Path) -> None:
    """Flush a directory's entries to the disk; Windows does so without being asked."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(content: bytes) -> str:
    """The SHA-256 of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def as_os_error(error: Exception, path: Path) -> Exception:
    """Convert a writer's own error for a full disk to an `OSError`; other errors are returned.

    The result names `path`: the operating system does not say which file a full disk refused.
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
    """One line for an error of the disk; it advises what to do if the disk cannot be written."""
    if error.errno not in _ADVICE:
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text}"
    where = f"{error.filename}: " if error.filename else ""
    what = (error.strerror or os.strerror(error.errno)).lower()
    return f"{where}cannot be written: {what}; {_ADVICE[error.errno]}"
