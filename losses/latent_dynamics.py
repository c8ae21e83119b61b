"""What follows from an action, in an encoder's features: the model g and the losses on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NEGLIGIBLE = 80.0  # e^-80 is nothing to a sum of floats that has a 1
_WIDEST = 1e30  # a range above it is none: scaled by it, all actions would be alike


def action_vectors(space: gym.Space[Any], actions: np.ndarray) -> np.ndarray:
    """Actions as vectors (N, A) float32.

    One-hot for `Discrete`, one-hots one after the other for `MultiDiscrete`, 0 and 1 for
    `MultiBinary`; for `Box` the numbers, scaled to [-1, 1] where both bounds are finite (bounds
    near float32's largest count as none).

    Args:
        space: of the actions.
        actions: (N, ...), as a memory keeps them.

    Raises:
        ValueError: another space, or an action that the space has not.
    """
    n = len(actions)
    if isinstance(space, gym.spaces.Discrete):
        return _one_hot(actions.reshape(n).astype(np.int64) - space.start, int(space.n))
    if isinstance(space, gym.spaces.MultiDiscrete):
        sizes = space.nvec.reshape(-1)
        columns = actions.reshape(n, len(sizes)).astype(np.int64) - space.start.reshape(-1)
        return np.concatenate(
            [_one_hot(columns[:, i], int(size)) for i, size in enumerate(sizes)], axis=1
        )
    if isinstance(space, gym.spaces.MultiBinary):
        return actions.reshape(n, math.prod(space.shape)).astype(np.float32)
    if isinstance(space, gym.spaces.Box):
        flat = actions.reshape(n, math.prod(space.shape)).astype(np.float64)
        low, high = (bound.reshape(-1).astype(np.float64) for bound in (space.low, space.high))
        bounded = (high > low) & (high - low < _WIDEST)
        low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        scaled: np.ndarray = (2.0 * (flat - low) / (high - low) - 1.0).astype(np.float32)
        return scaled
    raise ValueError(
        f"actions of {space} have no latent dynamics; expected a Discrete, MultiDiscrete, "
        "MultiBinary or Box space"
    )


def _one_hot(numbers: np.ndarray, n: int) -> np.ndarray:
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= n:
        raise ValueError(
            f"actions, counted from the space's first, are {numbers.min()} to {numbers.max()}; its "
            f"numbers are 0 to {n - 1}: the memory is of another action space"
        )
    hot: np.ndarray = np.eye(n, dtype=np.float32)[numbers]
    return hot


class LatentDynamics(nn.Module):
    """g: the features that follow from features and an action.

    `g(z, a) = MLP(z, a)`, or `z + MLP(z, a)`: two hidden layers with ReLU. Features are centred:
    the mean of the source's features is subtracted.

    Residual ones have tanh in place of ReLU: they are smooth, as what moves is.

    Args:
        n_features: D, width of the features.
        n_actions: A, width of the action vectors, see `action_vectors`.
        hidden: width of the hidden layers.
        residual: whether the MLP gives the change of the features.
    """

    def __init__(
        self, n_features: int, n_actions: int, *, hidden: int = 256, residual: bool = False
    ) -> None:
        super().__init__()
        self.residual = residual
        activation = nn.Tanh if residual else nn.ReLU
        self.layers = nn.Sequential(
            nn.Linear(n_features + n_actions, hidden),
            activation(),
            nn.Linear(hidden, hidden),
            activation(),
            nn.Linear(hidden, n_features),
        )

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        """Features (..., D) after actions (..., A)."""
        change: Tensor = self.layers(torch.cat([features, actions], dim=-1))
        return features + change if self.residual else change

    def predict(self, features: Tensor, actions: Tensor) -> Tensor:
        """`ẑ_i = g(ẑ_{i−1}, a_{i−1})`, from `ẑ_0`: features (..., B, D) after 1 … k actions.

        Args:
            features: (..., B, D) floating, `ẑ_0`, centred.
            actions: (B, k, A) floating.

        Returns:
            (..., k, B, D).
        """
        predicted = []
        for i in range(actions.shape[1]):
            acted = actions[:, i].expand(*features.shape[:-1], actions.shape[2])
            features = self(features, acted)
            predicted.append(features)
        return torch.stack(predicted, dim=-3)


class InverseDynamics(nn.Module):
    """The head that predicts an action from the features before and after it.

    Logits of each component of a discrete action, or the numbers of a continuous one; one hidden
    layer with ReLU. Compare Hansen et al. 2020, https://arxiv.org/abs/2007.04309.

    Args:
        n_features: D, width of the features.
        space: of the actions.
        hidden: width of the hidden layer.

    Raises:
        NotImplementedError: gymnasium cannot flatten the space.
    """

    def __init__(self, n_features: int, space: gym.Space[Any], *, hidden: int = 256) -> None:
        super().__init__()
        n_actions = gym.spaces.flatdim(space)
        self.sizes = _sizes(space)
        self.continuous = isinstance(space, gym.spaces.Box)
        self.layers = nn.Sequential(
            nn.Linear(2 * n_features, hidden), nn.ReLU(), nn.Linear(hidden, n_actions)
        )

    def loss(self, before: Tensor, after: Tensor, actions: Tensor) -> Tensor:
        """Cross-entropy of the actions, summed over components; squared error if continuous.

        Args:
            before, after: (..., N, D) floating, centred features.
            actions: (N, A) floating, of `action_vectors`.

        Returns:
            (..., N).
        """
        given = self.layers(torch.cat([before, after], dim=-1))
        if self.continuous:
            return (given - actions).square().sum(dim=-1)  # type: ignore[no-any-return]
        if not self.sizes:  # MultiBinary
            return F.binary_cross_entropy_with_logits(
                given, actions.expand_as(given), reduction="none"
            ).sum(dim=-1)
        parts = zip(
            torch.split(given, self.sizes, -1), torch.split(actions, self.sizes, -1), strict=True
        )
        terms = [-(logits.log_softmax(dim=-1) * chosen).sum(dim=-1) for logits, chosen in parts]
        return torch.stack(terms).sum(dim=0)


def _sizes(space: gym.Space[Any]) -> list[int]:
    """Number of choices of each component of a discrete action; [] for other spaces."""
    if isinstance(space, gym.spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, gym.spaces.MultiDiscrete):
        return [int(size) for size in space.nvec.reshape(-1)]
    return []


def latent_dynamics_losses(
    predicted: Tensor,
    keys: Tensor,
    positives: Tensor,
    log_weights: Tensor,
    *,
    temperature: float,
    widths: Tensor | None = None,
) -> Tensor:
    """`L_bi = −log( exp(s_bi⁺) / Σ_o w_bio exp(s_bio) )`, `s = cos(ẑ_bi, key_o) / τ`.

    InfoNCE over distinct keys: w is 1 for the positive, and for another key the number of times
    that it is a negative of the row, so that equal keys are compared once.

    With widths, `s = −½ |(ẑ_bi − key_o) / width_i|²`, and the prediction itself is one more
    negative, at s = 0: the positive is drawn to it also where no other key is near.

    Args:
        predicted: (..., k, B, D) floating, `ẑ_bi`: predictions of i steps.
        keys: (..., k, m, D) floating, centred features; k may be 1: the same for all steps.
        positives: (k, B) int64, which key is the positive.
        log_weights: (k, B, m) floating, `log w_bio`; -inf where a key is no negative.
        temperature: τ > 0.
        widths: (k, D) > 0, of the kernel after i steps; None: cosine.

    Returns:
        (..., k, B).
    """
    if widths is not None:
        return _losses_by_distance(predicted, keys, positives, log_weights, widths)
    queries, keys = F.normalize(predicted, dim=-1), F.normalize(keys, dim=-1)
    logits = queries @ keys.transpose(-1, -2) / temperature
    places = positives[..., None].expand(*logits.shape[:-1], 1)
    own = logits.gather(-1, places).squeeze(-1)
    return torch.logsumexp(logits + log_weights, dim=-1) - own


def _losses_by_distance(
    predicted: Tensor, keys: Tensor, positives: Tensor, log_weights: Tensor, widths: Tensor
) -> Tensor:
    queries, keys = predicted / widths[:, None], keys / widths[:, None]
    places = positives[..., None].expand(*queries.shape[:-1], 1)
    nearest = keys.gather(-2, places.expand_as(queries))
    own = -(queries - nearest).square().sum(dim=-1, keepdim=True) / 2
    lengths = [each.square().sum(dim=-1) / 2 for each in (queries, keys)]
    logits = queries @ keys.transpose(-1, -2) - lengths[0][..., None] - lengths[1][..., None, :]
    logits = logits.scatter(-1, places, own) + log_weights  # exact where the differences are small
    logits = torch.cat([logits, torch.zeros_like(own)], dim=-1)
    # exp takes ten times as long where its result is below the smallest float
    lowest = logits.detach().amax(dim=-1, keepdim=True) - _NEGLIGIBLE
    return torch.logsumexp(torch.maximum(logits, lowest), dim=-1) - own.squeeze(-1)


@dataclass(frozen=True)
class Keys:
    """The keys of `latent_dynamics_losses`."""

    keys: Tensor
    positives: Tensor
    log_weights: Tensor


def keys_in_batch(features: Tensor, later: Tensor) -> Keys:
    """The positives of a batch's rows as negatives of each other.

    A key that shows the row's own positive is not among its negatives. Where fewer observations
    than rows are distinct, each is a key once.

    Args:
        features: (..., m, D) floating, centred: of the distinct observations.
        later: (k, B) int64: the observation of each row after i steps.
    """
    n_distinct, n_rows = features.shape[-2], later.shape[1]
    if n_distinct <= n_rows:
        counts = torch.stack([torch.bincount(each, minlength=n_distinct) for each in later])
        weights = counts.to(features.dtype).log()[:, None].expand(-1, n_rows, -1)
        return Keys(features.unsqueeze(-3), later, weights.scatter(-1, later[..., None], 0.0))
    differs = later[:, :, None] != later[:, None, :]
    weights = torch.zeros_like(differs, dtype=features.dtype).masked_fill(~differs, -torch.inf)
    weights.diagonal(dim1=-2, dim2=-1).zero_()
    places = torch.arange(n_rows, device=later.device).expand_as(later)
    return Keys(features[..., later, :], places, weights)


def statistics_loss(features: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """`L_stat = |mean f − μ_s|² / tr Σ_T + |cov f − Σ_T|² / |Σ_T|²`: Euclidean, Frobenius.

    Args:
        features: (..., N, D) floating, N >= 2.
        mean: (D,), `μ_s`.
        covariance: (D, D), `Σ_T`, with N − 1 in the denominator as that of the features.

    Returns:
        (...): one loss for each of the leading dimensions.
    """
    n = features.shape[-2]
    if n < 2:
        raise ValueError(f"statistics of {n} rows; 2 or more are needed")
    centre = features.mean(dim=-2, keepdim=True)
    centred = features - centre
    found = centred.transpose(-1, -2) @ centred / (n - 1)
    of_mean = (centre.squeeze(-2) - mean).square().sum(dim=-1) / covariance.trace()
    of_covariance = (found - covariance).square().sum(dim=(-1, -2)) / covariance.square().sum()
    return of_mean + of_covariance
