"""Pull the weights towards the source's (L2-SP)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from contrastive_distillation.memory import Memory

from .. import checks
from ..auxiliary import Joining, Learner, SourcePolicy
from .source_agent import SourcePolicyLoss


class L2SP(SourcePolicyLoss):
    """`L = ½ Σ_shared (w - w⁰)² + ½ new_share Σ_new w²`, w⁰ the source's weights.

    Li et al. 2018, https://arxiv.org/abs/1802.01483: with α = .1 (here the loss's weight) and
    β = .01 (`new_share` = β / α = .1) as in the authors' code. Shared is every parameter that the
    source has by the same name and shape; what is new is pulled to 0. Our reading: all parameters
    count, biases as well, of the policy's value function too; so does a head that was carried over
    by name but not by value (`new_head`).

    It needs no observations. With `balance="norm"` the pull has always the same length, however
    near the weights are; `published` is the paper's plain sum.

    Metrics: `distance`, the norm of w - w⁰ over what is shared.
    """

    name: ClassVar[str] = "l2_sp"
    published: ClassVar[Joining | None] = Joining(weight=0.1)

    def __init__(
        self, *, source_policy: SourcePolicy | None = None, new_share: float = 0.1
    ) -> None:
        """
        Args:
            source_policy: the frozen policy of the source agent (`agents.FrozenPolicy`).
            new_share: weight of the parameters that the source lacks, relative to the others, >= 0.

        Raises:
            ValueError: `new_share` is outside its range.
        """
        super().__init__(source_policy)
        (self.new_share,) = checks.numbers(0, new_share=new_share)

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> tuple[()]:
        """An empty batch: the loss depends on weights alone."""
        return ()

    def forward(self, learner: Learner, batch: tuple[()]) -> Mapping[str, Tensor]:
        start = self.required_policy().weights
        shared = torch.zeros((), device=learner.device)
        new = torch.zeros((), device=learner.device)
        for name, parameter in learner.named_parameters().items():
            if name in start and start[name].shape == parameter.shape:
                shared = shared + (parameter - start[name]).square().sum()
            else:
                new = new + parameter.square().sum()
        self.metrics = {"distance": float(shared.detach().sqrt())}
        return {self.name: 0.5 * shared + 0.5 * self.new_share * new}

    def changed_parameters(self, learner: Learner) -> list[nn.Parameter]:
        return list(learner.named_parameters().values())
