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
    """One representative for each distinct row, and the representative of each row.

    Rows are compared by a linear 64-bit hash with fixed random odd multipliers: for entries
    below 2**16 two different rows collide with a probability below 2**-47.

    Args:
        codes: (B, W) int64, entries below 2**16.

    Returns:
        representatives (M,) int64, row numbers; inverse (B,) int64, so that
        `codes[representatives][inverse]` equals `codes`.
    """
    return _by_hash(codes @ _multipliers(codes.shape[1], codes.device))


def _by_hash(hashes: Tensor) -> tuple[Tensor, Tensor]:
    distinct, inverse = torch.unique(hashes, return_inverse=True)
    representatives = torch.empty(len(distinct), dtype=torch.int64, device=hashes.device)
    representatives[inverse] = torch.arange(len(hashes), device=hashes.device)
    return representatives, inverse


_WORTH_IT = 0.9
"""Share of distinct rows above which deduplication saves no time."""


def confirmed_distinct_rows(
    rows: Tensor, hashes: Tensor | None = None
) -> tuple[Tensor, Tensor] | None:
    """As `distinct_rows`, but exact: a comparison confirms what the hashes say.

    Args:
        rows: (B, W) int64, of any values.
        hashes: (B,) int64 of the rows; None: those of `distinct_rows`.

    Returns:
        None if deduplication does not apply: more than 90 % of the rows differ, or two different
        rows have the same hash.
    """
    if hashes is None:
        hashes = rows @ _multipliers(rows.shape[1], rows.device)
    representatives, inverse = _by_hash(hashes)
    if len(representatives) > _WORTH_IT * len(rows):
        return None
    copies = rows.index_select(0, representatives.index_select(0, inverse))
    return (representatives, inverse) if torch.equal(copies, rows) else None


def distinct_observations(
    observations: Tensor | dict[str, Tensor],
) -> tuple[Tensor | dict[str, Tensor], Tensor] | None:
    """Deduplicate observations (B, …) of bytes, as the environments return them.

    Duplicates are found by a hash and confirmed by a comparison, so the result is exact.

    Returns:
        the distinct observations (M, …); the index of each of the B among them, (B,) int64.
        None if deduplication does not apply: a part is not uint8, more than 90 % differ, or two
        different observations have the same hash (probability below 2^-38 for each pair).
    """
    keyed = observations if isinstance(observations, dict) else {"": observations}
    if any(part.dtype != torch.uint8 for part in keyed.values()):
        return None
    if any(len(part) < 2 for part in keyed.values()):
        return None
    words = _words([part.flatten(1) for part in keyed.values()])
    # A word that differs in its top byte alone would change only 8 bits of the hash: hash it twice.
    low, high = _multipliers(2 * words.shape[1], words.device).chunk(2)
    hashes = words @ low + (words >> 32) @ high
    found = confirmed_distinct_rows(words, hashes)
    if found is None:
        return None
    representatives, inverse = found
    taken = {key: part.index_select(0, representatives) for key, part in keyed.items()}
    return taken if isinstance(observations, dict) else taken[""], inverse


def _words(parts: list[Tensor]) -> Tensor:
    """Bytes (B, n_i) one after the other as (B, W) int64, with zeros at the end."""
    n_bytes = sum(part.shape[1] for part in parts)
    if len(parts) == 1 and n_bytes % 8 == 0:
        return parts[0].contiguous().view(torch.int64)
    padding = parts[0].new_zeros(len(parts[0]), -n_bytes % 8)
    return torch.cat([*parts, padding], dim=1).view(torch.int64)
