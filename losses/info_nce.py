"""InfoNCE with masks and weights."""

from __future__ import annotations

import torch
from torch import Tensor


def info_nce(
    positive_logits: Tensor,
    negative_logits: Tensor,
    *,
    mask: Tensor | None = None,
    log_weights: Tensor | None = None,
) -> Tensor:
    """`L_b = -log( exp(s_b) / (exp(s_b) + Σ_k w_bk exp(s_bk)) )`, k over the usable negatives.

    Oord et al. 2018, https://arxiv.org/abs/1807.03748, with weights on the negatives. With all
    logits equal, no mask and no weights it is log(K + 1).

    Args:
        positive_logits: (B,) floating, `s_b`: similarity already divided by the temperature.
        negative_logits: (B, K) floating, `s_bk`.
        mask: (B, K) bool, True where the negative may be used; None: everywhere.
        log_weights: (B, K) floating, `log w_bk`; -inf drops a negative; None: all weigh 1.

    Returns:
        (B,). An anchor without usable negatives gets exactly 0, and exactly 0 as gradient.

    Raises:
        ValueError: shapes or dtypes do not fit.
    """
    _check(positive_logits, negative_logits, mask, log_weights)
    if log_weights is not None:
        negative_logits = negative_logits + log_weights
    if mask is not None:
        negative_logits = negative_logits.masked_fill(~mask, -torch.inf)
    logits = torch.cat([positive_logits[:, None], negative_logits], dim=1)
    return torch.logsumexp(logits, dim=1) - positive_logits


def _check(
    positive_logits: Tensor,
    negative_logits: Tensor,
    mask: Tensor | None,
    log_weights: Tensor | None,
) -> None:
    if positive_logits.ndim != 1:
        raise ValueError(f"positive_logits has shape {tuple(positive_logits.shape)}; expected (B,)")
    if negative_logits.ndim != 2 or len(negative_logits) != len(positive_logits):
        raise ValueError(
            f"negative_logits has shape {tuple(negative_logits.shape)}; "
            f"expected ({len(positive_logits)}, K)"
        )
    if not (positive_logits.is_floating_point() and negative_logits.is_floating_point()):
        raise ValueError("logits must be floating point")
    for name, tensor in (("mask", mask), ("log_weights", log_weights)):
        if tensor is not None and tensor.shape != negative_logits.shape:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; "
                f"negative_logits has {tuple(negative_logits.shape)}"
            )
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"mask has dtype {mask.dtype}; expected torch.bool, True = usable")
