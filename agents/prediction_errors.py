"""Errors of an agent's value function, by which the negatives are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from contrastive_distillation.memory import Memory

from .action_logits import q_network, seen_by
from .observation_encoder import ObservationEncoder


@torch.no_grad()
def prediction_errors(
    policy: nn.Module,
    encoder: ObservationEncoder,
    memory: Memory,
    rows: np.ndarray,
    *,
    gamma: float,
    reward_scale: float = 1.0,
) -> np.ndarray:
    """(n,) float32 >= 0: errors of the value function in rows (n,) of a memory.

    `|G - V(o)|` (actor-critic) or `|G - Q(o, a)|` (DQN, QR-DQN) where the return is known; else
    the temporal difference `|r + gamma V(o') - V(o)|`, with `max Q(o', a')` for V(o') in DQN,
    where the next observation is stored; else 0. Returns and rewards are first multiplied by
    `reward_scale`, as VecNormalize does before the agent sees them.

    Raises:
        ValueError: the policy is of another kind, or recurrent.
    """
    values = _value_function(policy)
    batch = memory.batch(rows)
    here = values(seen_by(policy, batch.observations, encoder.normalise))
    after = seen_by(policy, batch.next_observations, encoder.normalise)
    there = values(after).max(dim=1).values
    if here.shape[1] > 1:
        actions = torch.as_tensor(batch.actions.reshape(-1, 1), device=here.device).long()
        here = here.gather(1, actions)
    now, then = here[:, 0].cpu().numpy(), there.cpu().numpy()
    differences = np.where(
        batch.has_next, np.abs(reward_scale * batch.rewards + gamma * then - now), 0.0
    )
    errors: np.ndarray = np.where(
        batch.return_known, np.abs(reward_scale * batch.returns - now), differences
    ).astype(np.float32)
    return errors


def _value_function(policy: nn.Module) -> Any:
    """From observation tensors to values (N, 1), or to one for each action (N, A)."""
    if hasattr(policy, "predict_values") and not hasattr(policy, "lstm_actor"):
        return policy.predict_values
    network = q_network(policy)
    if network is not None:
        return network
    raise ValueError(
        f"prediction_error negatives need V(o) or Q(o, a) of discrete actions; "
        f"{type(policy).__name__} gives neither. Choose nearest or value_contrast"
    )
