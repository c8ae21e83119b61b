"""Find the encoder of any Stable-Baselines3 model, and the optimiser that owns it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from .observation_encoder import ObservationEncoder, blank_observations

_UNSUITED = {
    "TRPO": "moves its policy by conjugate gradients and a line search",
    "ARS": "perturbs its weights without gradients",
}

_EXTRACTORS = {
    "policy": (
        "pi_features_extractor",
        "features_extractor",
        "q_net.features_extractor",
        "quantile_net.features_extractor",
    ),
    "critic": ("critic.features_extractor",),
    "actor": ("actor.features_extractor",),
    "value": ("vf_features_extractor",),
}
"""Where policies keep their feature extractors, in the order in which "auto" tries them."""

_TRUNKS = (
    "mlp_extractor.policy_net",
    "q_net.q_net",
    "quantile_net.quantile_net",
    "actor.latent_pi",
    "actor.mu",
)
"""Where policies keep the layers after an extractor that has no parameters."""


def find_encoder(
    model: BaseAlgorithm, encoder: str = "auto"
) -> tuple[ObservationEncoder, torch.optim.Optimizer]:
    """The encoder of a model and the optimiser that owns its parameters, by their identity.

    Args:
        model: any Stable-Baselines3 or sb3-contrib model in which one optimiser owns the encoder.
        encoder: "auto" takes the first features extractor that has parameters and an owner, at
            one of Stable-Baselines3's places or anywhere else in the policy;
            "policy" | "value" | "actor" | "critic" takes that network's; a path in the policy
            takes a module: a features extractor ("critic.features_extractor"), or layers that
            directly follow one and are then part of the encoder ("mlp_extractor.policy_net",
            "q_net.q_net.1": the q-network up to its second layer).

    Returns:
        The encoder, and its optimiser. Where two optimisers hold the parameters (TD3 with a
        shared extractor) it is the one whose loss reaches them: the actor's.

    Raises:
        ValueError: the algorithm takes no optimiser steps (TRPO, ARS), the observation space
            cannot be stored, the encoder does not exist, has no parameters, or no optimiser
            owns it. The text says what to do instead.
    """
    for kind in type(model).__mro__:
        if kind.__name__ in _UNSUITED:
            raise ValueError(
                f"{kind.__name__} {_UNSUITED[kind.__name__]}, so no optimiser step can carry an "
                "auxiliary gradient to its encoder; use PPO, A2C, DQN, QR-DQN, SAC, TD3 or TQC"
            )
    return read_encoder(model, encoder)


def read_encoder(
    model: BaseAlgorithm, encoder: str = "auto"
) -> tuple[ObservationEncoder, torch.optim.Optimizer]:
    """As `find_encoder`, for any trained model, TRPO's too: to be read and not changed.

    Raises:
        ValueError: as `find_encoder`, but for the algorithm.
    """
    blank_observations(model.observation_space, 1)  # refuses spaces that cannot be remembered
    stages, owner = find_stages(model.policy, encoder, algorithm=type(model).__name__)
    vec_normalize = model.get_vec_normalize_env()
    normalise = None
    if vec_normalize is not None and vec_normalize.norm_obs:
        normalise = vec_normalize.normalize_obs
    found = ObservationEncoder(
        stages=stages,
        observation_space=model.observation_space,
        normalize_images=model.policy.normalize_images,
        normalise=normalise,
    )
    return found, owner


def find_stages(
    policy: nn.Module, encoder: str, *, algorithm: str
) -> tuple[list[nn.Module], torch.optim.Optimizer]:
    """The modules of the encoder, first to last, and their optimiser; see `find_encoder`."""
    named = _extractors(policy)
    optimizers = optimizers_of(policy)
    if encoder == "auto":
        others = [m for m in policy.modules() if isinstance(m, BaseFeaturesExtractor)]
        for module in [*named.values(), *others]:
            if (owner := _owner([module], optimizers)) is not None:
                return [module], owner
        raise ValueError(_no_encoder(algorithm, policy, list(named.values())))
    stages = [named[encoder]] if encoder in named else _stages_at(policy, encoder, named)
    if not any(True for stage in stages for _ in stage.parameters()):
        raise ValueError(_no_encoder(algorithm, policy, stages))
    if (owner := _owner(stages, optimizers)) is not None:
        return stages, owner
    raise ValueError(
        f"no optimiser of {algorithm} owns the encoder '{encoder}', so nothing would move it; "
        f"use encoder='auto' or one of {sorted(named)}"
    )


def encoder_names(model: BaseAlgorithm) -> list[str]:
    """Names for `find_encoder` of all encoders that an agent learns, that of "auto" first.

    Networks that share an extractor have one; where no extractor has parameters it is the trunk.
    """
    policy = model.policy
    unique = {id(m): name for name, m in reversed(_extractors(policy).items()) if _learns(m)}
    names = list(reversed(unique.values()))
    return names or _trunks(policy)[:1] or ["auto"]


def _learns(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def extractor_paths() -> Iterator[str]:
    """Paths in a policy at which Stable-Baselines3 keeps feature extractors, best first."""
    for paths in _EXTRACTORS.values():
        yield from paths


def _extractors(policy: nn.Module) -> dict[str, nn.Module]:
    """Feature extractors by name, in the order in which "auto" tries them."""
    found: dict[str, nn.Module] = {}
    for name, paths in _EXTRACTORS.items():
        modules = [module for path in paths if (module := _submodule(policy, path)) is not None]
        if modules:
            found[name] = modules[0]
    return found


def _submodule(module: nn.Module, path: str) -> nn.Module | None:
    """The submodule at a dotted path, or None; "" is the module itself."""
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None


def _stages_at(policy: nn.Module, path: str, named: dict[str, nn.Module]) -> list[nn.Module]:
    """The modules from the observation to the module at `path`."""
    module = _submodule(policy, path)
    if module is None:
        names = [*sorted(named), *_trunks(policy)]
        raise ValueError(f"the policy has no encoder '{path}'; choose 'auto' or one of {names}")
    above, _, last = path.rpartition(".")
    if "features_extractor" in last:
        return [module]
    parent = _submodule(policy, above)
    if isinstance(parent, nn.Sequential) and last.isdigit():
        module = parent[: int(last) + 1]
    before = _extractor_before(policy, path)
    return [module] if before is None else [before, module]


def _extractor_before(policy: nn.Module, path: str) -> nn.Module | None:
    """The features extractor of the innermost network that holds `path`."""
    own = "vf_features_extractor" if "value" in path else "pi_features_extractor"
    parts = path.split(".")
    for n in reversed(range(len(parts))):
        for name in (own, "features_extractor"):
            found = _submodule(policy, ".".join([*parts[:n], name]))
            if found is not None:
                return found
    return None


def _trunks(policy: nn.Module) -> list[str]:
    """Paths of the layers after the features extractor, without the last, where there are any."""
    if hasattr(policy, "lstm_actor"):  # its layers follow a recurrent one
        return []
    found = []
    for path in _TRUNKS:
        trunk = _submodule(policy, path)
        if not isinstance(trunk, nn.Sequential) or not list(trunk.parameters()):
            continue
        linear = [i for i, layer in enumerate(trunk) if isinstance(layer, nn.Linear)]
        if path in ("mlp_extractor.policy_net", "actor.latent_pi"):
            found.append(path)
        elif len(linear) > 1:  # the last layer gives values or actions
            found.append(f"{path}.{linear[-1] - 1}")
    return found


def optimizers_of(policy: nn.Module) -> list[torch.optim.Optimizer]:
    """Every optimiser of the policy's networks."""
    found = [getattr(owner, "optimizer", None) for owner in policy.modules()]
    unique = {id(o): o for o in found if isinstance(o, torch.optim.Optimizer)}
    return list(unique.values())


def _owner(
    stages: list[nn.Module], optimizers: list[torch.optim.Optimizer]
) -> torch.optim.Optimizer | None:
    """The optimiser that holds every parameter of the stages that is not frozen, by identity.

    None if there is none; of stages that are frozen altogether it must hold every parameter.
    """
    parameters = [p for stage in stages for p in stage.parameters()]
    wanted = {id(p) for p in parameters if p.requires_grad} or {id(p) for p in parameters}
    for optimizer in optimizers:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if wanted and wanted <= held:
            return optimizer
    return None


def parts_of(networks: Iterable[nn.Module]) -> list[Any]:
    """Layers, hooks, tensors' names and parameters of networks, to be compared by `same_parts`."""
    found: list[Any] = []
    for network in networks:
        for module in network.modules():
            if module is not network:  # layers taken out of a Sequential are in a new one each time
                found.append(module)
            found += [type(module), *(name for name, _ in module.named_buffers(recurse=False))]
            found += [part for both in module.named_parameters(recurse=False) for part in both]
            for hooks in ("_forward_hooks", "_forward_pre_hooks"):
                found += vars(module).get(hooks, {}).values()
    return found


def trained_parts_of(policy: nn.Module) -> list[Any]:
    """As `parts_of`, and what of it is trained: parameters not frozen, those of the optimisers."""
    parts = [policy, *parts_of([policy])]
    found = parts + [part.requires_grad for part in parts if isinstance(part, nn.Parameter)]
    modules = [part for part in parts if isinstance(part, nn.Module)]
    for optimizer in [vars(module).get("optimizer") for module in modules]:
        if optimizer is not None:
            found += [optimizer, *(p for group in optimizer.param_groups for p in group["params"])]
    return found


def same_parts(first: list[Any], second: list[Any]) -> bool:
    """Whether two lists name the same and hold the same objects."""
    return len(first) == len(second) and all(
        own is other or (isinstance(own, str) and own == other)
        for own, other in zip(first, second, strict=True)
    )


def _no_encoder(algorithm: str, policy: nn.Module, modules: list[nn.Module]) -> str:
    kinds = ", ".join(sorted({type(module).__name__ for module in modules})) or "none"
    problem = f"{algorithm} has no encoder with parameters that one optimiser owns (found {kinds})"
    held = {
        id(p) for o in optimizers_of(policy) for group in o.param_groups for p in group["params"]
    }
    parameters = {id(p): p for module in modules for p in module.parameters()}
    if parameters:
        loose = sum(p.requires_grad for key, p in parameters.items() if key not in held)
        return (
            f"{problem}: {loose} of its parameters are in no optimiser of the policy; put all of "
            "them into policy.optimizer, e.g. policy.optimizer = "
            "torch.optim.Adam(policy.parameters(), lr=3e-4), or freeze those that nothing trains"
        )
    trunks = " or ".join(f'encoder="{path}"' for path in _trunks(policy))
    return (
        f"{problem}; give the policy a features extractor, e.g. "
        "policy_kwargs=dict(features_extractor_class=VectorEncoder)"
        + (f", or name a trunk: {trunks}" if trunks else "")
    )
