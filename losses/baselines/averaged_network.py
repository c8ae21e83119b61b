"""The moving average of an encoder with a head."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from contrastive_distillation.memory import Observations

from ..auxiliary import Learner


class AveragedNetwork(nn.Module):
    """The moving average of encoder and head together; no gradient reaches it."""

    def __init__(self, learner: Learner, head: nn.Module, *, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.encoder = learner.moving_average(momentum)
        self.head = copy.deepcopy(head).requires_grad_(False)

    @torch.no_grad()
    def forward(self, observations: Observations) -> Tensor:
        """(B, D): the averaged head's output on the averaged encoder's features."""
        output: Tensor = self.head(self.encoder(observations))
        return output

    @torch.no_grad()
    def update(self, head: nn.Module) -> None:
        """average <- momentum * average + (1 - momentum) * network, for both."""
        self.encoder.update()
        torch._foreach_lerp_(
            list(self.head.parameters()), list(head.parameters()), 1.0 - self.momentum
        )
