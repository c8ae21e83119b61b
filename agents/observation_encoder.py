"""The encoder of a model, found in its policy, as one callable from observations to features."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor, nn

Observations = np.ndarray | dict[str, np.ndarray]
Normalise = Callable[[Any], Any]


_UNSUITED = {
    "TRPO": "moves its policy by conjugate gradients and a line search",
    "ARS": "perturbs its weights without gradients",
}


class ObservationEncoder(nn.Module):
    """Encoder f: raw observations (numpy, as memory keeps them) to features (B, n_features).

    A chain of modules (`stages`), preceded by what Stable-Baselines3 does before its feature
    extractor (VecNormalize statistics, scaling of pictures, one-hot of discrete values).

    Args:
        stages: modules applied one after the other; the first takes preprocessed observations.
        observation_space: the space the policy was built for.
        normalize_images: as in the policy (pictures to [0, 1]).
        normalise: applied to the raw observations first (VecNormalize), or None.
    """

    def __init__(
        self,
        *,
        stages: list[nn.Module],
        observation_space: gym.Space,  # type: ignore[type-arg]
        normalize_images: bool,
        normalise: Normalise | None = None,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.observation_space = observation_space
        self.normalize_images = normalize_images
        self.normalise = normalise
        self.n_features = self._count_features()

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    def forward(self, observations: Observations) -> Tensor:
        """Features (B, n_features), float32, of B raw observations."""
        if self.normalise is not None:
            observations = self.normalise(observations)
        tensors = obs_as_tensor(observations, self.device)
        features: Any = preprocess_obs(
            tensors,
            self.observation_space,
            normalize_images=self.normalize_images,
        )
        for stage in self.stages:
            features = stage(features)
        return features  # type: ignore[no-any-return]

    def frozen_copy(self) -> ObservationEncoder:
        """A copy without gradients and without the modules' hooks."""
        with _without_hooks(self):
            stages = [copy.deepcopy(stage) for stage in self.stages]
        frozen = ObservationEncoder(
            stages=stages,
            observation_space=self.observation_space,
            normalize_images=self.normalize_images,
            normalise=self.normalise,
        )
        return frozen.requires_grad_(False)

    def _count_features(self) -> int:
        last = self.stages[-1]
        if isinstance(n_features := getattr(last, "features_dim", None), int):
            return n_features
        linear = [module for module in last.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ValueError(
                f"cannot tell the width of {type(last).__name__}: it has no `features_dim` and no "
                "linear layer; name a BaseFeaturesExtractor as the encoder"
            )
        return linear[-1].out_features


@contextmanager
def _without_hooks(module: nn.Module) -> Iterator[None]:
    """Take module hooks off while copying: a bound method would drag its whole owner along."""
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    saved = [(m, name, getattr(m, name)) for m in module.modules() for name in names]
    try:
        for m, name, hooks in saved:
            setattr(m, name, type(hooks)())
        yield
    finally:
        for m, name, hooks in saved:
            setattr(m, name, hooks)


def find_encoder(
    model: BaseAlgorithm, encoder: str = "auto"
) -> tuple[ObservationEncoder, torch.optim.Optimizer]:
    """The encoder of a model and the one optimiser that owns its parameters.

    Args:
        model: any Stable-Baselines3 or sb3-contrib model in which one optimiser owns the encoder.
        encoder: "auto" | "policy" | "value" | "actor" | "critic", or a module path in the policy
            such as "mlp_extractor.policy_net".

    Raises:
        ValueError: no such encoder, it has no parameters, or no single optimiser owns them.
    """
    if (why := _UNSUITED.get(type(model).__name__)) is not None:
        raise ValueError(
            f"{type(model).__name__} {why}, so no optimiser step can carry an auxiliary gradient "
            "to its encoder; use PPO, A2C, DQN, QR-DQN, SAC, TD3 or TQC"
        )
    named = _extractors(model.policy)
    optimizers = _optimizers(model)
    if encoder == "auto":
        for stages in named.values():
            owner = _owner(stages, optimizers)
            if owner is not None:
                return _encoder(model, stages), owner
        raise ValueError(_no_encoder(model, named))
    stages = named[encoder] if encoder in named else _stages_at(model.policy, encoder, named)
    if not any(True for stage in stages for _ in stage.parameters()):
        raise ValueError(_no_encoder(model, named))
    owner = _owner(stages, optimizers)
    if owner is None:
        raise ValueError(
            f"no optimiser of {type(model).__name__} owns the encoder '{encoder}'; "
            f"choose one of {sorted(named)} or a module path, or encoder='auto'"
        )
    return _encoder(model, stages), owner


def _extractors(policy: nn.Module) -> dict[str, list[nn.Module]]:
    """Feature extractors by name, in the order in which "auto" tries them."""
    places = {
        "policy": ("pi_features_extractor", "features_extractor", "q_net.features_extractor"),
        "critic": ("critic.features_extractor",),
        "actor": ("actor.features_extractor",),
        "value": ("vf_features_extractor", "features_extractor"),
    }
    found: dict[str, list[nn.Module]] = {}
    for name, paths in places.items():
        for path in paths:
            module = _submodule(policy, path)
            if module is not None:
                found[name] = [module]
                break
    if "quantile_net" in dict(policy.named_children()):
        found = {"policy": [policy.get_submodule("quantile_net.features_extractor")]}
    return found


def _submodule(module: nn.Module, path: str) -> nn.Module | None:
    """The submodule at a dotted path, or None."""
    for part in path.split("."):
        child = getattr(module, part, None)
        if not isinstance(child, nn.Module):
            return None
        module = child
    return module


def _stages_at(policy: nn.Module, path: str, named: dict[str, list[nn.Module]]) -> list[nn.Module]:
    """The modules from the observation to the module at `path`."""
    module = _submodule(policy, path)
    if module is None:
        names = [*sorted(named), "mlp_extractor.policy_net"]
        raise ValueError(f"the policy has no encoder '{path}'; choose 'auto' or one of {names}")
    if "features_extractor" in path.split(".")[-1]:
        return [module]
    branch = "value" if "value" in path else "policy"
    return [*named.get(branch, []), module]


def _optimizers(model: BaseAlgorithm) -> list[torch.optim.Optimizer]:
    """Every optimiser of the model's networks."""
    owners = [model.policy, *model.policy.modules()]
    found = [getattr(owner, "optimizer", None) for owner in owners]
    unique = {id(o): o for o in found if isinstance(o, torch.optim.Optimizer)}
    return list(unique.values())


def _owner(
    stages: list[nn.Module], optimizers: list[torch.optim.Optimizer]
) -> torch.optim.Optimizer | None:
    """The optimiser that holds every parameter of the stages, by identity; None if none does."""
    wanted = {id(p) for stage in stages for p in stage.parameters()}
    for optimizer in optimizers:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if wanted and wanted <= held:
            return optimizer
    return None


def _encoder(model: BaseAlgorithm, stages: list[nn.Module]) -> ObservationEncoder:
    vec_normalize = model.get_vec_normalize_env()
    normalise = None
    if vec_normalize is not None and vec_normalize.norm_obs:
        normalise = vec_normalize.normalize_obs
    return ObservationEncoder(
        stages=stages,
        observation_space=model.observation_space,
        normalize_images=model.policy.normalize_images,
        normalise=normalise,
    )


def _no_encoder(model: BaseAlgorithm, named: dict[str, list[nn.Module]]) -> str:
    kinds = sorted({type(stage).__name__ for stages in named.values() for stage in stages})
    return (
        f"{type(model).__name__} has no encoder with parameters that one optimiser owns (found "
        f"{', '.join(kinds) or 'none'}); give the policy a features extractor, e.g. "
        "policy_kwargs=dict(features_extractor_class=VectorEncoder), or name a trunk: "
        'encoder="mlp_extractor.policy_net"'
    )
