"""Pull the weights towards the source's, the more the source's policy depends on them (EWC)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from contrastive_distillation.memory import Memory

from .. import checks
from ..arrays_in_state import ArraysInState
from ..auxiliary import ActsBy, Joining, Learner, SourcePolicy
from .source_agent import SourcePolicyLoss


class EWC(ArraysInState, SourcePolicyLoss):
    """`L = ½ Σ_i F_i (w_i - w⁰_i)²`, w⁰ the source's weights, F its diagonal Fisher information.

    `F_i = mean_o E_{a~π_T(·|o)}[ (∂ log π_T(a|o) / ∂w_i)² ]`, for a DQN π_T = softmax(Q_T).
    Kirkpatrick et al. 2016, https://arxiv.org/abs/1612.00796; weight 400 as there for Atari.
    F is computed once, at the first sample, over up to 256 observations of the source's memory (of
    the agent's memory if there is none); the expectation over actions is exact. Weights that the
    logits do not depend on, as a value function's, have F = 0 and are free.

    With `balance="norm"` the pull has always the same length, however near the weights are.

    Metrics: `distance`, sqrt(Σ F_i (w_i - w⁰_i)²).
    """

    name: ClassVar[str] = "ewc"
    published: ClassVar[Joining | None] = Joining(weight=400.0)
    kinds_of_logits: ClassVar[tuple[ActsBy, ...]] = ("probabilities", "values")
    advice: ClassVar[str] = "use it with PPO, A2C or DQN, and l2_sp with others"

    def __init__(self, *, source_policy: SourcePolicy | None = None, n_fisher: int = 256) -> None:
        """
        Args:
            source_policy: the frozen policy of the source agent (`agents.FrozenPolicy`).
            n_fisher: observations that F is taken over, >= 1.

        Raises:
            ValueError: `n_fisher` is outside its range.
        """
        super().__init__(source_policy)
        (self.n_fisher,) = checks.integers(1, n_fisher=n_fisher)
        self._fisher: dict[str, Tensor] = {}

    def build(self, learner: Learner) -> None:
        super().build(learner)
        self._fisher = {}

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> tuple[()]:
        """An empty batch: the loss depends on weights alone. The first call computes F."""
        if not self._fisher:
            at_home = source_memory if source_memory is not None and len(source_memory) else memory
            rows = at_home.sample_rows(self.n_fisher, generator)
            observations = at_home.observations(rows)
            self._fisher = dict(self.required_policy().fisher_information(observations))
        return ()

    def forward(self, learner: Learner, batch: tuple[()]) -> Mapping[str, Tensor]:
        start = self.required_policy().weights
        total = torch.zeros((), device=learner.device)
        for name, parameter in learner.named_parameters().items():
            fisher = self._fisher.get(name)
            if fisher is not None and fisher.shape == parameter.shape:
                squares = (parameter - start[name]).square()
                total = total + (fisher.to(parameter.device) * squares).sum()
        self.metrics = {"distance": float(total.detach().sqrt())}
        return {self.name: 0.5 * total}

    def state_arrays(self) -> Mapping[str, np.ndarray]:
        """F, by the names of the parameters."""
        return {name: fisher.cpu().numpy() for name, fisher in self._fisher.items()}

    def restore_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Put back what `state_arrays` gave."""
        self._fisher = {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}
