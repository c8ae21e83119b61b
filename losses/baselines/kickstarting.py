"""Kickstarting: stay near the frozen source policy at first, for PPO."""

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


class Kickstarting(PolicyDistillation):
    """`L = mean_o KL( π_T(·|o) ‖ π(·|o) )`, its weight `max(decay^n, floor)` after n updates.

    Schmitt et al. 2018, https://arxiv.org/abs/1803.03835, whose cross-entropy
    `-Σ_a π_T(a|o) log π(a|o)` has the same gradient, for the teacher is fixed. It acts on all that
    the student's logits depend on: encoder and policy head. The numbers are those of Wołczyk et
    al. 2024, https://arxiv.org/abs/2402.02868: a coefficient of .75 that is multiplied by .99998
    at each update and stays at .33 (here `floor` = .33 / .75 = .44 of the initial weight).

    As there, the observations are the student's own and recent ones: those of the current rollout.
    An update is one auxiliary step; with `every` above 1 the weight falls that much more slowly.

    Metrics: `agreement`, the share of observations on which both prefer the same action.
    """

    name: ClassVar[str] = "kickstarting"
    published: ClassVar[Joining | None] = Joining(weight=0.75)
    agents: ClassVar[tuple[str, ...] | None] = ("ppo",)
    kinds_of_logits: ClassVar[tuple[ActsBy, ...]] = ("probabilities",)
    advice: ClassVar[str] = "use it with PPO or A2C on discrete actions, and qdagger with DQN"
    n_updates: Tensor

    def __init__(
        self,
        *,
        source_policy: SourcePolicy | None = None,
        decay: float = 0.99998,
        floor: float = 0.44,
    ) -> None:
        """
        Args:
            source_policy: the frozen policy of the source agent (`agents.FrozenPolicy`).
            decay: of the weight, per update, in [0, 1].
            floor: share of the weight that stays, in [0, 1].

        Raises:
            ValueError: one is outside its range.
        """
        super().__init__(source_policy)
        self.decay, self.floor = checks.numbers(0, 1, decay=decay, floor=floor)
        self.register_buffer("n_updates", torch.tensor(0))

    def build(self, learner: Learner) -> None:
        super().build(learner)
        self.n_updates.zero_()

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> Observations | None:
        """Observations of the current rollout, up to (n_anchors, ...)."""
        rows = memory.sample_rows(n_anchors, generator, recent=True)
        return memory.observations(rows) if len(rows) else None

    def term_weights(self, progress: float) -> Mapping[str, float]:
        return {self.name: max(self.decay ** int(self.n_updates), self.floor)}

    def after_step(self, learner: Learner) -> None:
        """Count the update."""
        self.n_updates += 1
