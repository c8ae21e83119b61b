"""Copy a source policy's weights, all that fit, and refuse where too few do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from ..encoder_lookup import read_encoder
from ..observation_encoder import ObservationEncoder
from ..weight_names import same_tensors
from .folding import synchronise_targets


def check_source_fits(
    model: BaseAlgorithm,
    names: Sequence[str],
    *,
    action_space: object,
    encoders: Sequence[ObservationEncoder],
) -> None:
    """Refuse a source with other actions, or features of another width.

    Args:
        model: the target model.
        names: of its encoders.
        action_space: the source's.
        encoders: the source's.

    Raises:
        ValueError: see above; the text names both sides.
    """
    if model.action_space != action_space:
        raise ValueError(
            f"the model acts in {model.action_space}, the source in {action_space}; "
            "a realignment needs the same actions on both sides"
        )
    for name, teacher in zip(names, encoders, strict=True):
        own = read_encoder(model, name)[0].n_features
        if own != teacher.n_features:
            raise ValueError(
                f"the encoder '{name}' has {own} features, the source's has {teacher.n_features}: "
                "the source's head cannot read them; give the model an encoder of that width"
            )


@torch.no_grad()
def copy_what_fits(
    policy: nn.Module, weights: Mapping[str, Tensor], *, may_differ: Collection[str]
) -> list[str]:
    """Copy a source policy's weights into a policy by name and shape, target copies too.

    A tensor of several names is copied once, from the first of them.

    Args:
        policy: of the target.
        weights: of the source, under the names of `policy` (`with_every_name`).
        may_differ: names of tensors that need not fit: those that are learnt afterwards.

    Returns:
        The names of these that did not fit.

    Raises:
        ValueError: another tensor of the policy is missing in the weights or has another shape;
            nothing was copied then.
    """
    own = policy.state_dict(keep_vars=True)
    found: dict[int, Tensor] = {}
    for name, tensor in own.items():
        if id(tensor) not in found and name in weights and weights[name].shape == tensor.shape:
            found[id(tensor)] = weights[name]
    unfit = [name for name, tensor in own.items() if id(tensor) not in found]
    free = {id(own[name]) for name in may_differ}
    for name in unfit:
        followed = own.get(name.replace("_target.", ".", 1), own[name])
        if id(followed) in free:
            continue
        theirs = tuple(weights[name].shape) if name in weights else "nothing"
        raise ValueError(
            f"the source's weights do not fit the model: '{name}' is {tuple(own[name].shape)}, the "
            f"source has {theirs}; build the model as the source was built, of its algorithm and "
            "with its networks, but for the layers that read the observation"
        )
    for tensor in own.values():
        if id(tensor) in found:
            tensor.copy_(found[id(tensor)])
    synchronise_targets(policy)
    return unfit


def policy_names(
    policy: nn.Module, encoder: ObservationEncoder, parameters: Collection[str]
) -> set[str]:
    """A policy's names for some parameters of an encoder's `nn.Sequential(*stages)`."""
    stages = nn.Sequential(*encoder.stages)
    wanted = {id(p) for name, p in stages.named_parameters() if name in parameters}
    own = policy.state_dict(keep_vars=True)
    return {name for name in same_tensors(policy, [stages]) if id(own[name]) in wanted}
