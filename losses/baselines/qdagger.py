"""QDagger: stay near the source's action values while it is the better agent, for DQN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from contrastive_distillation.memory import Memory, Observations

from .. import checks
from ..auxiliary import ActsBy, Joining, Learner, SourcePolicy
from .source_agent import PolicyDistillation

_N_STUDENT, _N_TEACHER = 10, 100  # episodes over which returns are averaged
_ROWS_BETWEEN = 1000  # rows written to memory between two updates of the weight


class QDagger(PolicyDistillation):
    """`L = mean_o KL( softmax(Q_T(o,·)/τ) ‖ softmax(Q(o,·)/τ) )`, weight `max(1 - R/R_T, 0)`.

    Agarwal et al. 2022, https://arxiv.org/abs/2206.01626, its online phase, weight 1;
    observations are drawn from the whole memory, as from a replay buffer. R is the mean return of
    the student's last 10 finished episodes; until there are so many, the weight is 1.

    Our reading: τ = 1; R_T, the teacher's, is that of the last 100 episodes in the source's memory,
    so on the source's tasks and with the source's exploration (in the paper teacher and student
    have one task); without such a memory the weight stays 1. So that returns below 0 have an order,
    the weight is `(R_T - R) / |R_T|` in [0, 1], the same where 0 <= R and 0 < R_T.

    Metrics: `agreement`, the share of observations on which both prefer the same action;
    `shortfall`, the weight.
    """

    name: ClassVar[str] = "qdagger"
    published: ClassVar[Joining | None] = Joining(weight=1.0)
    agents: ClassVar[tuple[str, ...] | None] = ("dqn",)
    kinds_of_logits: ClassVar[tuple[ActsBy, ...]] = ("values",)
    advice: ClassVar[str] = "use it with DQN, and kickstarting with PPO"
    shortfall: Tensor
    looked_at: Tensor

    def __init__(
        self, *, source_policy: SourcePolicy | None = None, temperature: float = 1.0
    ) -> None:
        """
        Args:
            source_policy: the frozen policy of the source agent (`agents.FrozenPolicy`).
            temperature: τ, by which values are divided, above 0.

        Raises:
            ValueError: the temperature is outside its range.
        """
        super().__init__(source_policy)
        self.temperature = checks.temperature(temperature)
        self.register_buffer("shortfall", torch.tensor(1.0))
        self.register_buffer("looked_at", torch.tensor(-1))

    def build(self, learner: Learner) -> None:
        super().build(learner)
        self.shortfall.fill_(1.0)
        self.looked_at.fill_(-1)

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> Observations | None:
        """Observations, up to (n_anchors, ...); updates the weight from the returns when due."""
        if len(memory) == 0:
            return None
        looked_at = int(self.looked_at)
        if looked_at < 0 or memory.n_written - looked_at >= _ROWS_BETWEEN:
            self.looked_at.fill_(memory.n_written)
            self.shortfall.fill_(_shortfall(memory, source_memory))
        return memory.observations(memory.sample_rows(n_anchors, generator))

    def forward(self, learner: Learner, batch: Observations) -> Mapping[str, Tensor]:
        terms = super().forward(learner, batch)
        self.metrics["shortfall"] = float(self.shortfall)
        return terms

    def term_weights(self, progress: float) -> Mapping[str, float]:
        return {self.name: float(self.shortfall)}


def _shortfall(memory: Memory, source_memory: Memory | None) -> float:
    """The relative gap between the student's and the teacher's returns, in [0, 1]; 1 if unknown."""
    if source_memory is None:
        return 1.0
    student = memory.finished_returns(_N_STUDENT)
    teacher = source_memory.finished_returns(_N_TEACHER)
    if len(student) < _N_STUDENT or not len(teacher):
        return 1.0
    missing = float(teacher.mean()) - float(student.mean())
    return min(max(missing / max(abs(float(teacher.mean())), 1e-8), 0.0), 1.0)
