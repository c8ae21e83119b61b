"""Write realigned layers into a model: into all networks that read the observation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor, nn

from .input_layers import input_layers
from .students import flat

_TARGETS = "_target"


def run_networks(model: BaseAlgorithm, observations: Any) -> None:
    """Run every network of a policy on raw or normalised observations, as arrays (N, ...)."""
    policy: Any = model.policy
    seen: Any = obs_as_tensor(observations, model.device)
    n = len(next(iter(seen.values())) if isinstance(seen, dict) else seen)
    if hasattr(policy, "lstm_actor"):
        shape = (policy.lstm_actor.num_layers, n, policy.lstm_actor.hidden_size)
        zeros = torch.zeros(shape, device=model.device)
        from sb3_contrib.common.recurrent.type_aliases import RNNStates

        states = RNNStates((zeros, zeros), (zeros, zeros))
        policy(seen, states, torch.zeros(n, device=model.device))
        return
    if hasattr(policy, "critic") and hasattr(policy, "actor"):
        prepared: Any = preprocess_obs(
            seen, policy.observation_space, normalize_images=policy.normalize_images
        )
        policy.actor(prepared)
        actions = torch.as_tensor(
            np.stack([model.action_space.sample() * 0 for _ in range(n)]), device=model.device
        )
        policy.critic(prepared, actions.float())
        return
    policy(seen)


def synchronise_targets(policy: nn.Module) -> None:
    """Copy each network into its target copy (`q_net` into `q_net_target`, and so on)."""
    for name, module in policy.named_children():
        own = name.removesuffix(_TARGETS)
        if own != name and isinstance(getattr(policy, own, None), nn.Module):
            module.load_state_dict(getattr(policy, own).state_dict())


@torch.no_grad()
def fold(
    model: BaseAlgorithm,
    weights: Mapping[str, Tensor],
    matrix: Tensor,
    offset: Tensor,
    *,
    example: Any,
    n_frames: int,
) -> list[str]:
    """Let every network read `M o + b` in place of o: W becomes W M, and its bias grows by W b.

    Args:
        model: the target model.
        weights: the source policy's, whose first layers are folded.
        matrix: (d_s, d_t), `M`, for one frame.
        offset: (d_s,), `b`.
        example: observations (N, ...), as the policy's networks get them.
        n_frames: frames in a stack.

    Returns:
        The names of the layers.

    Raises:
        ValueError: no linear layer reads the observation, or one has no bias.
    """
    policy: Any = model.policy
    seen: Any = obs_as_tensor(example, model.device)
    prepared: Any = preprocess_obs(
        seen, policy.observation_space, normalize_images=policy.normalize_images
    )
    rows, _ = flat(prepared)
    changed = []
    for name, (module, given) in input_layers(policy, lambda: run_networks(model, example)).items():
        columns = _columns(given, rows)
        if columns is None:
            continue
        if not isinstance(module, nn.Linear) or module.bias is None:
            raise ValueError(
                f"the layer '{name}' reads the observation and is a {type(module).__name__}"
                f"{'' if isinstance(module, nn.Linear) else ', not a linear layer'} without a "
                "bias that a change of units could be written into; name the layers to move: "
                "layers=[...]"
            )
        theirs = weights[f"{name}.weight"].to(module.weight)
        width = matrix.shape[0] * n_frames
        read = theirs[:, columns : columns + width].reshape(len(theirs), n_frames, -1)
        parts = [theirs[:, :columns], (read @ matrix).flatten(1), theirs[:, columns + width :]]
        module.weight.copy_(torch.cat(parts, dim=1))
        module.bias.copy_(weights[f"{name}.bias"].to(module.bias) + read.sum(dim=1) @ offset)
        changed.append(name)
    if not changed:
        raise ValueError(
            f"no layer of {type(model).__name__}'s policy reads the whole observation; name the "
            "layers to move: layers=[...]"
        )
    synchronise_targets(policy)
    return changed


def _columns(given: Tensor, rows: Tensor) -> int | None:
    """The first column of a layer's input (N, C) from which on it is the observation (N, d)."""
    given = given.flatten(1).float()
    for first in range(given.shape[1] - rows.shape[1] + 1):
        if torch.equal(given[:, first : first + rows.shape[1]], rows.float()):
            return first
    return None
