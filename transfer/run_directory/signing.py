"""Sign files, so that only files of the same user are unpickled.

The key is 32 random bytes in the user's data directory, readable by that user alone. A file with a
valid signature was written by this user; other files are never unpickled.
"""

import hashlib
import hmac
import json
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY_BYTES = 32


class KeyUnusableError(Exception):
    """The key cannot be read or created; nothing can be signed, and nothing counts as signed."""


def key_path() -> Path:
    """The path of the key, in the data directory that the operating system gives the user."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "contrastive-distillation" / "signing.key"


def sign(content: Mapping[str, Any]) -> str:
    """Sign a mapping of plain values with this user's key.

    Raises:
        KeyUnusableError: the key cannot be read or created.
    """
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return hmac.new(_key(), canonical, hashlib.sha256).hexdigest()


def is_signed(content: Mapping[str, Any], signature: object) -> bool:
    """Whether this user signed the mapping; False without a usable key."""
    if not isinstance(signature, str) or not signature.isascii() or not key_path().exists():
        return False
    try:
        return hmac.compare_digest(sign(content), signature)
    except KeyUnusableError:
        return False


def _key() -> bytes:
    path = key_path()
    try:
        if not path.exists():
            _make_key(path)
        key, mode = path.read_bytes(), path.stat().st_mode
    except OSError as error:
        raise KeyUnusableError(f"{path}: {error.strerror}") from error
    if os.name != "nt" and stat.S_IMODE(mode) & 0o077:
        raise KeyUnusableError(f"{path}: others may read it; delete it, and a new one is made")
    if len(key) != KEY_BYTES:
        raise KeyUnusableError(f"{path}: is not a key; delete it, and a new one is made")
    return key


def _make_key(path: Path) -> None:
    """Create the key atomically; a key that another process created first stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    temporary = Path(name)  # readable by this user alone
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        if not path.exists():
            _publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        os.replace(temporary, path)
