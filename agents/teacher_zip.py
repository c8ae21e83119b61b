"""Encoders of trained models, read from Stable-Baselines3 zips, with or without trust."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from .encoder_lookup import extractor_paths, find_stages
from .module_copy import copy_module
from .observation_encoder import ObservationEncoder
from .weights import misfit, read_weights, zip_of


def encoder_with_weights(
    path: str | Path,
    module: nn.Module,
    *,
    at: str,
    observation_space: gym.Space[Any] | None,
    normalize_images: bool,
) -> ObservationEncoder:
    """A copy of `module` with the weights that a zip's policy has for it; nothing is unpickled."""
    space = observation_space or getattr(module, "_observation_space", None)
    if not isinstance(space, gym.Space):
        raise ValueError(
            f"{type(module).__name__} does not know its observation space; pass "
            "observation_space=env.observation_space"
        )
    own = copy_module(module).cpu()
    own.load_state_dict(_weights_of(own, read_weights(path), at=at, path=path))
    return ObservationEncoder(
        stages=[own], observation_space=space, normalize_images=normalize_images
    )


def rebuilt_encoder(path: str | Path, *, at: str) -> ObservationEncoder:
    """The encoder of a zip's policy, rebuilt by unpickling its classes: this runs their code."""
    data, _, _ = load_from_zip_file(zip_of(path), device="cpu")
    if not data or "policy_class" not in data:
        raise ValueError(f"{path} does not name its policy class; pass encoder=module")
    kind, settings = data["policy_class"], dict(data.get("policy_kwargs", {}))
    if "use_sde" in inspect.signature(kind).parameters:
        settings.setdefault("use_sde", data.get("use_sde", False))
    with torch.random.fork_rng(devices=[]):
        policy = kind(data["observation_space"], data["action_space"], _no_rate, **settings)
    policy.load_state_dict(read_weights(path))
    stages, _ = find_stages(policy, at, algorithm=kind.__name__)
    return ObservationEncoder(
        stages=stages,
        observation_space=policy.observation_space,
        normalize_images=policy.normalize_images,
    )


def statistics_of(source: VecNormalize | str | Path, *, trust: bool) -> VecNormalize:
    """VecNormalize itself, or the one that it saved to a file, which is a pickle."""
    if isinstance(source, VecNormalize):
        return source
    if not trust:
        raise ValueError(
            f"{source} is a pickle, and reading one runs whatever code it holds; pass trust=True "
            "if it is yours, or a VecNormalize object"
        )
    with Path(source).open("rb") as file:
        statistics = pickle.load(file)
    if not isinstance(statistics, VecNormalize):
        raise ValueError(f"{source} holds a {type(statistics).__name__}, expected a VecNormalize")
    return statistics


def _no_rate(_: float) -> float:
    return 0.0


def _weights_of(
    module: nn.Module, weights: Mapping[str, Tensor], *, at: str, path: str | Path
) -> dict[str, Tensor]:
    """The part of a policy's weights that fits a module, by name and shape."""
    own = module.state_dict()
    if not own:
        raise ValueError(f"{type(module).__name__} has no weights; an encoder needs some")
    places = list(extractor_paths()) if at == "auto" else [at]
    tried = []
    for place in places:
        placed = {f"{place}.{name}": tensor for name, tensor in own.items()}
        if (reason := misfit(weights, placed)) is None:
            return {name: weights[f"{place}.{name}"] for name in own}
        if not weights.keys().isdisjoint(placed):
            tried.append(reason)
    why = "; ".join(tried) or f"it has nothing at {', '.join(places)}"
    raise ValueError(
        f"the weights in {path} do not fit {type(module).__name__}: {why}; pass an encoder built "
        "as the source's was"
    )
