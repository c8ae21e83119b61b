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

from .encoder_lookup import find_encoder, find_stages
from .observation_encoder import forked_generators
from .weight_names import same_tensors, with_every_name


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
    "first_layers_only": TransferMode(carries_head=True, encoder_rate=1.0),
    "new_first_layers": TransferMode(carries_head=True, encoder_rate=1.0),
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
    """The model's zip at a path, or in the run directory there; ValueError if there is none.

    As in Stable-Baselines3, the ending `.zip` may be left out.
    """
    path = Path(path)
    for found in (path / "checkpoints" / "final.zip", path, Path(f"{path}.zip")):
        if found.is_file():
            return found
    raise ValueError(f"no weights at {path}: expected a run directory or a model's zip")


def is_encoder_parameter(name: str) -> bool:
    """Whether a policy's parameter belongs to a features extractor."""
    return any(part.endswith("features_extractor") for part in name.split("."))


def carry_weights(
    model: BaseAlgorithm,
    weights: Mapping[str, Tensor],
    *,
    mode: str = "fine_tune",
    encoder: str = "auto",
) -> CarryReport:
    """Copy a source policy's weights into a model by name and shape, and say what was carried.

    A tensor that the model has under several names (a shared features extractor) is carried once,
    from the first of the names that the source has.

    Args:
        model: the target model, freshly built.
        weights: the source policy's state dict.
        mode: one of `TRANSFER_MODES`; where the head is not carried it stays freshly initialised.
        encoder: which part is the encoder, see `find_encoder`; "auto": every features extractor.

    Raises:
        ValueError: an unknown mode, or no encoder parameter fits; where the head is carried and
            the features extractors have no parameters: nothing fits.
    """
    if mode not in TRANSFER_MODES:
        raise ValueError(f"unknown transfer mode '{mode}'; choose one of {list(TRANSFER_MODES)}")
    policy = model.policy
    own, of_encoder = policy.state_dict(keep_vars=True), _encoder_names(model, encoder)
    carries_head = TRANSFER_MODES[mode].carries_head
    if not of_encoder and not carries_head:
        find_stages(policy, encoder, algorithm=type(model).__name__)  # says what to name instead
    weights = with_every_name(weights, policy)
    fits = {
        name: weights[name]
        for name, tensor in own.items()
        if name in weights
        and weights[name].shape == tensor.shape
        and (carries_head or name in of_encoder)
    }
    if not fits or (of_encoder and of_encoder.isdisjoint(fits)):
        raise ValueError(
            "nothing of the source's encoder fits the target's: their architectures differ; "
            "train the source with the same agent, observation and encoder"
        )
    taken: dict[int, Tensor] = {}
    with torch.no_grad():
        for name, tensor in fits.items():
            if id(own[name]) not in taken:
                taken[id(own[name])] = tensor
                own[name].copy_(tensor)
    carried = [
        name for name in weights if name in fits and torch.equal(taken[id(own[name])], fits[name])
    ]
    if isinstance(policy, DQNPolicy):
        policy.q_net_target.load_state_dict(policy.q_net.state_dict())
    return CarryReport(
        carried=tuple(carried),
        fresh=tuple(name for name, tensor in own.items() if id(tensor) not in taken),
        left_behind=tuple(name for name in weights if name not in carried),
    )


def _encoder_names(model: BaseAlgorithm, encoder: str) -> set[str]:
    """Names of the encoder's weights; with those of the target networks that follow it."""
    if encoder == "auto":
        return {name for name in model.policy.state_dict() if is_encoder_parameter(name)}
    stages, _ = find_stages(model.policy, encoder, algorithm=type(model).__name__)
    names = same_tensors(model.policy, stages)
    followers = {
        f"{part}_target{dot}{rest}" for part, dot, rest in (n.partition(".") for n in names)
    }
    return names | (followers & model.policy.state_dict().keys())


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
        self._frozen: list[Tensor] = []

    def _on_training_start(self) -> None:
        found, optimizer = find_encoder(self.model, self.encoder)
        self._parameters = list(found.parameters())
        self._thaw()
        if self.factor == 0.0:
            self._frozen = [p for p in self._parameters if p.requires_grad]
            for parameter in self._frozen:
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
        self._thaw()

    def _thaw(self) -> None:
        """Unfreeze what this callback has frozen."""
        while self._frozen:
            self._frozen.pop().requires_grad_(True)

    def _remove_hooks(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()
