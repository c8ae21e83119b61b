"""Objectives that realign an encoder by the source's frozen dynamics, without a reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from .latent_dynamics import (
    Keys,
    LatentDynamics,
    keys_in_batch,
    latent_dynamics_losses,
    statistics_loss,
)
from .source_dynamics import Criterion, SourceDynamics

_EPSILON = 1e-4


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The terms of an objective, by their weights, and the dynamics that it uses."""

    name: str
    line: str
    """What it asks for, for `list` and for tables."""
    contrast: float = 0.0
    """Weight of `L_dyn`."""
    inverse: float = 0.0
    """Weight of `L_inv`."""
    squared_error: float = 0.0
    """Weight of the squared error of g's predictions, per feature."""
    variance: float = 0.0
    """Weight of VICReg's variance and, by a 25th, its covariance term."""
    has_statistics: bool = False
    """Whether `L_stat` is added, with the weight λ."""
    criterion: Criterion = "contrast"
    """How g was fitted to the source."""
    shuffled_actions: bool = False
    """Whether g was fitted to the source's actions permuted over steps."""
    learns_dynamics: bool = False
    """Whether g starts at random and learns with the encoder: nothing of the source's dynamics."""


_ALL = (
    Objective(
        name="contrast_statistics",
        line="contrast through the source's latent dynamics, and its feature statistics",
        contrast=1.0,
        has_statistics=True,
    ),
    Objective(
        name="contrast_inverse_statistics",
        line="contrast, the source's inverse dynamics, and its feature statistics",
        contrast=1.0,
        inverse=1.0,
        has_statistics=True,
    ),
    Objective(
        name="contrast", line="contrast through the source's latent dynamics alone", contrast=1.0
    ),
    Objective(name="statistics", line="the source's feature statistics alone", has_statistics=True),
    Objective(name="inverse_dynamics", line="the source's inverse dynamics alone", inverse=1.0),
    Objective(
        name="inverse_dynamics_statistics",
        line="the source's inverse dynamics, and its feature statistics",
        inverse=1.0,
        has_statistics=True,
    ),
    Objective(
        name="squared_error",
        line="squared error of the source's latent dynamics, in place of contrast",
        squared_error=10.0,
        criterion="squared_error",
    ),
    Objective(
        name="squared_error_statistics",
        line="squared error, and the source's feature statistics",
        squared_error=10.0,
        criterion="squared_error",
        has_statistics=True,
    ),
    Objective(
        name="squared_error_variance",
        line="squared error, with VICReg's variance and covariance terms",
        squared_error=10.0,
        criterion="squared_error",
        variance=1.0,
    ),
    Objective(
        name="random_dynamics",
        line="a control: contrast through random dynamics",
        contrast=1.0,
        criterion="none",
    ),
    Objective(
        name="shuffled_actions",
        line="a control: contrast through dynamics fitted to permuted actions",
        contrast=1.0,
        shuffled_actions=True,
    ),
    Objective(
        name="own_dynamics",
        line="a control: contrast through dynamics learnt in the target",
        contrast=1.0,
        criterion="none",
        learns_dynamics=True,
    ),
)

OBJECTIVES: Mapping[str, Objective] = MappingProxyType({each.name: each for each in _ALL})
"""The objectives by name: the method first, then its parts, its rivals and its controls."""


@dataclass(frozen=True)
class WindowBatch:
    """B windows of k steps over m observations, for an objective."""

    seen: Tensor
    """(B, k + 1) int64: the observation at each step, a number in [0, m)."""
    actions: Tensor
    """(B, k, A) floating, of `action_vectors`."""
    usual: Tensor
    """(N,) int64: the observations whose statistics count."""
    keys: Tensor | None = None
    """(K,) int64: the observations that are negatives; None: the positives of the other rows."""
    nearest: int | None = None
    """How many of them count for each row: those nearest to its positive; None: all."""


def realignment_terms(
    objective: Objective,
    features: Tensor,
    batch: WindowBatch,
    source: SourceDynamics,
    *,
    dynamics: LatentDynamics | None = None,
    sharpness: float = 1.0,
) -> dict[str, Tensor]:
    """The terms of an objective, each (R,), for R restarts, without λ.

    Args:
        objective: which terms.
        features: (R, m, D) floating, with gradient: the student's features in each restart.
        batch: windows over the m observations.
        source: frozen.
        dynamics: used in place of the source's g.
        sharpness: of the kernel, see `SourceDynamics.widths`.
    """
    centred = features - source.mean
    visited = centred[:, batch.seen]  # (R, B, k + 1, D)
    terms = {}
    if objective.contrast or objective.squared_error:
        g = source.dynamics if dynamics is None else dynamics
        predicted = g.predict(visited[:, :, 0], batch.actions)
        if objective.contrast:
            terms["contrast"] = _contrast(centred, predicted, batch, source, sharpness)
        else:
            positives = visited[:, :, 1:].transpose(1, 2)
            terms["squared_error"] = (predicted - positives).square().mean(dim=(1, 2, 3))
    if objective.inverse:
        n = 1 if source.settings.changing else batch.actions.shape[1]
        losses = [
            source.inverse.loss(visited[:, :, i], visited[:, :, i + 1], batch.actions[:, i])
            for i in range(n)
        ]
        terms["inverse"] = torch.stack(losses).mean(dim=(0, 2))
    if objective.has_statistics:
        usual = features[:, batch.usual]
        terms["statistics"] = statistics_loss(usual, source.random_mean, source.covariance)
    if objective.variance:
        terms["variance"] = _variance(features[:, batch.usual])
    return terms


def weighted_sum(
    objective: Objective, terms: Mapping[str, Tensor], statistics_weight: float
) -> Tensor:
    """The objective (R,) of its terms; `statistics_weight` is λ."""
    parts = [
        (statistics_weight if name == "statistics" else getattr(objective, name)) * value
        for name, value in terms.items()
    ]
    return torch.stack(parts).sum(dim=0)


def _contrast(
    centred: Tensor,
    predicted: Tensor,
    batch: WindowBatch,
    source: SourceDynamics,
    sharpness: float,
) -> Tensor:
    """`L_dyn` (R,); masked only where a key shows the row's own positive."""
    later = batch.seen[:, 1:].T
    if batch.keys is None:
        usable = keys_in_batch(centred, later)
    else:
        counts = torch.bincount(batch.keys, minlength=centred.shape[1])
        weights = counts.to(centred.dtype).log().expand(*later.shape, -1)
        if batch.nearest is not None:
            weights = _nearest(centred, later, weights, batch.nearest)
        weights = weights.scatter(-1, later[..., None].expand(*weights.shape[:-1], 1), 0.0)
        usable = Keys(centred.unsqueeze(-3), later, weights)
    losses = latent_dynamics_losses(
        predicted,
        usable.keys,
        usable.positives,
        usable.log_weights,
        temperature=source.settings.temperature,
        widths=source.widths(sharpness),
    )
    return losses.mean(dim=(-1, -2))


@torch.no_grad()
def _nearest(centred: Tensor, later: Tensor, weights: Tensor, n: int) -> Tensor:
    """`log w` (R, k, B, m) of the n keys nearest to each positive, by cosine; -inf of others."""
    keys = F.normalize(centred, dim=-1)
    nearness = keys[:, later] @ keys.transpose(-1, -2).unsqueeze(1)
    own = torch.zeros_like(weights, dtype=torch.bool).scatter(-1, later[..., None], True)
    nearness = nearness.masked_fill(own | weights.isinf(), -torch.inf)
    places = nearness.topk(min(n, nearness.shape[-1]), dim=-1).indices
    chosen = torch.zeros_like(nearness, dtype=torch.bool).scatter_(-1, places, True)
    return weights.masked_fill(~chosen, -torch.inf)


def _variance(features: Tensor) -> Tensor:
    """VICReg's variance term and a 25th of its covariance term, (R,) of (R, N, D)."""
    n, width = features.shape[-2:]
    centred = features - features.mean(dim=-2, keepdim=True)
    covariance = centred.transpose(-1, -2) @ centred / (n - 1)
    diagonal = covariance.diagonal(dim1=-2, dim2=-1)
    variance = (1.0 - (diagonal + _EPSILON).sqrt()).relu().mean(dim=-1)
    off_diagonal = covariance.square().sum(dim=(-1, -2)) - diagonal.square().sum(dim=-1)
    return variance + off_diagonal / width / 25.0
