"""The checkpoints of a run: directories that are written atomically and checked before use.

``checkpoints/<frames>/`` holds files and a ``manifest.json`` with the SHA-256 of each, a digest of
itself and, if this user has a key, a signature. It is written to a temporary directory, flushed to
the disk, and moved into place.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..console import Say
from ..run_directory.atomic_files import sha256_of, sync_directory, write_bytes, write_with
from ..run_directory.directory import installed_versions
from ..run_directory.signing import KeyUnusableError, is_signed, sign

VERSION = 4
_READABLE = (VERSION,)  # agents of earlier ones had other defaults, which may not change midway
_MANIFEST = "manifest.json"
_N_NEWEST = 2
_PACKAGES = ("gymnasium", "minigrid", "numpy")

Write = Callable[[Path], object]
"""Writes a file at the given path."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the text names it and the reason."""


class OtherVersionError(CheckpointError):
    """A checkpoint of a version of this program that this one cannot read; it is kept."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint whose files have been checked."""

    directory: Path
    frames: int
    is_own: bool
    """Whether this user signed it; without a signature nothing is unpickled."""
    same_versions: bool
    """Whether it was written with the installed versions; other pickles may not fit."""
    files: Mapping[str, str]
    """Name → SHA-256."""

    def read(self, name: str) -> bytes:
        """Read a file and check its SHA-256.

        Raises:
            CheckpointError: the file does not exist, or its content has changed.
        """
        if name not in self.files:
            raise CheckpointError(f"{self.directory}: has no {name}")
        try:
            content = (self.directory / name).read_bytes()
        except OSError as error:
            raise CheckpointError(
                f"{self.directory / name}: cannot be read: {error.strerror}"
            ) from error
        if sha256_of(content) != self.files[name]:
            raise CheckpointError(
                f"{self.directory / name}: is broken: its SHA-256 is not that of the manifest"
            )
        return content


@contextlib.contextmanager
def fit_required(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn every error but those of the disk into a CheckpointError."""
    try:
        yield
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # of torch, safetensors, pickle or our own checks
        text = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{checkpoint.directory}: does not fit this training "
            f"({type(error).__name__}: {text}); --resume never starts again"
        ) from error


class CheckpointStore:
    """The checkpoints of one run; it keeps the newest two and the best."""

    def __init__(self, directory: Path, *, identity: str) -> None:
        """Args: directory: ``checkpoints``. identity: the fingerprint of the configuration."""
        self._directory = directory
        self._identity = identity
        self._warned = False

    def write(
        self, writers: Mapping[str, Write], *, frames: int, score: float | None, say: Say
    ) -> None:
        """Write a checkpoint, then remove those that are neither new nor best.

        Raises:
            OSError: for example a full disk. The earlier checkpoints are then unchanged.
        """
        target = self._directory / f"{frames:012d}"
        temporary = self._directory / f".writing-{frames:012d}"
        self._directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir()
            for name, write in writers.items():
                write_with(temporary / name, write)
            content = {
                "version": VERSION,
                "identity": self._identity,
                "frames": frames,
                "score": score,
                "versions": installed_versions(_PACKAGES),
                "files": {n: sha256_of((temporary / n).read_bytes()) for n in writers},
            }
            write_bytes(temporary / _MANIFEST, _sealed(content, self._signature(content, say)))
            _move(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._forget()

    def find(self, resume: str, *, begun: bool, say: Say) -> Checkpoint | None:
        """The newest checkpoint to resume from; None if the training starts from its seed.

        Args:
            resume: ``auto``, ``never`` or ``require``.
            begun: whether an earlier training left files in the directory.
            say: prints one line for the user.

        Raises:
            CheckpointError: there is none with ``require``.
        """
        if resume == "never":
            return None
        checkpoint = self.newest(say)
        if checkpoint is None and resume == "require":
            raise CheckpointError("--resume require: there is no whole checkpoint to continue from")
        if checkpoint is None and begun:
            say("was interrupted before it had a whole checkpoint: it starts again from its seed")
        return checkpoint

    def newest(self, say: Say) -> Checkpoint | None:
        """The newest whole checkpoint, or None. Broken ones are reported and renamed.

        Raises:
            OtherVersionError: this version of the program cannot read it; it is left as it is.
        """
        self._sweep()
        for directory in reversed(self._all()):
            try:
                return self.check(directory)
            except OtherVersionError:
                raise
            except CheckpointError as error:
                say(f"{error}; the checkpoint before it is used")
                _set_aside(directory)
        return None

    def check(self, directory: Path) -> Checkpoint:
        """Check a checkpoint's manifest, and all files against it.

        Raises:
            CheckpointError: it is broken, or belongs to another run.
            OtherVersionError: this version of the program cannot read it.
        """
        content, signature = _opened(directory)
        if content["identity"] != self._identity:
            raise CheckpointError(f"{directory}: belongs to a run of another configuration")
        checkpoint = Checkpoint(
            directory=directory,
            frames=int(content["frames"]),
            is_own=is_signed(content, signature),
            same_versions=content["versions"] == installed_versions(_PACKAGES),
            files=content["files"],
        )
        if directory.name != f"{checkpoint.frames:012d}":
            raise CheckpointError(f"{directory}: is broken: it holds {checkpoint.frames} frames")
        for name in checkpoint.files:
            if Path(name).name != name:
                raise CheckpointError(f"{directory}: is broken: {name!r} lies outside it")
            checkpoint.read(name)
        return checkpoint

    def clear(self) -> None:
        """Remove all checkpoints."""
        self._sweep()
        for directory in [*self._all(), *self._directory.glob("broken-*")]:
            shutil.rmtree(directory)

    def _all(self) -> list[Path]:
        """All checkpoints, the oldest first."""
        if not self._directory.is_dir():
            return []
        return sorted(p for p in self._directory.iterdir() if p.is_dir() and p.name.isdigit())

    def _sweep(self) -> None:
        """Remove unfinished checkpoints of a killed process."""
        for directory in [*self._directory.glob(".writing-*"), *self._directory.glob(".old-*")]:
            shutil.rmtree(directory)

    def _forget(self) -> None:
        found = self._all()
        scores = [(score, path) for path in found if (score := _score(path)) is not None]
        kept = {*found[-_N_NEWEST:], *([max(scores)[1]] if scores else [])}
        for directory in found:
            if directory not in kept:
                shutil.rmtree(directory)

    def _signature(self, content: Mapping[str, Any], say: Say) -> str | None:
        try:
            return sign(content)
        except KeyUnusableError as error:
            if not self._warned:
                say(
                    f"checkpoints are not signed ({error}); one that continues from them "
                    "re-seeds its environments"
                )
            self._warned = True
            return None


def _sealed(content: Mapping[str, Any], signature: str | None) -> bytes:
    """The text of a manifest: content, signature, and a digest of both."""
    signed = {**content, "signature": signature}
    digest = sha256_of(json.dumps(signed, sort_keys=True).encode())
    return (json.dumps({**signed, "digest": digest}, indent=1, sort_keys=True) + "\n").encode()


def _opened(directory: Path) -> tuple[dict[str, Any], object]:
    """Read a manifest's content and signature.

    Raises:
        CheckpointError: it is missing, or any byte of it has changed.
        OtherVersionError: it is whole, but this version of the program cannot read it.
    """
    path = directory / _MANIFEST
    try:
        raw = path.read_bytes()
        read = json.loads(raw)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is broken: it is not JSON") from error
    if not isinstance(read, dict):
        raise CheckpointError(f"{path}: is broken: it is not the manifest of a checkpoint")
    content = {key: value for key, value in read.items() if key not in ("signature", "digest")}
    signature = read.get("signature")
    if _sealed(content, signature) != raw:
        raise CheckpointError(f"{path}: is broken: its digest does not fit what it says")
    if content.get("version") not in _READABLE:
        raise OtherVersionError(
            f"{directory}: is of version {content.get('version')}, this program reads "
            f"{' and '.join(map(str, _READABLE))}: "
            "continue with the program that wrote it, or start again with --resume never"
        )
    keys = {"version", "identity", "frames", "score", "versions", "files"}
    whole = content.keys() == keys and isinstance(content["files"], dict)
    if not whole or type(content["frames"]) is not int:
        raise CheckpointError(f"{path}: is broken: it is not the manifest of a checkpoint")
    return content, signature


def _score(directory: Path) -> float | None:
    try:
        score = _opened(directory)[0]["score"]
    except CheckpointError:  # reported when the checkpoint is used
        return None
    return float(score) if isinstance(score, int | float) else None


def _move(temporary: Path, target: Path) -> None:
    """Move a written directory into place, and remove the one that it replaces."""
    old = target.with_name(f".old-{target.name}")
    sync_directory(temporary)
    if target.exists():
        os.replace(target, old)
    os.replace(temporary, target)
    sync_directory(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _set_aside(directory: Path) -> None:
    aside = directory.with_name(f"broken-{directory.name}")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(directory, aside)
