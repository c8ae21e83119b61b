"""What an auxiliary loss cannot be joined to, told before a frame is spent on it."""

from __future__ import annotations

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from contrastive_distillation.losses import AuxiliaryLoss

from .observation_encoder import ObservationEncoder


def check_device(model: BaseAlgorithm, encoder: ObservationEncoder, loss: AuxiliaryLoss) -> None:
    """The model, its encoder and the loss's heads are on one device.

    Raises:
        ValueError: they are not; the text names the devices.
    """
    wanted = torch.device(model.device)
    for parameter in encoder.parameters():
        if not _same(parameter.device, wanted):
            raise ValueError(
                f"the encoder is on {parameter.device}, but the model was made for {wanted}: do "
                f"not move the policy by hand; pass device='{parameter.device}' to the model, or "
                "save it and load it there"
            )
    for tensor in [*loss.parameters(), *loss.buffers()]:
        if not _same(tensor.device, encoder.device):
            raise ValueError(
                f"the loss is on {tensor.device}, the model's encoder on {encoder.device}: save "
                "the callback before moving the model, and continue with "
                "AuxiliaryLossCallback.load"
            )


def check_learns(encoder: ObservationEncoder) -> None:
    """Some parameter of the encoder wants a gradient.

    Raises:
        ValueError: all are frozen.
    """
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        raise ValueError(
            "every parameter of the encoder is frozen (requires_grad is False), so the loss could "
            "change nothing; thaw it, name another encoder, or pass weight=0"
        )


def _same(first: torch.device, second: torch.device) -> bool:
    """Whether two devices are one; "cuda" stands for any of its numbers."""
    numbers = {first.index, second.index}
    return first.type == second.type and (None in numbers or len(numbers) == 1)
