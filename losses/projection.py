"""Projection heads, the queries that they give, and the similarity of queries and keys."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

DISTINCT_SHARE = 0.75
"""Deduplicate if at most this share of the anchors is distinct; above, it costs time."""


def projection_head(n_in: int, n_out: int) -> nn.Sequential:
    """From features (B, n_in) to queries (B, n_out): one hidden layer as wide as the features."""
    return nn.Sequential(nn.Linear(n_in, n_in), nn.ReLU(), nn.Linear(n_in, n_out))


def distinct_queries(
    head: nn.Module, features: Tensor, hashes: np.ndarray
) -> tuple[Tensor, Tensor | None]:
    """Queries of length 1 of the distinct anchors, and the index of each anchor's query.

    Observations repeat: in a small room, a quarter of 256 anchors are distinct. If equal
    observations have different features (dropout), or if few repeat, each anchor has a query of
    its own. The results are equal to rounding.

    Args:
        head: from features to queries, row by row.
        features: (B, D), of the anchors.
        hashes: (B,), of their observations.

    Returns:
        queries (M, E); inverse (B,) int64, or None if M = B, with one query for each anchor.
    """
    if len(set(hashes.tolist())) <= DISTINCT_SHARE * len(hashes):
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        places = torch.as_tensor(inverse, device=features.device)
        distinct = features.index_select(0, torch.as_tensor(first, device=features.device))
        if torch.equal(distinct.detach().index_select(0, places), features.detach()):
            return F.normalize(head(distinct), dim=1), places
    return F.normalize(head(features), dim=1), None


def similarities(queries: Tensor, inverse: Tensor | None, negatives: Tensor) -> Tensor:
    """Inner products (B, K) of each anchor's query with the keys of its negatives.

    Args:
        queries: (M, E), and
        inverse: (B,) or None, of B anchors as from `distinct_queries`.
        negatives: (G, K, E); anchor b is in group `b mod G`.
    """
    if len(negatives) == 1:
        products = queries @ negatives[0].T
        return products if inverse is None else products.index_select(0, inverse)
    if inverse is not None:
        queries = queries.index_select(0, inverse)
    n, n_groups = len(queries), len(negatives)
    padded = F.pad(queries, (0, 0, 0, -n % n_groups))
    of_group = padded.view(-1, n_groups, padded.shape[1]).transpose(0, 1)
    products = torch.bmm(of_group, negatives.transpose(1, 2)).transpose(0, 1)
    return products.reshape(len(padded), -1)[:n]
