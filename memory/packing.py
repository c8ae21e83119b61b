"""Arrays as files keep them: compressed where that takes at most half the bytes.

Observations repeat: of a MiniGrid memory a twentieth is left. Each packed array is its bytes as
zlib packs them, and one more array tells of all of them what they were.
"""

import json
import math
import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

TABLE = "packed"
"""Name of the array that tells what was packed: JSON, name → [dtype, shape], as bytes."""

_LEVEL = 1  # three times as fast as the default, for a file little larger
_SMALL = 4096
_PLAIN = re.compile(r"[<>|][biuf][1248]")
_SAMPLE = 1 << 20
_MOST = 1100
"""No zlib stream unpacks to more times its size (https://www.zlib.net/zlib_tech.html: 1032)."""


def pack(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays, those packed that get at least twice as small, and the table of these.

    Args:
        arrays: of any shapes, of bool, integers or floats; none is named `TABLE`.

    Raises:
        ValueError: one has the table's name.
    """
    if TABLE in arrays:
        raise ValueError(f"an array is named {TABLE!r}, which is the name of the table of others")
    found, table = {}, {}
    for name, array in arrays.items():
        found[name] = np.ascontiguousarray(array)
        packed = _packed(found[name])
        if packed is not None:
            table[name] = [array.dtype.str, list(array.shape)]
            found[name] = packed
    if table:
        found[TABLE] = np.frombuffer(json.dumps(table).encode(), dtype=np.uint8).copy()
    return found


def unpack(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays that were given to `pack`; those that were never packed as they are.

    Raises:
        ValueError: what is packed is not what the table says.
    """
    found = dict(arrays)
    table = _table(found.pop(TABLE, None))
    for name, entry in table.items():
        if name not in found:
            raise ValueError(f"{name} is missing")
        try:
            found[name] = _unpacked(found[name], *entry)
        except (TypeError, ValueError, zlib.error) as error:  # TypeError: a dtype such as "<f1"
            raise ValueError(f"{name} cannot be unpacked: {error}") from error
    return found


def _packed(array: np.ndarray) -> np.ndarray | None:
    """(n,) uint8; None where it is not worth it, which the first of its bytes tell."""
    if array.nbytes < _SMALL or not _PLAIN.fullmatch(array.dtype.str):
        return None
    given = array.reshape(-1).view(np.uint8).data
    for n_bytes in sorted({min(_SAMPLE, len(given)), len(given)}):
        packed = zlib.compress(given[:n_bytes], _LEVEL)
        if 2 * len(packed) > n_bytes:
            return None
    return np.frombuffer(packed, dtype=np.uint8).copy()  # `frombuffer` is read-only


def _unpacked(packed: np.ndarray, dtype: str, shape: list[int]) -> np.ndarray:
    """Raises ValueError, TypeError or zlib.error, before much is spent, if they do not fit."""
    if not _PLAIN.fullmatch(dtype):
        raise ValueError(f"its dtype is {dtype!r}")
    if not all(type(size) is int and size > 0 for size in shape):
        raise ValueError(f"its shape is {shape!r}")
    if packed.ndim != 1 or packed.dtype != np.uint8:
        raise ValueError(f"it is of dtype {packed.dtype} and shape {packed.shape}, not of bytes")
    kind = np.dtype(dtype)
    n_bytes = math.prod(shape) * kind.itemsize
    if n_bytes > _MOST * packed.nbytes:
        raise ValueError(f"{packed.nbytes} bytes do not hold {n_bytes}")
    stream = zlib.decompressobj()
    content = stream.decompress(packed.tobytes(), n_bytes)
    if len(content) != n_bytes or not stream.eof or stream.unused_data:
        raise ValueError(f"it does not hold the {n_bytes} bytes of {shape} {dtype}")
    return np.frombuffer(content, dtype=kind).reshape(shape).copy()  # `frombuffer` is read-only


def _table(array: np.ndarray | None) -> dict[str, Any]:
    """Name → [dtype, shape]; ValueError for another."""
    if array is None:
        return {}
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"{TABLE} is of dtype {array.dtype} and shape {array.shape}, not of bytes")
    try:
        table = json.loads(array.tobytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{TABLE} cannot be read: {error}") from error
    if not isinstance(table, dict) or not all(_is_entry(entry) for entry in table.values()):
        raise ValueError(f"{TABLE} does not tell the dtype and shape of arrays")
    return table


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, list) or len(entry) != 2:
        return False
    return isinstance(entry[0], str) and isinstance(entry[1], list)
