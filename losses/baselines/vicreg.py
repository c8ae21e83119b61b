"""Align two views while features vary and are uncorrelated (VICReg)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from contrastive_distillation.memory import Memory, Observations, n_observations

from .. import checks
from ..auxiliary import AuxiliaryLoss, Joining, Learner
from .augmentation import AUGMENTATIONS, augmented

_EPSILON = 1e-4


@dataclass(frozen=True)
class Views:
    """Two views of B observations."""

    first: Observations
    second: Observations


class VICReg(AuxiliaryLoss):
    """`L = 25 s(Z, Z') + 25 (v(Z) + v(Z')) / 2 + c(Z) + c(Z')`, Z (B, D) the expanded first views.

    * invariance `s(Z, Z') = mean_{b,d} (z_bd - z'_bd)²`
    * variance `v(Z) = mean_d max(0, 1 - sqrt(Var_b(z_bd) + 1e-4))`
    * covariance `c(Z) = (1/D) Σ_{d≠e} Cov_b(z_bd, z_be)²`, both with B - 1

    Bardes et al. 2021, https://arxiv.org/abs/2105.04906, with the means and the half as in the
    authors' code, for which 25, 25 and 1 were found. The expander is theirs (three layers with
    batch statistics, none of which are kept), narrower: 256 against 8,192. Views as in `curl`.
    A batch of one gives exactly 0. One term, so that its parts keep their proportions.

    Metrics: `invariance`, `variance`, `covariance`, before their weights.
    """

    name: ClassVar[str] = "vicreg"
    published: ClassVar[Joining | None] = Joining(weight=1.0)

    def __init__(
        self,
        *,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        expander_dim: int = 256,
        augmentation: str = "auto",
    ) -> None:
        """
        Args:
            invariance, variance, covariance: weights of the parts, >= 0.
            expander_dim: D, >= 1.
            augmentation: what is augmented, see `augmentation.AUGMENTATIONS`.

        Raises:
            ValueError: one is outside its range.
        """
        super().__init__()
        self.invariance, self.variance, self.covariance = checks.numbers(
            0, invariance=invariance, variance=variance, covariance=covariance
        )
        (self.expander_dim,) = checks.integers(1, expander_dim=expander_dim)
        self.augmentation = checks.one_of(AUGMENTATIONS, "augmentation", augmentation)

    def build(self, learner: Learner) -> None:
        width = self.expander_dim
        self.expander = nn.Sequential(
            *_layer(learner.n_features, width), *_layer(width, width), nn.Linear(width, width)
        ).to(learner.device)

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> Views | None:
        """Two views of up to n_anchors observations."""
        rows = memory.sample_rows(n_anchors, generator)
        if not len(rows):
            return None
        seen = memory.observations(rows)
        first, second = (augmented(seen, generator, kind=self.augmentation) for _ in range(2))
        return Views(first, second)

    def forward(self, learner: Learner, batch: Views) -> Mapping[str, Tensor]:
        first, second = learner.encoder(batch.first), learner.encoder(batch.second)
        if n_observations(batch.first) < 2:
            return {self.name: 0.0 * first.sum()}
        parts = vicreg_parts(self.expander(first), self.expander(second))
        self.metrics = {name: float(part.detach()) for name, part in parts.items()}
        weighted = [getattr(self, name) * part for name, part in parts.items()]
        return {self.name: weighted[0] + weighted[1] + weighted[2]}


def vicreg_parts(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """The three parts of embeddings (B, D) of two views, B >= 2, each a scalar."""
    return {
        "invariance": (first - second).square().mean(),
        "variance": 0.5 * (_variance(first) + _variance(second)),
        "covariance": _covariance(first) + _covariance(second),
    }


def _variance(embeddings: Tensor) -> Tensor:
    return (1.0 - (embeddings.var(dim=0) + _EPSILON).sqrt()).relu().mean()


def _covariance(embeddings: Tensor) -> Tensor:
    n, width = embeddings.shape
    centred = embeddings - embeddings.mean(dim=0)
    covariance = centred.T @ centred / (n - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / width


def _layer(n_in: int, n_out: int) -> list[nn.Module]:
    statistics = nn.BatchNorm1d(n_out, track_running_stats=False)
    return [nn.Linear(n_in, n_out), statistics, nn.ReLU()]
