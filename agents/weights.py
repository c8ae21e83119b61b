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


@dataclass(frozen=True, kw_only=True)
class TransferMode:
    """How a source agent's weights start a target agent."""

    name: str
    summary: str
    carries_head: bool
    encoder_rate: float
    """Factor on the encoder's learning rate; 0 freezes it."""


TRANSFER_MODES: Mapping[str, TransferMode] = {
    mode.name: mode
    for mode in (
        TransferMode(
            name="fine_tune",
            summary="encoder and head carried over, everything learns",
            carries_head=True,
            encoder_rate=1.0,
        ),
        TransferMode(
            name="frozen_encoder",
            summary="encoder carried over and frozen, a new head learns",
            carries_head=False,
            encoder_rate=0.0,
        ),
        TransferMode(
            name="new_head",
            summary="encoder carried over, a new head, everything learns",
            carries_head=False,
            encoder_rate=1.0,
        ),
        TransferMode(
            name="lower_encoder_rate",
            summary="encoder and head carried over, the encoder learns at a tenth of the rate",
            carries_head=True,
            encoder_rate=0.1,
        ),
    )
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
        lines = [f"carried over: {len(self.carried)} tensors"]
        lines += [f"  {name}" for name in self.carried]
        lines += [f"fresh in the target: {len(self.fresh)} tensors"]
        lines += [f"  {name}" for name in self.fresh]
        lines += [f"left behind in the source: {len(self.left_behind)} tensors"]
        lines += [f"  {name}" for name in self.left_behind]
        return "\n".join(lines)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """A policy's state dict from a Stable-Baselines3 zip; nothing is unpickled, no code runs.

    Args:
        path: the zip, or a run directory (its `checkpoints/final.zip` is read).

    Raises:
        ValueError: there is no such file, or it is not a complete Stable-Baselines3 zip.
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
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
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
