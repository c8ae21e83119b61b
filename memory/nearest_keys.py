"""Search for the nearest keys: faiss behind one class."""

from __future__ import annotations

from typing import Any, Literal, get_args

import faiss
import numpy as np

from .observations import Int64Array

Index = Literal["auto", "flat", "ivf"]
INDEXES: tuple[str, ...] = get_args(Index)

LARGEST_FLAT = 100_000
"""`auto` searches exactly up to so many keys, see benchmarks/memory.py."""
_LISTS_PROBED = 0.5  # share of IVF's lists that is searched: the band reaches to 5 % of the keys


class NearestKeys:
    """The keys nearest to some queries by inner product (for keys of length 1: by cosine).

    `flat` compares every key with every query: exact; a key can be overwritten in place. `ivf`
    (inverted lists) looks at half of them only, and is built again where keys have changed.
    `auto` is `flat` up to `LARGEST_FLAT` keys and `ivf` above. Ties go in any order. (A graph,
    HNSW, was slower than `flat` in every try: the band of ranks reaches too far for it.)
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
        self.index = index if index != "auto" else _fastest(len(self._keys))
        self._built: Any = None

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
        self._built = None

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
            similarities, places = faiss.knn(
                queries, self._keys, k, metric=faiss.METRIC_INNER_PRODUCT
            )
        else:
            similarities, places = self._approximate().search(queries, k)
        places = places.astype(np.int64, copy=False)
        return places, np.where(places < 0, np.float32(-np.inf), similarities)

    def recall(self, queries: np.ndarray, ranks: tuple[int, int]) -> float:
        """Share of the keys it finds at ranks [first, last) that are truly among those ranks."""
        first, last = ranks[0], min(ranks[1], len(self._keys))
        found, _ = self.search(queries, last)
        truth, _ = NearestKeys(self._keys, index="flat").search(queries, last)
        shared = [
            len(np.intersect1d(a[first:last], b[first:last]))
            for a, b in zip(found, truth, strict=True)
        ]
        return float(np.mean(shared)) / (last - first)

    def _approximate(self) -> Any:
        if self._built is None:
            self._built = _build(self._keys)
        return self._built

    def _check_width(self, keys: np.ndarray) -> None:
        if keys.ndim != 2 or keys.shape[1] != self.width:
            raise ValueError(f"keys of shape {keys.shape} do not fit: these are {self.width} wide")


def _fastest(n_keys: int) -> Index:
    return "flat" if n_keys <= LARGEST_FLAT else "ivf"


def _build(keys: np.ndarray) -> Any:
    n_keys, width = keys.shape
    n_lists = max(1, int(np.sqrt(n_keys)))
    lists = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, n_lists, faiss.METRIC_INNER_PRODUCT)
    lists.cp.seed = 0
    lists.cp.min_points_per_centroid = 1
    lists.train(keys[:: max(1, n_keys // (64 * n_lists))])
    lists.add(keys)
    lists.nprobe = max(1, round(n_lists * _LISTS_PROBED))
    return _on_gpu(lists)


def _on_gpu(index: Any) -> Any:
    """On the first GPU where faiss has been built for one."""
    if getattr(faiss, "get_num_gpus", lambda: 0)() == 0:
        return index
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)


def _check_finite(keys: np.ndarray) -> None:
    if not np.isfinite(keys).all():
        bad = int(np.flatnonzero(~np.isfinite(keys).all(axis=1))[0])
        raise ValueError(f"key {bad} is NaN or infinite; expected finite numbers")
