"""How an auxiliary gradient is scaled and added to the reinforcement-learning gradient."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

BALANCES = ("norm", "project", "none")


def flattened(gradients: Sequence[Tensor | None], *, like: Sequence[Tensor]) -> Tensor:
    """All gradients as one vector (n,), so that each operation on them is one call.

    Args:
        gradients: one for each parameter; None counts as zeros.
        like: the parameters.
    """
    parts = [
        torch.zeros_like(parameter).view(-1) if gradient is None else gradient.reshape(-1)
        for gradient, parameter in zip(gradients, like, strict=True)
    ]
    return torch.cat(parts) if parts else torch.zeros(0)


def add_flattened(parameters: Sequence[nn.Parameter], vector: Tensor) -> None:
    """Add a vector (n,), laid out as `flattened` does, to the gradients of `parameters`."""
    parts = torch.split(vector, [parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        gradient = part.view_as(parameter)
        if parameter.grad is None:
            parameter.grad = gradient.clone()
        else:
            parameter.grad += gradient


@dataclass(kw_only=True)
class ReferenceNorm:
    """The norm to which an auxiliary gradient is scaled.

    It is the reinforcement-learning gradient's norm on the encoder, but at least a tenth of its
    running median over the last `n_remembered` steps, so that the encoder still learns where the
    reward is sparse and the gradient vanishes; before the first gradient, at least `initial`.
    """

    initial: float = 0.05
    n_remembered: int = 128
    remembered: deque[float] = field(init=False)

    def __post_init__(self) -> None:
        self.remembered = deque(maxlen=self.n_remembered)

    def update(self, rl_norm: float) -> float:
        """The reference for a step whose own gradient has this norm."""
        floor = statistics.median(self.remembered) / 10 if self.remembered else self.initial
        if rl_norm > 0.0:
            self.remembered.append(rl_norm)
        return max(rl_norm, floor)


def balanced(
    auxiliary: Tensor, rl: Tensor, *, balance: str, weight: float, reference: float
) -> Tensor:
    """The gradient to add to the reinforcement-learning gradient, (n,).

    * "none": weight · g
    * "norm": weight · reference · g / ‖g‖
    * "project": as "norm", then without its component against the RL gradient r:
      g − min(0, ⟨g, r⟩)/‖r‖² · r (gradient surgery, Yu et al. 2020, arXiv 2001.06782)

    Args:
        auxiliary: g (n,), see `flattened`.
        rl: r (n,).
        balance: "norm" | "project" | "none".
        weight: dimensionless; for "none" the coefficient of the loss.
        reference: the norm that `weight` is relative to (`ReferenceNorm`).
    """
    if balance == "none":
        return weight * auxiliary
    length = float(vector_norm(auxiliary))
    if length == 0.0:
        return torch.zeros_like(auxiliary)
    added = weight * reference / length * auxiliary
    if balance == "project":
        against = torch.dot(added, rl).clamp(max=0.0)
        added -= against / torch.dot(rl, rl).clamp(min=torch.finfo(torch.float32).tiny) * rl
    return added
