"""Encoders of trained models, read from Stable-Baselines3 zips, with or without trust."""

from __future__ import annotations

import inspect
import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from .encoder_lookup import extractor_paths, find_stages
from .module_copy import copy_module
from .observation_encoder import ObservationEncoder
from .weight_names import plain_name, with_every_name
from .weights import misfit, read_weights, zip_of

_NEEDED = {"policy_class", "policy_kwargs", "observation_space", "action_space"}
_IN_ONE_UNTIL_1_6 = ("pi_features_extractor", "vf_features_extractor")  # in Stable-Baselines3


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
    if is_image_space(space) and _scales_pictures(path) not in (None, normalize_images):
        raise ValueError(
            f"the policy in {path} was trained with normalize_images={not normalize_images}; pass "
            f"normalize_images={not normalize_images}"
        )
    own = copy_module(module).cpu()
    own.load_state_dict(_weights_of(own, read_weights(path), at=at, path=path))
    return ObservationEncoder(
        stages=[own], observation_space=space, normalize_images=normalize_images
    )


def rebuilt_encoder(path: str | Path, *, at: str) -> ObservationEncoder:
    """The encoder of a zip's policy, rebuilt by unpickling its classes: this runs their code.

    Raises:
        ValueError: a class cannot be unpickled or built here, or the weights do not fit.
    """
    weights = read_weights(path)
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            data, _, _ = load_from_zip_file(zip_of(path), device="cpu")
        missing = _NEEDED - (data or {}).keys()
        if data is None or missing:
            reasons = [
                str(w.message) for w in told if any(f" {m}." in str(w.message) for m in missing)
            ]
            reason = reasons[0].splitlines()[-1] if reasons else "not in the file"
            raise ValueError(f"{', '.join(sorted(missing))}: {reason}")
        kind, settings = data["policy_class"], dict(data["policy_kwargs"])
        if "use_sde" in inspect.signature(kind).parameters:
            settings.setdefault("use_sde", data.get("use_sde", False))
        with torch.random.fork_rng(devices=[]):
            policy = kind(data["observation_space"], data["action_space"], _no_rate, **settings)
        policy.load_state_dict(with_every_name(weights, policy))
    except Exception as error:
        raise ValueError(
            f"the policy in {path} cannot be rebuilt here ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); import the module that defines its classes "
            "first, or pass encoder=module"
        ) from error
    stages, _ = find_stages(policy, at, algorithm=kind.__name__)
    return ObservationEncoder(
        stages=stages,
        observation_space=policy.observation_space,
        normalize_images=policy.normalize_images,
    )


def _scales_pictures(path: str | Path) -> bool | None:
    """The policy's `normalize_images`, read without unpickling; None if the zip does not say."""
    with zipfile.ZipFile(zip_of(path)) as archive:
        if "data" not in archive.namelist():
            return None
        try:
            settings = json.loads(archive.read("data")).get("policy_kwargs", {})
        except (ValueError, AttributeError):
            return None
    found = settings.get("normalize_images", True) if isinstance(settings, dict) else None
    return found if isinstance(found, bool) else None


def statistics_of(source: VecNormalize | str | Path, *, trust: bool) -> VecNormalize:
    """VecNormalize itself, or the one that it saved to a file, which is a pickle."""
    if isinstance(source, VecNormalize):
        return source
    if not trust:
        raise ValueError(
            f"{source} is a pickle, and reading one runs whatever code it holds; pass trust=True "
            "if it is yours, or a VecNormalize object"
        )
    try:
        with Path(source).open("rb") as file:
            statistics = pickle.load(file)
    except Exception as error:
        raise ValueError(
            f"{source} cannot be read as a VecNormalize ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:120]}); pass the file that VecNormalize.save wrote"
        ) from error
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
    weights = {plain_name(name): tensor for name, tensor in weights.items()}
    if not own:
        raise ValueError(f"{type(module).__name__} has no weights; an encoder needs some")
    places = list(extractor_paths()) if at == "auto" else [at]
    if at in _IN_ONE_UNTIL_1_6 and not any(name.startswith(f"{at}.") for name in weights):
        places = ["features_extractor"]
    tried = []
    for place in places:
        placed = {f"{place}.{plain_name(name)}": tensor for name, tensor in own.items()}
        if (reason := misfit(weights, placed)) is None:
            return {name: weights[f"{place}.{plain_name(name)}"] for name in own}
        if not weights.keys().isdisjoint(placed):
            tried.append(reason)
    why = "; ".join(tried) or f"it has nothing at {', '.join(places)}"
    raise ValueError(
        f"the weights in {path} do not fit {type(module).__name__}: {why}; pass an encoder built "
        "as the source's was"
    )
