"""The auxiliary file: everything of an `AuxiliaryLossCallback` that a model's zip does not hold."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from contrastive_distillation.losses import LOSSES, AuxiliaryLoss, make_loss
from contrastive_distillation.memory import MEMORIES, Keep, Memory, pack, unpack

from .schedules import Schedule, WeightSchedule

if TYPE_CHECKING:
    from .callback import AuxiliaryLossCallback

VERSION = 3
_READABLE = (2, VERSION)  # of the first, nothing is packed
_KINDS: dict[str, type] = {
    "loss": str, "loss_settings": dict, "has_teacher": bool, "has_own_sampler": bool,
    "settings": dict, "memory_class": str, "memory": dict, "generator": dict, "reference": list,
    "n_updates": int, "n_steps": int,
}  # fmt: skip
_ADAM = {"step", "exp_avg", "exp_avg_sq"}
_SETTINGS = (
    "balance", "every", "n_anchors", "encoder", "head_learning_rate", "diagnostics_frames", "seed",
)  # fmt: skip


def save_auxiliary(callback: AuxiliaryLossCallback, path: Path) -> None:
    """Write the callback's state; see `AuxiliaryLossCallback.save`."""
    if callback.learner is None:
        raise ValueError("nothing to save yet: pass the callback to learn() first")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{path}: there is no directory {path.parent}")
    tensors = {f"loss/{k}": v.detach().cpu() for k, v in callback.loss.state_dict().items()}
    optimizer = callback._head_optimizer
    state = {} if optimizer is None else optimizer.state_dict()["state"]
    for index, entries in state.items():
        for key, value in entries.items():
            tensors[f"heads/{index}/{key}"] = value.detach().cpu()
    for key, array in pack(callback.memory.state_tensors()).items():
        tensors[f"memory/{key}"] = torch.from_numpy(array)
    metadata = {
        "version": VERSION,
        "loss": callback.loss.name,
        "loss_settings": _settings_of(callback.loss),
        "has_teacher": getattr(callback.loss, "teacher", None) is not None,
        "has_source_policy": getattr(callback.loss, "source_policy", None) is not None,
        "has_own_sampler": bool(getattr(callback.loss, "has_own_sampler", False)),
        "has_source_memory": callback.source_memory is not None,
        "settings": {name: getattr(callback, name) for name in _SETTINGS}
        | {"weight": _weight_to_save(callback.weight)},
        "memory_class": callback.memory.kind,
        "memory": callback.memory.metadata(),
        "generator": callback.generator.bit_generator.state,
        "reference": list(callback.reference.remembered),
        "n_updates": callback.n_updates,
        "n_steps": callback._n_steps,
    }
    contiguous = {key: tensor.contiguous().clone() for key, tensor in tensors.items()}
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        save_file(contiguous, temporary, metadata={"auxiliary": json.dumps(metadata)})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_auxiliary(
    cls: type[AuxiliaryLossCallback],
    path: Path,
    *,
    loss: AuxiliaryLoss | None,
    weight: float | Schedule | None,
    source: Memory | None,
    keep: Keep | None,
) -> AuxiliaryLossCallback:
    """Read a callback's state; see `AuxiliaryLossCallback.load`."""
    metadata, tensors = _read(path)
    if loss is None:
        loss = _registered_loss(metadata, path)
    if loss.name != metadata["loss"]:
        raise ValueError(f"{path} holds the loss '{metadata['loss']}', not '{loss.name}'")
    if metadata.get("has_source_memory") and source is None:
        raise ValueError(
            f"{path} belongs to a callback with a source memory, which has a file of its own; "
            "pass it: AuxiliaryLossCallback.load(path, source_memory=EpisodicMemory.load(...))"
        )
    try:
        return _rebuilt(
            cls, metadata, tensors, path, loss=loss, weight=weight, source=source, keep=keep
        )
    except (KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        # of another type or size than `save` writes
        raise ValueError(f"{path} is broken: {type(error).__name__}: {error}") from error
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} is broken: {error}") from error


def _rebuilt(
    cls: type[AuxiliaryLossCallback],
    metadata: dict[str, Any],
    tensors: dict[str, Tensor],
    path: Path,
    *,
    loss: AuxiliaryLoss,
    weight: float | Schedule | None,
    source: Memory | None,
    keep: Keep | None,
) -> AuxiliaryLossCallback:
    settings = dict(metadata["settings"])
    settings["weight"] = _saved_weight(settings["weight"], path) if weight is None else weight
    memory_class = MEMORIES.get(metadata["memory_class"])
    if memory_class is None:
        raise ValueError(
            f"{path} holds the memory '{metadata['memory_class']}'; known are {sorted(MEMORIES)}"
        )
    memory_tensors = unpack({k: v.numpy() for k, v in _under("memory/", tensors).items()})
    memory = memory_class.from_state(memory_tensors, metadata["memory"], keep=keep)
    callback = cls(loss, memory=memory, source_memory=source, **settings)
    callback.generator.bit_generator.state = metadata["generator"]
    callback.reference.remembered.extend(metadata["reference"])
    callback.n_updates = metadata["n_updates"]
    callback._n_steps = metadata["n_steps"]
    callback._pending_state = {
        "loss": _under("loss/", tensors),
        "heads": _by_index(_under("heads/", tensors)),
    }
    return callback


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("auxiliary", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is missing or broken: {error}") from error
    if not isinstance(metadata, dict) or metadata.get("version") not in _READABLE:
        found = metadata.get("version") if isinstance(metadata, dict) else None
        raise ValueError(
            f"{path} is not an auxiliary file of version {_READABLE[0]} or {VERSION} "
            f"(found {found}); "
            "write one with AuxiliaryLossCallback.save"
        )
    if missing := _KINDS.keys() - metadata.keys():
        raise ValueError(f"{path} is broken: it lacks {', '.join(sorted(missing))}")
    for key, kind in _KINDS.items():
        if type(metadata[key]) is not kind:
            raise ValueError(f"{path} is broken: {key} is {metadata[key]!r}, not {kind.__name__}")
    if min(metadata["n_updates"], metadata["n_steps"]) < 0:
        raise ValueError(f"{path} is broken: it counts fewer than 0 steps")
    if not all(type(norm) is float and 0.0 < norm < math.inf for norm in metadata["reference"]):
        raise ValueError(f"{path} is broken: reference holds what is no norm of a gradient")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{path} is broken: {name} has numbers that are not finite")
    return metadata, tensors


def check_heads(heads: Sequence[nn.Parameter], state: dict[int, dict[str, Tensor]]) -> None:
    """Hold what a file keeps of the heads' optimiser against the heads.

    Raises:
        ValueError: there are other heads, or heads of other shapes.
    """
    for index, entries in state.items():
        if not 0 <= index < len(heads):
            raise ValueError(f"the auxiliary file has {index + 1} heads, the loss {len(heads)}")
        if entries.keys() != _ADAM:
            raise ValueError(
                f"the auxiliary file's head {index} has {sorted(entries)}, not {sorted(_ADAM)}"
            )
        for name, tensor in entries.items():
            wanted = torch.tensor(0.0) if name == "step" else heads[index]
            if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
                raise ValueError(
                    f"the auxiliary file's {name} of head {index} is {tuple(tensor.shape)} "
                    f"{tensor.dtype}, not {tuple(wanted.shape)} {wanted.dtype}"
                )


def _registered_loss(metadata: dict[str, Any], path: Path) -> AuxiliaryLoss:
    if metadata["loss"] not in LOSSES:
        raise ValueError(
            f"{path} holds the loss '{metadata['loss']}', which is not in the registry; "
            "pass it: AuxiliaryLossCallback.load(path, loss=YourLoss(...))"
        )
    if metadata["has_teacher"]:
        raise ValueError(
            f"{path} holds a loss with a frozen teacher; pass the loss with its teacher: "
            f"AuxiliaryLossCallback.load(path, loss={LOSSES[metadata['loss']].__name__}("
            "teacher=...))"
        )
    if metadata.get("has_source_policy"):
        raise ValueError(
            f"{path} holds a loss with a source policy; pass the loss with it: "
            f"AuxiliaryLossCallback.load(path, loss={LOSSES[metadata['loss']].__name__}("
            "source_policy=FrozenPolicy...))"
        )
    if metadata["has_own_sampler"]:
        raise ValueError(
            f"{path} holds a loss whose negatives were given as an object, which no file holds; "
            "pass the loss: AuxiliaryLossCallback.load(path, loss=ContrastiveDistillation("
            "negatives=YourSampler(...)))"
        )
    return make_loss(metadata["loss"], **metadata["loss_settings"])


def _weight_to_save(weight: float | Schedule) -> float | dict[str, Any] | None:
    """A number, a `WeightSchedule` as its fields, or None for any other function."""
    if isinstance(weight, WeightSchedule):
        return asdict(weight)
    return None if callable(weight) else weight


def _saved_weight(saved: float | dict[str, Any] | None, path: Path) -> float | Schedule:
    if saved is None:
        raise ValueError(
            f"{path} belongs to a callback whose weight is a function, which no file holds; pass "
            "it: AuxiliaryLossCallback.load(path, weight=...)"
        )
    return WeightSchedule(**saved) if isinstance(saved, dict) else saved


def _settings_of(loss: AuxiliaryLoss) -> dict[str, Any]:
    settings = getattr(loss, "settings", None)
    if isinstance(settings, Mapping):
        return dict(settings)
    return asdict(settings) if is_dataclass(settings) and not isinstance(settings, type) else {}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _by_index(entries: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in entries.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = tensor
    return state
