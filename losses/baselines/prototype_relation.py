"""Keep how observations relate to the source's prototypes (prototype-sample relations)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastive_distillation.memory import Memory, Observations

from .. import checks
from ..auxiliary import Joining, Learner, Teacher
from .source_agent import TeacherLoss, agreement, kl_divergence

_N_CLUSTERED, _N_ROUNDS = 2048, 10  # rows and rounds of the clustering


class PrototypeRelation(TeacherLoss):
    """`L = mean_o KL( softmax_m(T(o)·p̂_m / τ) ‖ softmax_m(f(o)·ŝ_m / τ) )`, p̂ = p / ‖p‖.

    p_m are the teacher's prototypes, fixed; s_m the student's, which learn along. The distillation
    of Asadi et al. 2023, https://arxiv.org/abs/2303.14771, with τ = 1 and weight 4 as in the
    authors' code, where it stands beside a supervised contrastive loss.

    Our reading: there are no classes in reinforcement learning, so the M = 64 prototypes are the
    means of a clustering (k-means) of T's features over the source's observations (the agent's
    own if there are none), computed at the first sample. The student's begin as the teacher's
    where both encoders have one width, as there, else at random. Half of the observations are the
    source's, if its memory is given.

    Metrics: `agreement`, the share of observations nearest to the same prototype.
    """

    name: ClassVar[str] = "prototype_relation"
    published: ClassVar[Joining | None] = Joining(weight=4.0)
    prototypes: Tensor
    known: Tensor

    def __init__(
        self,
        *,
        teacher: Teacher | None = None,
        n_prototypes: int = 64,
        temperature: float = 1.0,
    ) -> None:
        """
        Args:
            teacher: the frozen source encoder.
            n_prototypes: M, >= 2.
            temperature: τ, above 0.

        Raises:
            ValueError: one is outside its range.
        """
        super().__init__(teacher)
        (self.n_prototypes,) = checks.integers(2, n_prototypes=n_prototypes)
        self.temperature = checks.temperature(temperature)

    def build(self, learner: Learner) -> None:
        """
        Raises:
            ValueError: the teacher is missing.
        """
        width = self.required_teacher().n_features
        start = torch.randn(self.n_prototypes, learner.n_features) / learner.n_features**0.5
        self.student_prototypes = nn.Parameter(start)
        self.register_buffer("prototypes", torch.ones(self.n_prototypes, width))
        self.register_buffer("known", torch.tensor(False))
        self.to(learner.device)

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> Any | None:
        """Observations, up to (n_anchors, ...), half of them the source's if there are any."""
        if len(memory) and not bool(self.known):
            at_home = source_memory if source_memory is not None and len(source_memory) else memory
            self._find_prototypes(at_home, generator)
        return super().sample(memory, n_anchors, generator, source_memory)

    @torch.no_grad()
    def _find_prototypes(self, memory: Memory, generator: np.random.Generator) -> None:
        rows = memory.sample_rows(_N_CLUSTERED, generator)
        features = self.required_teacher()(memory.observations(rows))
        means = cluster_means(features.cpu().numpy(), self.n_prototypes, generator)
        self.prototypes.copy_(torch.from_numpy(means))
        self.known.fill_(True)
        if self.student_prototypes.shape == self.prototypes.shape:
            self.student_prototypes.copy_(self.prototypes)

    def forward(self, learner: Learner, batch: Observations) -> Mapping[str, Tensor]:
        of_teacher = self.required_teacher()(batch)
        wanted = of_teacher @ F.normalize(self.prototypes, dim=1).T
        found = learner.encoder(batch) @ F.normalize(self.student_prototypes, dim=1).T
        self.metrics = {"agreement": agreement(wanted, found)}
        divergence = kl_divergence(wanted / self.temperature, found / self.temperature)
        return {self.name: divergence.mean()}


def cluster_means(points: np.ndarray, k: int, generator: np.random.Generator) -> np.ndarray:
    """k means (k, D) float32 of points (N, D), after a few rounds of Lloyd's algorithm.

    It starts from k random points, drawn again where there are fewer; a mean that loses its last
    point stays where it is.
    """
    means = points[generator.choice(len(points), k, replace=len(points) < k)].astype(np.float64)
    for _ in range(_N_ROUNDS):
        distances = (means**2).sum(axis=1) - 2.0 * points @ means.T
        nearest = distances.argmin(axis=1)
        for m in np.unique(nearest):
            means[m] = points[nearest == m].mean(axis=0)
    found: np.ndarray = means.astype(np.float32)
    return found
