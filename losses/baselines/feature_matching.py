"""Predict the frozen source encoder's features (FitNets' hints)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from contrastive_distillation.memory import Observations

from ..auxiliary import Joining, Learner, Teacher
from .source_agent import TeacherLoss


class FeatureMatching(TeacherLoss):
    """`L = mean_o ½ ‖T(o) - r(f(o))‖²`, r a linear regressor to the teacher's width.

    Romero et al. 2014, https://arxiv.org/abs/1412.6550. There a stage of its own without a
    weight; here beside the agent's loss, so `published` is the plain sum with weight 1. Our
    reading: half of the observations are the source's, if its memory is given, on which
    the teacher was trained; the paper has one data set.

    Metrics: `explained`, the share of the teacher's variance over the batch that is predicted.
    """

    name: ClassVar[str] = "feature_matching"
    published: ClassVar[Joining | None] = Joining(weight=1.0)

    def __init__(self, *, teacher: Teacher | None = None) -> None:
        """
        Args:
            teacher: the frozen source encoder.
        """
        super().__init__(teacher)

    def build(self, learner: Learner) -> None:
        """
        Raises:
            ValueError: the teacher is missing.
        """
        teacher = self.required_teacher()
        self.regressor = nn.Linear(learner.n_features, teacher.n_features)
        self.to(learner.device)

    def forward(self, learner: Learner, batch: Observations) -> Mapping[str, Tensor]:
        wanted = self.required_teacher()(batch)
        errors = (wanted - self.regressor(learner.encoder(batch))).square().sum(dim=1)
        spread = (wanted - wanted.mean(dim=0)).square().sum()
        explained = 1.0 - errors.detach().sum() / spread.clamp(min=1e-12)
        self.metrics = {"explained": float(explained)} if float(spread) > 0 else {}
        return {self.name: 0.5 * errors.mean()}
