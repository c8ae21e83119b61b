"""The names of a policy's weights: several for a shared tensor, others in old and compiled zips."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

_SHARED_UNTIL_1_6 = ("pi_features_extractor.", "vf_features_extractor.")
"""Names that zips of Stable-Baselines3 below 1.7 lack: actor and critic had one extractor."""


def plain_name(name: str) -> str:
    """The name without what `torch.compile` adds to it."""
    return name.replace("_orig_mod.", "")


def with_every_name(weights: Mapping[str, Tensor], policy: nn.Module) -> dict[str, Tensor]:
    """A source policy's weights under the names that `policy` has for them.

    A tensor that `policy` has under several names is one tensor: weights for one of the names are
    weights for all. Names that `policy` lacks stay.

    Args:
        weights: a state dict, also one of a compiled policy or of Stable-Baselines3 below 1.7.
        policy: its state dict has the wanted names.
    """
    own = policy.state_dict(keep_vars=True)
    compiled = {plain_name(name): name for name in own}
    found = {compiled.get(plain_name(name), name): tensor for name, tensor in weights.items()}
    names: dict[int, list[str]] = {}
    for name, tensor in own.items():
        names.setdefault(id(tensor), []).append(name)
    for name, tensor in own.items():
        others = [other for other in names[id(tensor)] if other in found]
        if name not in found and others:
            found[name] = found[others[0]]
    for prefix in _SHARED_UNTIL_1_6:
        if any(plain_name(name).startswith(prefix) for name in found):
            continue
        for name in own:
            shared = compiled.get("features_extractor." + plain_name(name).removeprefix(prefix))
            if plain_name(name).startswith(prefix) and shared in found:
                found[name] = found[shared]
    return found


def same_tensors(policy: nn.Module, modules: list[nn.Module]) -> set[str]:
    """All names that a policy has for the weights and buffers of some of its modules."""
    wanted = {id(t) for module in modules for t in module.state_dict(keep_vars=True).values()}
    return {name for name, t in policy.state_dict(keep_vars=True).items() if id(t) in wanted}
