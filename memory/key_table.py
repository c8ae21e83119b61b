"""Keys of observations, computed once each until the teacher that makes them changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .base import Memory
from .observations import Int64Array, Observations

Encode = Callable[[Observations], np.ndarray]
"""From N observations to their keys (N, width), float32."""

_FIRST_ROOM = 1024


class KeyTable:
    """The keys that one snapshot of a teacher gives to observations, computed when first asked.

    Keys are found by the observation's hash: rows that show the same observation share one, also
    rows of different memories. So it costs what is drawn, once, however large the memories are;
    only rows that are asked for are encoded. Call `clear` when the teacher changes.
    """

    def __init__(self, *, width: int, encode: Encode, most: int = 200_000) -> None:
        """
        Args:
            width: D, entries of a key.
            encode: the teacher; its keys must be finite.
            most: keys that are kept; the table starts afresh where there would be more (only one
                call for more than that exceeds it).
        """
        if width < 1 or most < 1:
            raise ValueError(f"width is {width} and most is {most}; both must be 1 or more")
        self.width = width
        self.most = most
        self.n_encoded = 0
        """Observations encoded since the table was made."""
        self._encode = encode
        self.clear()

    def __len__(self) -> int:
        """Keys known."""
        return len(self._hashes)

    def clear(self) -> None:
        """Forget all keys: the teacher has changed."""
        self._hashes: Int64Array = np.empty(0, np.int64)  # sorted
        self._places: Int64Array = np.empty(0, np.int64)  # of each hash in _keys
        self._keys = np.empty((_FIRST_ROOM, self.width), np.float32)

    def keys(self, memory: Memory, rows: np.ndarray) -> np.ndarray:
        """(n, D) float32: the keys of a memory's rows (n,).

        Raises:
            FloatingPointError: the teacher gives a key that is NaN or infinite (names the row's
                task, step and frame).
            ValueError: the teacher gives keys of another width.
        """
        hashes = memory.hashes(rows)
        found, known = self._find(hashes)
        if not known.all():
            if len(self) + int((~known).sum()) > self.most:
                self.clear()
                known[:] = False
            fresh, first = np.unique(hashes[~known], return_index=True)
            self._add(fresh, memory, rows[~known][first])
            found, _ = self._find(hashes)
        keys: np.ndarray = self._keys[self._places[found]]
        return keys

    def _find(self, hashes: Int64Array) -> tuple[Int64Array, np.ndarray]:
        """Place of each hash among the sorted ones, and whether it is there."""
        if not len(self._hashes):
            return np.zeros(len(hashes), np.int64), np.zeros(len(hashes), np.bool_)
        places = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return places, self._hashes[places] == hashes

    def _add(self, hashes: Int64Array, memory: Memory, rows: np.ndarray) -> None:
        """Encode one row for each of some distinct, sorted, unknown hashes."""
        keys = self._encode(memory.observations(rows))
        if keys.shape != (len(rows), self.width):
            raise ValueError(
                f"the teacher gave keys of shape {keys.shape}; expected ({len(rows)}, {self.width})"
            )
        if not np.isfinite(keys).all():
            row = rows[~np.isfinite(keys).all(axis=1)][:1]
            raise FloatingPointError(
                f"the key of an observation of {memory.tasks[memory.task_ids(row)[0]]} (step "
                f"{memory.steps(row)[0]} of its episode, frame {memory.times(row)[0]}) is not "
                "finite: the encoder has diverged; lower the learning rate"
            )
        self.n_encoded += len(rows)
        self._write(hashes, keys)

    def _write(self, hashes: Int64Array, keys: np.ndarray) -> None:
        n, n_new = len(self._hashes), len(hashes)
        if n + n_new > len(self._keys):
            room = np.empty((max(2 * len(self._keys), n + n_new), self.width), np.float32)
            room[:n] = self._keys[:n]
            self._keys = room
        self._keys[n : n + n_new] = keys
        at = np.searchsorted(self._hashes, hashes)
        self._hashes = np.insert(self._hashes, at, hashes)
        self._places = np.insert(self._places, at, np.arange(n, n + n_new))

    # ---------------------------------------------------------------- keeping

    def state_arrays(self) -> dict[str, np.ndarray]:
        """``hashes`` (n,) int64 and ``keys`` (n, D) float32, for a file."""
        return {"hashes": self._hashes.copy(), "keys": self._keys[self._places]}

    def restore(self, hashes: np.ndarray, keys: np.ndarray) -> None:
        """Put back what `state_arrays` gave.

        Raises:
            ValueError: keys of another width (names both), or arrays that contradict themselves.
        """
        if keys.ndim != 2 or keys.shape[1] != self.width:
            width = keys.shape[1] if keys.ndim == 2 else keys.shape
            raise ValueError(f"the stored keys are {width} wide; this teacher gives {self.width}")
        sorted_once = len(hashes) == len(keys) and bool((np.diff(hashes) > 0).all())
        if hashes.dtype != np.int64 or keys.dtype != np.float32 or not sorted_once:
            raise ValueError(
                "the stored keys are broken: hashes must be int64, one per key, sorted"
            )
        if not np.isfinite(keys).all():
            raise ValueError("the stored keys are broken: one is not finite")
        self.clear()
        self._write(hashes, keys)
