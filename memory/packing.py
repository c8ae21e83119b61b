"""Compression of arrays for files, if that at least halves them.

Observations repeat: a MiniGrid memory shrinks to a twentieth. A packed array is the gzip stream of
the array's bytes; one more array, the table, holds the dtype and shape of each.
"""

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

TABLE = "packed"
"""Name of the table: JSON, name of a packed array → [dtype, shape], as bytes."""

_LEVEL = 1  # three times as fast as the default, for a file little larger
_GZIP = 31  # the gzip format; its CRC-32 finds changes that zlib's Adler-32 misses
_SMALL = 4096
_SAMPLE = 1 << 20
_PIECE = 1 << 16  # compressed bytes per call, so that no array is in memory twice
_DTYPES = frozenset(
    {"|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8"}
)
_MOST = 1100
"""Above the largest ratio of compression (1032, https://www.zlib.net/zlib_tech.html)."""
_MOST_AXES = 64  # NumPy's own limit


def pack(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compress the arrays that shrink to half their size or less, and add the table of these.

    Args:
        arrays: of any shapes and dtypes. The name `TABLE` is reserved.

    Raises:
        ValueError: an array is named `TABLE`.
    """
    if TABLE in arrays:
        raise ValueError(f"an array is named {TABLE!r}, which is the name of the table of others")
    found, table = {}, {}
    for name, array in arrays.items():
        found[name] = np.asarray(array, order="C")
        packed = _packed(found[name])
        if packed is not None:
            table[name] = [array.dtype.str, list(array.shape)]
            found[name] = packed
    if table:
        found[TABLE] = np.frombuffer(json.dumps(table).encode(), dtype=np.uint8).copy()
    return found


def unpack(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Undo `pack`. Arrays that are not packed are returned as they are.

    Raises:
        ValueError: a packed array does not match the table.
    """
    found = dict(arrays)
    table = _table(found.pop(TABLE, None))
    for name, entry in table.items():
        if name not in found:
            raise ValueError(f"{name!r} is missing")
        try:
            found[name] = _unpacked(found[name], entry)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"{name!r} cannot be unpacked: {error}") from error
    return found


def _packed(array: np.ndarray) -> np.ndarray | None:
    """(n,) uint8; None if the array, or the start of a long one, does not shrink to half."""
    if array.nbytes < _SMALL or array.dtype.str not in _DTYPES:
        return None
    given = array.reshape(-1).view(np.uint8).data
    if len(given) > _SAMPLE and _halved(given[:_SAMPLE]) is None:
        return None
    packed = _halved(given)
    if packed is None:
        return None
    return np.frombuffer(packed, dtype=np.uint8).copy()  # `frombuffer` is read-only


def _halved(given: memoryview) -> bytes | None:
    packed = zlib.compress(given, _LEVEL, wbits=_GZIP)
    return packed if 2 * len(packed) <= len(given) else None


def _unpacked(packed: np.ndarray, entry: object) -> np.ndarray:
    """The array; ValueError or zlib.error, before much is allocated, if `entry` does not fit."""
    if packed.ndim != 1 or packed.dtype != np.uint8:
        raise ValueError(f"it is of dtype {packed.dtype} and shape {packed.shape}, not of bytes")
    dtype, shape = _dtype_and_shape(entry, most=_MOST * packed.nbytes)
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes > _MOST * packed.nbytes:
        raise ValueError(f"{packed.nbytes} bytes do not hold its shape")
    content, n_done = np.empty(n_bytes, dtype=np.uint8), 0
    stream = zlib.decompressobj(wbits=_GZIP)
    for begin in range(0, len(packed), _PIECE):
        part = packed[begin : begin + _PIECE].tobytes()
        piece = stream.decompress(part, n_bytes - n_done + 1)
        if n_done + len(piece) > n_bytes:
            raise ValueError(f"it holds more than the {n_bytes} bytes of its shape")
        content[n_done : n_done + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        n_done += len(piece)
    if n_done != n_bytes or not stream.eof or stream.unused_data:
        raise ValueError(f"it does not hold the {n_bytes} bytes of its shape")
    return content.view(dtype).reshape(shape)


def _dtype_and_shape(entry: object, *, most: int) -> tuple[np.dtype[Any], list[int]]:
    """Dtype and shape of an entry of the table; ValueError if a size is above `most` or invalid."""
    match entry:
        case [str(name), list(shape)]:
            pass
        case _:
            raise ValueError("the table does not tell its dtype and shape")
    if name not in _DTYPES:
        raise ValueError(f"its dtype must be one of {', '.join(sorted(_DTYPES))}")
    if len(shape) > _MOST_AXES or not all(type(n) is int and 0 < n <= most for n in shape):
        raise ValueError(f"its shape must be at most {_MOST_AXES} sizes from 1 to {most}")
    return np.dtype(name), shape


def _table(array: np.ndarray | None) -> dict[str, Any]:
    """Name → [dtype, shape], values unchecked; ValueError if it is not a table."""
    if array is None:
        return {}
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"{TABLE} is of dtype {array.dtype} and shape {array.shape}, not of bytes")
    try:
        table = json.loads(array.tobytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{TABLE} cannot be read: {error}") from error
    if not isinstance(table, dict):
        raise ValueError(f"{TABLE} is a {type(table).__name__}, not a table; the file is damaged")
    return table
