"""Do on the source's observations what the source agent did there: behaviour cloning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastive_distillation.memory import Memory, Observations

from ..auxiliary import AuxiliaryLoss, Joining, Learner
from .source_agent import check_acts_by, required_memory


@dataclass(frozen=True)
class Behaviour:
    """Observations of the source, with its actions."""

    observations: Observations
    """(B, ...)"""
    actions: np.ndarray
    """(B,) int64, from 0."""


class Rehearsal(AuxiliaryLoss):
    """`L = -mean_(o,a) log π(a|o)`, (o, a) from the source's memory, π = softmax of the logits.

    Behaviour cloning as in CLEAR (Rolnick et al. 2018, https://arxiv.org/abs/1811.11682, policy
    cloning with weight .01; its value cloning is left out), which fine-tuning profits from as well
    (Wołczyk et al. 2024, https://arxiv.org/abs/2402.02868). Our reading: CLEAR's
    `KL( μ(·|o) ‖ π(·|o) )` needs the stored distribution μ; the action in its place is a draw from
    it, so the gradient is the same in expectation. Rows are drawn uniformly from what the source's
    memory kept, whether the episode ended well or not. For DQN, π = softmax(Q).

    Metrics: `agreement`, the share of rows in which the preferred action is the source's.
    """

    name: ClassVar[str] = "rehearsal"
    published: ClassVar[Joining | None] = Joining(weight=0.01)
    needs_source: ClassVar[bool] = True

    def build(self, learner: Learner) -> None:
        """
        Raises:
            ValueError: the agent has no logits of discrete actions.
        """
        check_acts_by(
            learner.acts_by,
            ["probabilities", "values"],
            loss=self.name,
            whose="agent",
            advice="use it with PPO, A2C or DQN",
        )
        space: Any = learner.policy.action_space
        self._first_action = int(space.start)

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> Behaviour:
        """Up to n_anchors rows of the source's memory.

        Raises:
            ValueError: there is none, or it is empty.
        """
        source = required_memory(source_memory, self.name)
        rows = source.sample_rows(n_anchors, generator)
        actions = source.actions(rows).reshape(len(rows)).astype(np.int64)
        return Behaviour(source.observations(rows), actions - self._first_action)

    def forward(self, learner: Learner, batch: Behaviour) -> Mapping[str, Tensor]:
        logits = learner.logits(batch.observations)
        actions = torch.as_tensor(batch.actions, device=logits.device)
        self.metrics = {"agreement": float((logits.argmax(dim=1) == actions).float().mean())}
        return {self.name: F.cross_entropy(logits, actions)}

    def changed_parameters(self, learner: Learner) -> list[nn.Parameter]:
        return learner.logit_parameters()
