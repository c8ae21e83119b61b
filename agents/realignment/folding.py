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

from contrastive_distillation.memory import take

from ..observation_encoder import evaluated, forked_generators
from .input_layers import input_layers
from .students import flat

_TARGETS = "_target"


def run_networks(model: BaseAlgorithm, observations: Any) -> None:
    """Run every network of a policy on raw or normalised observations, as arrays (N, ...).

    Torch's global generators and the policy's buffers are as before afterwards.
    """
    policy: Any = model.policy
    seen: Any = obs_as_tensor(observations, model.device)
    n = len(next(iter(seen.values())) if isinstance(seen, dict) else seen)
    with evaluated(policy), forked_generators(model.device):
        _run_networks(model, policy, seen, n)


def _run_networks(model: BaseAlgorithm, policy: Any, seen: Any, n: int) -> None:
    if hasattr(policy, "lstm_actor"):
        shape = (policy.lstm_actor.num_layers, n, policy.lstm_actor.hidden_size)
        zeros = torch.zeros(shape, device=model.device)
        from sb3_contrib.common.recurrent.type_aliases import RNNStates

        states = RNNStates((zeros, zeros), (zeros, zeros))
        policy(seen, states, torch.zeros(n, device=model.device))
        return
    if hasattr(policy, "critic") and hasattr(policy, "actor"):
        policy.actor(seen)
        policy.critic.share_features_extractor = False  # a shared one would run without gradient
        policy.critic(seen, torch.zeros(n, *(model.action_space.shape or ()), device=model.device))
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
        ValueError: see `foldable_layers`.
    """
    width = matrix.shape[0] * n_frames
    changed = []
    for name, (module, columns) in foldable_layers(model, example).items():
        theirs = weights[f"{name}.weight"].to(module.weight)
        read = theirs[:, columns : columns + width].reshape(len(theirs), n_frames, -1)
        parts = [theirs[:, :columns], (read @ matrix).flatten(1), theirs[:, columns + width :]]
        module.weight.copy_(torch.cat(parts, dim=1))
        module.bias.copy_(weights[f"{name}.bias"].to(module.bias) + read.sum(dim=1) @ offset)
        changed.append(name)
    synchronise_targets(model.policy)
    return changed


def foldable_layers(model: BaseAlgorithm, example: Any) -> dict[str, tuple[nn.Linear, int]]:
    """The linear layers that read the observation, in all networks of a policy.

    Args:
        model: its policy stays as it is.
        example: observations (N, ...), as the policy's networks get them.

    Returns:
        By name in the policy: the layer, and the first column that is the observation.

    Raises:
        ValueError: no layer reads the whole observation; or one that reads it is not a plain
            linear layer with a bias, or reads something made of it.
    """
    policy: Any = model.policy
    seen: Any = obs_as_tensor(example, model.device)
    prepared: Any = preprocess_obs(
        seen, policy.observation_space, normalize_images=policy.normalize_images
    )
    rows, _ = flat(prepared)
    others = take(example, np.arange(len(rows))[::-1])
    reading = input_layers(policy, lambda: run_networks(model, example))
    of_others = input_layers(policy, lambda: run_networks(model, others))
    found = {}
    for name, (module, given) in reading.items():
        holds_another = any(
            other.startswith(f"{name}." if name else "") for other in reading if other != name
        )
        if holds_another or torch.equal(given, of_others[name][1]):
            continue  # a parameter beside its layers (log_std), or it does not read the observation
        columns = _columns(given, rows)
        reason = _why_not_folded(module, columns)
        if reason is not None:
            raise ValueError(
                f"the layer '{name}' {reason}, so one map of the observation cannot be written "
                "into it; name the layers to move: layers=[...]"
            )
        assert isinstance(module, nn.Linear)
        assert columns is not None
        found[name] = module, columns
    if not found:
        raise ValueError(
            f"no layer of {type(model).__name__}'s policy reads the observation; name the layers "
            "to move: layers=[...]"
        )
    return found


def _why_not_folded(module: nn.Module, columns: int | None) -> str | None:
    """Why a layer that depends on the observation cannot take a map of it; None if it can."""
    if type(module).forward is not nn.Linear.forward or "weight" not in dict(
        module.named_parameters(recurse=False)
    ):
        return (
            f"reads the observation and is a {type(module).__name__}, not a plain linear layer "
            "whose weight is a parameter (spectral and weight norm compute theirs)"
        )
    if columns is None:
        return "reads a part of the observation, or something computed from it"
    if module.bias is None:
        return "reads the observation and has no bias, which a change of the zero point needs"
    return None


def _columns(given: Tensor, rows: Tensor) -> int | None:
    """The first column of a layer's input (N, C) from which on it is the observation (N, d)."""
    given = given.flatten(1).float()
    for first in range(given.shape[1] - rows.shape[1] + 1):
        if torch.equal(given[:, first : first + rows.shape[1]], rows.float()):
            return first
    return None
