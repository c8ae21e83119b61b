"""Checks of arguments and models, made before the first frame of a `learn()`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from contrastive_distillation.losses import AuxiliaryLoss
from contrastive_distillation.memory import Memory

from .frozen_policy import FrozenPolicy
from .learner import Learner
from .observation_encoder import ObservationEncoder, blank_observations
from .spaces import difference, unsuited
from .teachers import FrozenTeacher

_N_COMPARED = 1024  # rows of a memory, about


def check_loss(loss: object) -> None:
    """Check that `loss` is an auxiliary loss whose constructor calls `super().__init__()`.

    Raises:
        ValueError: it is not; the text says what to write.
    """
    if not isinstance(loss, AuxiliaryLoss):
        raise ValueError(
            f"loss is {loss!r}, expected an object such as ContrastiveDistillation(), or of a "
            "subclass of AuxiliaryLoss"
        )
    kind = type(loss).__name__
    if "metrics" not in vars(loss):
        raise ValueError(f"{kind}.__init__ does not begin with super().__init__()")
    if not isinstance(getattr(loss, "name", None), str):
        raise ValueError(f"{kind} has no name: write name = '...' in its class, for logs and files")


def check_memory(memory: object) -> None:
    """Check that `memory` is a memory.

    Raises:
        ValueError: it is not; the text says what to write.
    """
    if not isinstance(memory, Memory):
        raise ValueError(
            f"memory is {memory!r}, expected an object such as EpisodicMemory(capacity=50_000)"
        )


def whole_number(name: str, value: Any, *, least: int) -> int:
    """The value as an int.

    Raises:
        ValueError: it is not a whole number, or below `least`.
    """
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}, expected a whole number ≥ {least}")
    return int(value)


def check_device(model: BaseAlgorithm, encoder: ObservationEncoder, loss: AuxiliaryLoss) -> None:
    """Check that the model, its encoder and the loss's heads are on one device.

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


def check_learns(parameters: Iterable[nn.Parameter]) -> None:
    """Check that at least one of the encoder's parameters requires a gradient.

    Raises:
        ValueError: all are frozen.
    """
    if not any(parameter.requires_grad for parameter in parameters):
        raise ValueError(
            "every parameter of the encoder is frozen (requires_grad is False), so the loss could "
            "change nothing; unfreeze it, name another encoder, or pass weight=0"
        )


def check_stepped(changed: Iterable[nn.Parameter], learner: Learner, loss: AuxiliaryLoss) -> None:
    """Check that the encoder's optimiser steps every parameter that the loss changes.

    Raises:
        ValueError: it does not step one of them that is not frozen.
    """
    stepped = {id(parameter) for parameter in learner.named_parameters().values()}
    if any(id(parameter) not in stepped for parameter in changed if parameter.requires_grad):
        raise ValueError(
            f"{loss.name} changes parameters of the policy that the encoder's optimiser does not "
            "step; name another encoder, or leave them out of changed_parameters "
            "(learner.named_parameters() are those it steps)"
        )


def check_teachers(model: BaseAlgorithm, loss: AuxiliaryLoss) -> None:
    """Check that every frozen teacher or policy of the loss reads the model's observations.

    Not for a loss whose source may have others.

    Raises:
        ValueError: one was trained on observations of another space, see `difference`.
    """
    if loss.source_may_differ:
        return
    for teacher in loss.modules():
        if isinstance(teacher, FrozenTeacher):
            theirs = teacher.encoder.observation_space
        elif isinstance(teacher, FrozenPolicy):
            theirs = teacher.observation_space
            if teacher.policy.action_space != model.action_space:
                raise ValueError(
                    f"the source policy acts in {teacher.policy.action_space}, the model in "
                    f"{model.action_space}: take a source with the same actions"
                )
        else:
            continue
        reason = difference(theirs, model.observation_space)
        if reason is not None and difference(theirs, _raw_space(model)) is not None:
            raise ValueError(
                f"the teacher reads other observations than the model: {reason}; take a teacher "
                "that was trained on the same observations, or wrap the environment so that both "
                "see the same"
            )


def check_memories(model: BaseAlgorithm, *memories: Memory | None) -> None:
    """Check that the observations in memories could be the model's.

    Raises:
        ValueError: those of one memory have other keys, shapes or dtypes, or whole numbers that
            the model's space lacks; or the model's cannot be stored.
    """
    blank_observations(model.observation_space, 1)
    for memory in memories:
        if memory is None or len(memory) == 0:
            continue
        rows = memory.rows()
        some = rows[:: max(1, len(rows) // _N_COMPARED)]
        if (reason := unsuited(memory.observations(some), _raw_space(model))) is not None:
            raise ValueError(
                f"a memory holds other observations than the model's: {reason}; give the model a "
                "new memory, and as source_memory one of the same observations"
            )


def _raw_space(model: BaseAlgorithm) -> gym.Space[Any]:
    """The space of the observations before VecNormalize, which has floats for whole numbers."""
    statistics = model.get_vec_normalize_env()
    if statistics is None or not statistics.norm_obs:
        return model.observation_space
    return statistics.venv.observation_space


def check_terms(loss: AuxiliaryLoss, terms: object) -> Mapping[str, Tensor]:
    """The terms that a loss's `forward` returned: one scalar by name each.

    Raises:
        ValueError: it returned something else; the text says what it should return.
    """
    if isinstance(terms, Mapping) and all(
        isinstance(term, Tensor) and term.numel() == 1 for term in terms.values()
    ):
        return terms
    raise ValueError(
        f"{type(loss).__name__}.forward must return one scalar tensor for each term, by its name, "
        f"such as {{'{loss.name}': losses.mean()}}; it returned {_described(terms)}"
    )


def _described(terms: object) -> str:
    """Type and shape, for an error text."""
    if isinstance(terms, Tensor):
        return f"a tensor of shape {tuple(terms.shape)}"
    if isinstance(terms, Mapping):
        return (
            "{" + ", ".join(f"{name!r}: {_described(term)}" for name, term in terms.items()) + "}"
        )
    return f"a {type(terms).__name__}"


def _same(first: torch.device, second: torch.device) -> bool:
    """Whether two devices are one; "cuda" stands for any of its numbers."""
    numbers = {first.index, second.index}
    return first.type == second.type and (None in numbers or len(numbers) == 1)
