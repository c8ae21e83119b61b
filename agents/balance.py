"""How an auxiliary gradient joins the reinforcement-learning gradient on the encoder."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

BALANCES = ("norm", "project", "none")

Gradients = Sequence[Tensor]


def norm(gradients: Gradients) -> Tensor:
    """Euclidean norm of all entries together: a scalar tensor; 0 of nothing."""
    if not gradients:
        return torch.zeros(())
    norms = torch.stack(list(torch._foreach_norm(list(gradients))))
    return torch.sqrt(norms.square().sum())


def dot(first: Gradients, second: Gradients) -> Tensor:
    """Inner product of two gradients: a scalar tensor."""
    products = [(a * b).sum() for a, b in zip(first, second, strict=True)]
    return torch.stack(products).sum() if products else torch.zeros(())


@dataclass(kw_only=True)
class ReferenceNorm:
    """The norm an auxiliary gradient is scaled against.

    It is the reinforcement-learning gradient's norm on the encoder, but at least a tenth of its
    running median over the last `n_remembered` steps, so that the encoder still learns where the
    reward is sparse and the gradient vanishes; before any gradient was seen, at least `initial`.
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
    auxiliary: Gradients,
    rl: Gradients,
    *,
    balance: str,
    weight: float,
    reference: float,
) -> list[Tensor]:
    """The gradient to add to the reinforcement-learning gradient.

    * "none": weight · g
    * "norm": weight · reference · g / ‖g‖
    * "project": as "norm", then without its component against the RL gradient r:
      g − min(0, ⟨g, r⟩)/‖r‖² · r (gradient surgery, Yu et al. 2020, arXiv 2001.06782)

    Args:
        auxiliary: g, one tensor for each parameter.
        rl: r, the same shapes.
        balance: "norm" | "project" | "none".
        weight: dimensionless; for "none" the coefficient of the loss.
        reference: the norm that `weight` is relative to (`ReferenceNorm`).
    """
    if balance == "none":
        return [weight * g for g in auxiliary]
    length = norm(auxiliary)
    if length == 0.0:
        return [torch.zeros_like(g) for g in auxiliary]
    scale = weight * reference / length
    added = [scale * g for g in auxiliary]
    if balance == "project":
        against = dot(added, rl).clamp(max=0.0)
        share = against / dot(rl, rl).clamp(min=torch.finfo(torch.float32).tiny)
        added = [g - share * r for g, r in zip(added, rl, strict=True)]
    return added
