"""Search for the nearest keys: an exact comparison, or faiss's inverted lists, behind one class."""

from __future__ import annotations

import logging
from typing import Any, Literal, get_args

import faiss
import numpy as np

from .observations import Int64Array

Index = Literal["auto", "flat", "ivf"]
INDEXES: tuple[str, ...] = get_args(Index)

_N_MEASURED, _RECALL_MEASURED = 32, 0.97  # on so many of the keys, for .95 on others
_SHARES_PROBED = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)  # of the lists; the last is exact
_MOST_ON_GPU = 2048  # faiss searches for no more neighbours there, nor in more lists
_MOST_COMPARED = 2**24  # similarities held at once

_log = logging.getLogger(__name__)


class NearestKeys:
    """The keys nearest to some queries by inner product (for keys of length 1: by cosine).

    `flat` compares every key with every query, in one matrix product: exact; a key can be
    overwritten in place. `ivf` (faiss's inverted lists, on the first GPU where faiss has one) looks
    into as few lists as find 95 % of the nearest, and is built again where keys have changed. Ties
    go in any order.

    `auto` is `flat`, of however many keys: for what the samplers ask, a twentieth of the keys, it
    was the faster at every size tried, to 1e6, the building of lists not counted (docs/memory.md).
    A few neighbours among very many keys that stay are what `ivf` is for.
    """

    def __init__(self, keys: np.ndarray, *, index: Index = "auto") -> None:
        """
        Args:
            keys: (N, D) floating, N >= 1; copied as float32.
            index: how to search.

        Raises:
            ValueError: no keys, a key that is not finite, or an unknown index.
        """
        if index not in INDEXES:
            raise ValueError(f"index is {index!r}; expected one of {', '.join(INDEXES)}")
        self._keys = np.array(keys, np.float32, order="C")
        if self._keys.ndim != 2 or not len(self._keys):
            raise ValueError(f"keys have shape {keys.shape}; expected (N, D) with N of 1 or more")
        _check_finite(self._keys)
        self.index = "flat" if index == "auto" else index
        self._lists: Any = None
        self._ready: Any = None  # the lists, where they are searched
        self._ready_for = 0  # neighbours

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def keys(self) -> np.ndarray:
        """(N, D) float32; read-only."""
        view = self._keys.view()
        view.flags.writeable = False
        return view

    @property
    def width(self) -> int:
        """D, entries of a key."""
        return int(self._keys.shape[1])

    def overwrite(self, places: np.ndarray, keys: np.ndarray) -> None:
        """Put other keys (n, D) at places (n,) in [0, N)."""
        self._check_width(keys)
        _check_finite(keys)
        self._keys[places] = keys
        self._lists = None

    def search(self, queries: np.ndarray, k: int) -> tuple[Int64Array, np.ndarray]:
        """The min(k, N) nearest of each query, the nearest first.

        Args:
            queries: (Q, D) floating.
            k: how many, >= 1.

        Returns:
            places (Q, k') int64 in [0, N), similarities (Q, k') float32. Approximate indexes may
            find fewer: then -1 and -inf fill the end of a line.

        Raises:
            ValueError: k < 1, another width, or a query that is not finite.
        """
        if k < 1:
            raise ValueError(f"k is {k}; it must be 1 or more")
        self._check_width(queries)
        _check_finite(queries)
        queries = np.ascontiguousarray(queries, np.float32)
        k = min(k, len(self._keys))
        if self.index == "flat":
            return _nearest(self._keys, queries, k)
        similarities, places = self._approximate(k).search(queries, k)
        places = places.astype(np.int64, copy=False)
        return places, np.where(places < 0, np.float32(-np.inf), similarities)

    def recall(self, queries: np.ndarray, ranks: tuple[int, int]) -> float:
        """Share of the keys it finds at ranks [first, last) that are truly among those ranks."""
        first, last = ranks[0], min(ranks[1], len(self._keys))
        found, _ = self.search(queries, last)
        truth, _ = _nearest(self._keys, np.asarray(queries, np.float32), last)
        return _shared(found[:, first:], truth[:, first:])

    def _approximate(self, k: int) -> Any:
        if self._lists is None:
            self._lists, self._ready_for = _inverted_lists(self._keys), 0
        if k > self._ready_for:
            _probe_enough(self._lists, self._keys, k)
            fits = max(k, self._lists.nprobe) <= _MOST_ON_GPU
            self._ready = _on_gpu(self._lists) if fits else self._lists
            self._ready_for = k
        return self._ready

    def _check_width(self, keys: np.ndarray) -> None:
        if keys.ndim != 2 or keys.shape[1] != self.width:
            raise ValueError(f"keys of shape {keys.shape} do not fit: these are {self.width} wide")


def _nearest(keys: np.ndarray, queries: np.ndarray, k: int) -> tuple[Int64Array, np.ndarray]:
    """Places and similarities (Q, k) of the k nearest keys, the nearest first.

    A partition, and then a sort of those k alone: for k in the thousands that takes a quarter of
    the time of the heaps of `faiss.knn`.
    """
    places = np.empty((len(queries), k), np.int64)
    similarities = np.empty((len(queries), k), np.float32)
    n_together = max(1, _MOST_COMPARED // len(keys))
    for start in range(0, len(queries), n_together):
        part = slice(start, start + n_together)
        distances = -(queries[part] @ keys.T)
        nearest = distances.argpartition(k - 1, axis=1)[:, :k]
        distances = np.take_along_axis(distances, nearest, axis=1)
        order = distances.argsort(axis=1)
        places[part] = np.take_along_axis(nearest, order, axis=1)
        similarities[part] = -np.take_along_axis(distances, order, axis=1)
    return places, similarities


def _inverted_lists(keys: np.ndarray) -> Any:
    n_keys, width = keys.shape
    n_lists = max(1, int(np.sqrt(n_keys)))
    lists = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, n_lists, faiss.METRIC_INNER_PRODUCT)
    lists.cp.seed = 0
    lists.cp.min_points_per_centroid = 1
    lists.train(keys[:: max(1, n_keys // (64 * n_lists))])
    lists.add(keys)
    return lists


def _probe_enough(lists: Any, keys: np.ndarray, k: int) -> None:
    """Has so many lists looked into that 97 % of the k nearest of some of the keys are found."""
    n_keys, n_lists = len(keys), lists.nlist
    queries = keys[:: -(-n_keys // _N_MEASURED)]
    truth, _ = _nearest(keys, queries, k)
    for share in _SHARES_PROBED:
        lists.nprobe = max(1, round(n_lists * share))
        recall = _shared(lists.search(queries, k)[1], truth)
        if recall >= _RECALL_MEASURED:
            break
    _log.info(
        "%d of %d lists of keys hold %.3f of the %d nearest", lists.nprobe, n_lists, recall, k
    )


def _shared(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the places in each line of `truth` (Q, k) that are in that line of `found`."""
    shares = [np.isin(b, a).mean() for a, b in zip(found, truth, strict=True)]
    return float(np.mean(shares))


def _on_gpu(index: Any) -> Any:
    """On the first GPU where faiss has been built for one."""
    if getattr(faiss, "get_num_gpus", lambda: 0)() == 0:
        return index
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)


def _check_finite(keys: np.ndarray) -> None:
    if not np.isfinite(keys).all():
        bad = int(np.flatnonzero(~np.isfinite(keys).all(axis=1))[0])
        raise ValueError(f"key {bad} is NaN or infinite; expected finite numbers")
