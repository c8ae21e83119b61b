"""Queries of the anchors: what a head makes of their features, once for each distinct one."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

DISTINCT_SHARE = 0.75
"""Of the anchors; where more of them differ, gathering costs more than it saves."""


def distinct_queries(
    head: nn.Module, features: Tensor, hashes: np.ndarray
) -> tuple[Tensor, Tensor | None]:
    """Queries of length 1 of the distinct anchors, and which of them each anchor is.

    Views repeat: of 256 anchors in a small room a quarter differ. Equal observations have equal
    features, unless the encoder draws (dropout): that is looked at, and then, as where few repeat,
    each anchor has a query of its own. What is computed from them is the same to rounding.

    Args:
        head: from features to queries, row by row.
        features: (B, D), of the anchors.
        hashes: (B,), of their observations.

    Returns:
        queries (M, E); inverse (B,) int64, or None where M = B and they stand in order.
    """
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    if len(first) <= DISTINCT_SHARE * len(hashes):
        places = torch.as_tensor(inverse, device=features.device)
        distinct = features.index_select(0, torch.as_tensor(first, device=features.device))
        if torch.equal(distinct.detach().index_select(0, places), features.detach()):
            return F.normalize(head(distinct), dim=1), places
    return F.normalize(head(features), dim=1), None
