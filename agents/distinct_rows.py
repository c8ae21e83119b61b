"""Find the distinct rows of a batch, so that equal observations are encoded once."""

from __future__ import annotations

from dataclasses import dataclass
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


WORTH_IT = 0.9
"""Share of distinct observations above which to tell them apart saves nothing."""


@dataclass(frozen=True)
class Distinct:
    """The distinct ones of B observations."""

    observations: Tensor | dict[str, Tensor]
    """(M, …) of each key."""
    inverse: Tensor
    """(B,) int64: which of them each was."""


def distinct_observations(observations: Tensor | dict[str, Tensor]) -> Distinct | None:
    """The distinct ones of observations (B, …) of bytes, as the environments give them.

    A hash finds what repeats and a comparison makes sure of it, so that this is exact.

    Returns:
        None where there are not only bytes (uint8), where more than 90 % differ, or where two
        different ones have the same hash (below 2^-38 for each pair).
    """
    keyed = observations if isinstance(observations, dict) else {"": observations}
    if any(part.dtype != torch.uint8 for part in keyed.values()):
        return None
    if any(len(part) < 2 for part in keyed.values()):
        return None
    words = _words([part.flatten(1) for part in keyed.values()])
    # What is in the top byte of a word alone would leave a hash but 8 bits, so it comes twice.
    low, high = _multipliers(2 * words.shape[1], words.device).chunk(2)
    hashes = words @ low + (words >> 32) @ high
    distinct, inverse = torch.unique(hashes, return_inverse=True)
    if len(distinct) > WORTH_IT * len(words):
        return None
    representatives = torch.empty(len(distinct), dtype=torch.int64, device=words.device)
    representatives[inverse] = torch.arange(len(words), device=words.device)
    if not torch.equal(words.index_select(0, representatives.index_select(0, inverse)), words):
        return None
    taken = {key: part.index_select(0, representatives) for key, part in keyed.items()}
    return Distinct(taken if isinstance(observations, dict) else taken[""], inverse)


def _words(parts: list[Tensor]) -> Tensor:
    """Bytes (B, n_i) one after the other as (B, W) int64, with zeros at the end."""
    n_bytes = sum(part.shape[1] for part in parts)
    if len(parts) == 1 and n_bytes % 8 == 0:
        return parts[0].contiguous().view(torch.int64)
    padding = parts[0].new_zeros(len(parts[0]), -n_bytes % 8)
    return torch.cat([*parts, padding], dim=1).view(torch.int64)
