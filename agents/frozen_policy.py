"""The whole policy of a trained source agent, frozen: for losses that hold a student to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from contrastive_distillation.losses import ActsBy
from contrastive_distillation.memory import n_observations, take

from .action_logits import action_logits, acts_by, seen_by
from .module_copy import copy_module
from .observation_encoder import Normalise, Observations
from .teachers import FrozenNormalise
from .weight_names import with_every_name
from .weights import copy_weights


class FrozenPolicy(nn.Module):
    """A copy of a policy without gradients and optimiser, in evaluation mode, see `copy_module`.

    Args:
        policy: a Stable-Baselines3 policy; later training does not change the copy.
        normalise: applied to raw observations first (VecNormalize), or None.

    Raises:
        ValueError: the policy cannot be copied exactly.
    """

    def __init__(self, policy: nn.Module, *, normalise: Normalise | None = None) -> None:
        super().__init__()
        self.policy = copy_module(policy).requires_grad_(False)
        self.normalise = normalise
        self.eval()

    @classmethod
    def from_model(cls, model: BaseAlgorithm) -> FrozenPolicy:
        """The policy of a model in memory, with its VecNormalize statistics as they are now."""
        return cls(model.policy, normalise=FrozenNormalise.of(model))

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor], *, like: BaseAlgorithm) -> FrozenPolicy:
        """A policy with the architecture of `like` and the weights of another.

        Args:
            weights: a policy's state dict (`agents.read_weights`).
            like: a model whose policy has the same shape.

        Raises:
            ValueError: a tensor of the policy is missing in the weights or has another shape.
        """
        frozen = cls.from_model(like)
        copy_weights(
            with_every_name(weights, like.policy),
            frozen.policy.state_dict(),
            of="the source policy",
            advice="the source needs the same agent, architecture and action space as the target",
        )
        return frozen

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Its parameters, by their names in the policy."""
        return dict(self.policy.named_parameters())

    @property
    def acts_by(self) -> ActsBy:
        """The kind of its logits, see `acts_by`."""
        return acts_by(self.policy)

    @property
    def observation_space(self) -> gym.Space[Any]:
        """The observation space that it reads."""
        return self.policy.observation_space  # type: ignore[return-value]

    @torch.no_grad()
    def logits(self, observations: Observations) -> Tensor:
        """Logits of its discrete actions, or Q-values, (B, A), of B raw observations.

        Raises:
            ValueError: it acts by neither.
        """
        return action_logits(self.policy, seen_by(self.policy, observations, self.normalise))

    def fisher_information(self, observations: Observations) -> Mapping[str, Tensor]:
        """`mean_o E_{a~π(·|o)}[ (∂ log π(a|o) / ∂w)² ]` of each weight w, π = softmax(logits).

        Args:
            observations: (B, ...); one backward pass for each of them and each action.

        Returns:
            By name, in the weights' shapes; without those that the logits do not depend on.

        Raises:
            ValueError: it has no logits.
        """
        weights = {name: w for name, w in self.policy.named_parameters() if w.is_floating_point()}
        totals: dict[str, Tensor] = {}
        n = n_observations(observations)
        self.policy.requires_grad_(True)
        try:
            for i in range(n):
                one = take(observations, slice(i, i + 1))
                with torch.enable_grad():
                    seen = seen_by(self.policy, one, self.normalise)
                    chances = action_logits(self.policy, seen).log_softmax(dim=1)[0]
                for log_chance in chances:
                    found = torch.autograd.grad(
                        log_chance, [*weights.values()], retain_graph=True, allow_unused=True
                    )
                    share = log_chance.detach().exp() / n
                    for name, gradient in zip(weights, found, strict=True):
                        if gradient is not None:
                            part = share * gradient.square()
                            totals[name] = totals[name] + part if name in totals else part
        finally:
            self.policy.requires_grad_(False)
        return totals
