"""Weights of a policy: read without unpickling, carried over to another model, hashed."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor

from .encoder_lookup import find_encoder
from .observation_encoder import forked_generators


@dataclass(frozen=True, kw_only=True)
class TransferMode:
    """How a source agent's weights start a target agent; the encoder's are always carried over."""

    carries_head: bool
    """Whether the head is carried over too, or is new."""
    encoder_rate: float
    """Factor on the encoder's learning rate; 0 freezes it."""


TRANSFER_MODES: Mapping[str, TransferMode] = {
    "fine_tune": TransferMode(carries_head=True, encoder_rate=1.0),
    "frozen_encoder": TransferMode(carries_head=False, encoder_rate=0.0),
    "new_head": TransferMode(carries_head=False, encoder_rate=1.0),
    "lower_encoder_rate": TransferMode(carries_head=True, encoder_rate=0.1),
}


@dataclass(frozen=True, kw_only=True)
class CarryReport:
    """The parameters that `carry_weights` copied and did not copy, by name."""

    carried: tuple[str, ...]
    fresh: tuple[str, ...]
    """In the target only, of another shape, or left fresh on purpose (a new head)."""
    left_behind: tuple[str, ...]
    """In the source only, of another shape, or not wanted."""

    def __str__(self) -> str:
        named = {
            "carried over": self.carried,
            "fresh in the target": self.fresh,
            "left behind in the source": self.left_behind,
        }
        return "\n".join(
            "\n  ".join([f"{title}: {len(names)} tensors", *names])
            for title, names in named.items()
        )


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """A policy's state dict from a Stable-Baselines3 zip; nothing is unpickled, no code runs.

    Args:
        path: the zip, or a run directory (its `checkpoints/final.zip` is read).

    Raises:
        ValueError: the file does not exist, or it is not a complete Stable-Baselines3 zip.
    """
    path = zip_of(path)
    try:
        with zipfile.ZipFile(path) as archive:
            raw = io.BytesIO(archive.read("policy.pth"))
        weights = torch.load(raw, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} is broken or not a Stable-Baselines3 zip ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:120]})"
        ) from error
    return dict(weights)


def random_weights(model: BaseAlgorithm, *, seed: int) -> dict[str, Tensor]:
    """Initial weights of a policy like the model's, drawn from `seed`.

    The model stays as it is, and so do the global generators.
    """
    policy = model.policy
    with forked_generators(model.device):
        torch.manual_seed(seed)
        fresh = type(policy)(**policy._get_constructor_parameters())
    return {name: tensor.detach().clone() for name, tensor in fresh.state_dict().items()}


def zip_of(path: str | Path) -> Path:
    """The model's zip at a path, or in the run directory there; ValueError if there is none."""
    path = Path(path)
    if path.is_dir():
        path = path / "checkpoints" / "final.zip"
    if not path.is_file():
        raise ValueError(f"no weights at {path}: expected a run directory or a model's zip")
    return path


def is_encoder_parameter(name: str) -> bool:
    """Whether a policy's parameter belongs to a features extractor."""
    return any(part.endswith("features_extractor") for part in name.split("."))


def carry_weights(
    model: BaseAlgorithm, weights: Mapping[str, Tensor], *, mode: str = "fine_tune"
) -> CarryReport:
    """Copy a source policy's weights into a model by name and shape, and say what was carried.

    Args:
        model: the target model, freshly built.
        weights: the source policy's state dict.
        mode: one of `TRANSFER_MODES`; where the head is not carried it stays freshly initialised.

    Raises:
        ValueError: an unknown mode, or no encoder parameter fits.
    """
    if mode not in TRANSFER_MODES:
        raise ValueError(f"unknown transfer mode '{mode}'; choose one of {list(TRANSFER_MODES)}")
    own = model.policy.state_dict()
    carries_head = TRANSFER_MODES[mode].carries_head
    carried = [
        name
        for name, tensor in weights.items()
        if name in own
        and own[name].shape == tensor.shape
        and (carries_head or is_encoder_parameter(name))
    ]
    if not any(is_encoder_parameter(name) for name in carried):
        raise ValueError(
            "nothing of the source's encoder fits the target's: their architectures differ; "
            "train the source with the same agent, observation and encoder"
        )
    with torch.no_grad():
        for name in carried:
            own[name].copy_(weights[name])
    if isinstance(model.policy, DQNPolicy):
        model.policy.q_net_target.load_state_dict(model.policy.q_net.state_dict())
    return CarryReport(
        carried=tuple(carried),
        fresh=tuple(name for name in own if name not in carried),
        left_behind=tuple(name for name in weights if name not in carried),
    )


def misfit(weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str | None:
    """The first tensor that lacks a weight of its name and shape, in words; None if all fit."""
    for name, tensor in tensors.items():
        found = tuple(weights[name].shape) if name in weights else "nothing"
        if found != tuple(tensor.shape):
            return f"'{name}' should be {tuple(tensor.shape)}, found {found}"
    return None


def copy_weights(
    weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *, of: str, advice: str
) -> None:
    """Copy a policy's weights into tensors of the same names.

    Args:
        weights: the policy's state dict; may have more names.
        tensors: the tensors to fill.
        of: the owner of the tensors, for the error text.
        advice: what to do if they do not fit, for the error text.

    Raises:
        ValueError: a weight is missing or has another shape.
    """
    if reason := misfit(weights, tensors):
        raise ValueError(f"{of}'s weights do not fit: {reason}; {advice}")
    for name, tensor in tensors.items():
        tensor.copy_(weights[name])


def policy_sha256(model: BaseAlgorithm) -> str:
    """SHA-256 over names, shapes and bytes of the policy's state dict, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.policy.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class EncoderRate(BaseCallback):
    """Multiplies the encoder's learning rate by `factor`, exactly, for any optimiser.

    After each optimiser step the encoder is moved back to `old + factor · (new − old)`. For
    factor 0 the encoder takes no gradient at all, so that it does not count in gradient clipping.

    Raises:
        ValueError: factor outside [0, 1].
    """

    def __init__(self, factor: float, *, encoder: str = "auto") -> None:
        super().__init__()
        if not 0.0 <= factor <= 1.0:
            raise ValueError(f"factor is {factor}, expected a number in [0, 1]")
        self.factor = factor
        self.encoder = encoder
        self._hooks: list[Any] = []

    def _on_training_start(self) -> None:
        found, optimizer = find_encoder(self.model, self.encoder)
        self._parameters = list(found.parameters())
        if self.factor == 0.0:
            for parameter in self._parameters:
                parameter.requires_grad_(False)
                parameter.grad = None
            return
        self._remove_hooks()
        self._hooks = [
            optimizer.register_step_pre_hook(self._remember),
            optimizer.register_step_post_hook(self._move_back),
        ]

    def _remember(self, *_: object) -> None:
        self._before = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def _move_back(self, *_: object) -> None:
        for parameter, before in zip(self._parameters, self._before, strict=True):
            parameter.copy_(torch.lerp(before, parameter, self.factor))

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._remove_hooks()
        if self.factor == 0.0:
            for parameter in self._parameters:
                parameter.requires_grad_(True)

    def _remove_hooks(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()
