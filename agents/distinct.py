"""Find the distinct rows of a batch, so that equal observations are encoded once."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=32)
def _multipliers(width: int, device: torch.device) -> Tensor:
    """Fixed random odd int64 multipliers (width,), of no global generator."""
    generator = torch.Generator().manual_seed(0x5EED)
    draws = torch.randint(-(2**62), 2**62, (width,), generator=generator)
    return (2 * draws + 1).to(device)


def distinct_rows(codes: Tensor) -> tuple[Tensor, Tensor]:
    """One representative for each distinct row, and which one stands for each row.

    Rows are told apart by a linear 64-bit hash with fixed random odd multipliers: for entries
    below 2**16 two different rows collide with a probability below 2**-47.

    Args:
        codes: (B, W) int64, entries below 2**16.

    Returns:
        representatives (M,) int64, row numbers; inverse (B,) int64, so that
        `codes[representatives][inverse]` equals `codes`.
    """
    hashes = codes @ _multipliers(codes.shape[1], codes.device)
    distinct, inverse = torch.unique(hashes, return_inverse=True)
    representatives = torch.empty(len(distinct), dtype=torch.int64, device=codes.device)
    representatives[inverse] = torch.arange(len(codes), device=codes.device)
    return representatives, inverse
