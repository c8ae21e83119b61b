"""Stops a training before a NaN or infinite gradient spoils every weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback

from .encoder_lookup import optimizers_of


class FiniteGradients(BaseCallback):
    """Checks all gradients before each step of every optimiser of the policy.

    It also finds a loss that is NaN or infinite; Stable-Baselines3 itself does not report it, and
    DQN continues with a network of NaN. Place it after callbacks that add gradients. The hooks
    exist from a rollout's end to the next rollout's start, and are removed when one raises.

    Args:
        env_ids: the environments of the training, for the message.

    Raises:
        FloatingPointError: in `learn()`, naming environments, frame, update and parameter; the
            weights are still those of the step before.
    """

    def __init__(self, env_ids: Sequence[str]) -> None:
        super().__init__()
        self._env_ids = tuple(env_ids)
        self._handles: list[Any] = []
        self._n_steps = 0

    def _on_training_start(self) -> None:
        named = self.model.policy.named_parameters()
        self._names = {id(parameter): name for name, parameter in named}

    def _on_rollout_start(self) -> None:
        self._detach()

    def _on_rollout_end(self) -> None:
        self._detach()
        for optimizer in optimizers_of(self.model.policy):
            self._handles.append(optimizer.register_step_pre_hook(self._check))

    def _on_training_end(self) -> None:
        self._detach()

    def _on_step(self) -> bool:
        return True

    def _detach(self) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _check(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._n_steps += 1
        parameters = [
            parameter
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        if not parameters:
            return
        norms = torch.stack(list(torch._foreach_norm([p.grad for p in parameters])))
        if bool(torch.isfinite(norms).all()):
            return
        bad = [p for p, norm in zip(parameters, norms, strict=True) if not torch.isfinite(norm)]
        self._detach()
        names = [self._names.get(id(parameter), "an unnamed parameter") for parameter in bad]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise FloatingPointError(
            f"the gradient of {names[0]}{more} is NaN or infinite at optimiser step "
            f"{self._n_steps} (frame {self.model.num_timesteps}, training on "
            f"{', '.join(self._env_ids)}): the loss was NaN or infinite. The weights before it are "
            "in the last checkpoint; lower the learning rate, or look at the environment's rewards"
        )
