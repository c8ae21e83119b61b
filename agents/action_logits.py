"""An agent's logits: log-probabilities of its discrete actions, or their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from torch import Tensor, nn

from contrastive_distillation.losses import ActsBy

from .observation_encoder import Normalise, Observations


def acts_by(policy: nn.Module) -> ActsBy:
    """What a policy's logits are: "probabilities" (PPO, A2C), "values" (DQN), or "other"."""
    if not isinstance(getattr(policy, "action_space", None), gym.spaces.Discrete):
        return "other"
    if hasattr(policy, "lstm_actor"):  # needs states that memory does not keep
        return "other"
    if q_network(policy) is not None:
        return "values"
    return "probabilities" if hasattr(policy, "get_distribution") else "other"


def action_logits(policy: nn.Module, tensors: Any) -> Tensor:
    """Log-probabilities (up to a constant) or values of the actions, (B, A).

    Args:
        tensors: observations, see `seen_by`.

    Raises:
        ValueError: the policy acts by neither.
    """
    kind = acts_by(policy)
    if kind == "values":
        network = q_network(policy)
        assert network is not None
        return network(tensors)
    if kind == "probabilities":
        logits: Tensor = policy.get_distribution(tensors).distribution.logits  # type: ignore[operator]
        return logits
    raise ValueError(
        f"{type(policy).__name__} on {getattr(policy, 'action_space', 'no action space')} has no "
        "logits of discrete actions; losses that compare policies need PPO, A2C or DQN on a "
        "Discrete action space"
    )


def q_network(policy: nn.Module) -> Callable[[Any], Tensor] | None:
    """From observation tensors to Q(o, a), (B, A); QR-DQN's is the mean of the quantiles."""
    for name in ("q_net", "quantile_net"):
        network = getattr(policy, name, None)
        if network is not None:
            return lambda tensors: _mean_of_quantiles(network(tensors))
    return None


def seen_by(policy: nn.Module, observations: Observations, normalise: Normalise | None) -> Any:
    """Raw observations as the tensors that the policy takes."""
    seen = observations if normalise is None else normalise(observations)
    tensors, _ = policy.obs_to_tensor(seen)  # type: ignore[operator]
    return tensors


def _mean_of_quantiles(values: Tensor) -> Tensor:
    return values.mean(dim=1) if values.ndim == 3 else values
