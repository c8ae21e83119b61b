"""The auxiliary file: everything of a callback that a model's zip does not hold."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from contrastive_distillation.losses import LOSSES, AuxiliaryLoss, make_loss
from contrastive_distillation.memory import (
    MEMORIES,
    EvictionPolicy,
    Memory,
    pack,
    replace_file,
    unpack,
)

from .schedules import Schedule, WeightSchedule

if TYPE_CHECKING:
    from .callback import AuxiliaryLossCallback

VERSION = 3
_READABLE = (2, VERSION)  # in files of version 2 no array is packed
_KINDS_OF_MEMORY: dict[str, type] = {"memory_class": str, "memory": dict}
_KINDS: dict[str, type] = _KINDS_OF_MEMORY | {
    "loss": str, "loss_settings": dict, "has_teacher": bool, "has_own_sampler": bool,
    "settings": dict, "generator": dict, "reference": list, "n_updates": int, "n_steps": int,
}  # fmt: skip
_NOT_IN_FILES = {
    "has_teacher": ("a frozen teacher", "teacher=..."),
    "has_source_policy": ("a source policy", "source_policy=FrozenPolicy..."),
    "has_own_sampler": ("a sampler of its own", "negatives=YourSampler(...)"),
}
_SETTINGS = (
    "balance", "every", "n_anchors", "encoder", "head_learning_rate", "diagnostics_frames", "seed",
)  # fmt: skip


def load_memory(path: Path, *, keep: EvictionPolicy | None) -> Memory:
    """Read the memory of a callback's file; see `RecordMemory.load`."""
    return _memory_of(*_read(path, _KINDS_OF_MEMORY), path, keep)


def save_auxiliary(callback: AuxiliaryLossCallback, path: Path) -> None:
    """Write the callback's state; see `AuxiliaryLossCallback.save`."""
    if callback.learner is None:
        raise ValueError("nothing to save yet: pass the callback to learn() first")
    loss = callback.loss
    tensors = {f"loss/{name}": tensor for name, tensor in loss.state_dict().items()}
    tensors |= {f"heads/{name}": tensor for name, tensor in callback.heads.tensors().items()}
    metadata = {
        "loss": loss.name,
        "loss_settings": loss.keywords(),
        "has_teacher": getattr(loss, "teacher", None) is not None,
        "has_source_policy": getattr(loss, "source_policy", None) is not None,
        "has_own_sampler": bool(getattr(loss, "has_own_sampler", False)),
        "has_source_memory": callback.source_memory is not None,
        "settings": {name: getattr(callback, name) for name in _SETTINGS}
        | {"weight": _weight_to_save(callback.weight)},
        "generator": callback.generator.bit_generator.state,
        "reference": list(callback.reference.remembered),
        "n_updates": callback.n_updates,
        "n_steps": callback.n_steps,
    }
    write_file(path, callback.memory, metadata, tensors)


def load_auxiliary(
    cls: type[AuxiliaryLossCallback],
    path: Path,
    *,
    loss: AuxiliaryLoss | None,
    weight: float | Schedule | None,
    source: Memory | None,
    keep: EvictionPolicy | None,
) -> AuxiliaryLossCallback:
    """Read a callback's state; see `AuxiliaryLossCallback.load`."""
    metadata, tensors = _read(path, _KINDS)
    if loss is None:
        loss = _registered_loss(metadata, path)
    if loss.name != metadata["loss"]:
        raise ValueError(f"{path} holds the loss '{metadata['loss']}', not '{loss.name}'")
    if metadata.get("has_source_memory") and source is None:
        raise ValueError(
            f"{path} belongs to a callback with a source memory, which has a file of its own; "
            "pass it: AuxiliaryLossCallback.load(path, source_memory=EpisodicMemory.load(...))"
        )
    memory = _memory_of(metadata, tensors, path, keep)
    settings = dict(metadata["settings"])
    saved_weight = settings.pop("weight", None)
    if weight is None and saved_weight is None:
        raise ValueError(
            f"{path} belongs to a callback whose weight is a function, which no file holds; pass "
            "it: AuxiliaryLossCallback.load(path, weight=...)"
        )
    with _errors_naming(path):
        if weight is None:
            is_schedule = isinstance(saved_weight, dict)
            weight = WeightSchedule(**saved_weight) if is_schedule else saved_weight
        callback = cls(loss, memory=memory, source_memory=source, weight=weight, **settings)
        callback.generator.bit_generator.state = metadata["generator"]
        callback.reference.remembered.extend(metadata["reference"])
        callback.n_updates, callback.n_steps = metadata["n_updates"], metadata["n_steps"]
        callback.load_tensors(_under("loss/", tensors), _under("heads/", tensors))
    return callback


def write_file(
    path: Path, memory: Memory, metadata: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    """Write a memory and the rest of a callback's state to one file, whole or not at all."""
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{path}: the directory {path.parent} does not exist; create it first")
    metadata |= {
        "version": VERSION, "memory_class": memory.kind, "memory": memory.metadata(),
    }  # fmt: skip
    packed = pack(memory.state_tensors())
    tensors |= {f"memory/{name}": torch.from_numpy(array) for name, array in packed.items()}
    contiguous = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    entries = {"auxiliary": json.dumps(metadata)}
    replace_file(path, lambda part: save_file(contiguous, part, metadata=entries))


def _memory_of(
    metadata: dict[str, Any], tensors: dict[str, Tensor], path: Path, keep: EvictionPolicy | None
) -> Memory:
    kind = MEMORIES.get(metadata["memory_class"])
    if kind is None:
        raise ValueError(
            f"{path} holds the memory '{metadata['memory_class']}'; known are {sorted(MEMORIES)}"
        )
    with _errors_naming(path):
        arrays = unpack({name: t.numpy() for name, t in _under("memory/", tensors).items()})
        return kind.from_state(arrays, metadata["memory"], keep=keep)


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    """Report an entry of another type or size than `save` writes as a broken file."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, MemoryError) as error:
        reason = error if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"{path} is broken: {reason}") from error


def _read(path: Path, kinds: Mapping[str, type]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and tensors of a file that has at least the entries `kinds`, of these types."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("auxiliary", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is missing or broken: {error}") from error
    found = metadata.get("version") if isinstance(metadata, dict) else None
    if found not in _READABLE:
        raise ValueError(
            f"{path} is not an auxiliary file of version {_READABLE[0]} or {VERSION} "
            f"(found {found}); write one with AuxiliaryLossCallback.save"
        )
    if "loss" in kinds and "loss" not in metadata and "memory" in metadata:
        raise ValueError(f"{path} holds a memory without a loss; use RecordMemory.load")
    if missing := kinds.keys() - metadata.keys():
        raise ValueError(f"{path} is broken: it lacks {', '.join(sorted(missing))}")
    for key, kind in kinds.items():
        if type(metadata[key]) is not kind:
            raise ValueError(f"{path} is broken: {key} is {metadata[key]!r}, not {kind.__name__}")
        if kind is int and metadata[key] < 0:
            raise ValueError(f"{path} is broken: {key} is {metadata[key]}, expected ≥ 0")
    norms = metadata["reference"] if "reference" in kinds else []
    if not all(type(norm) is float and 0.0 < norm < math.inf for norm in norms):
        raise ValueError(f"{path} is broken: reference is {norms}, expected gradient norms > 0")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{path} is broken: {name} has numbers that are not finite")
    return metadata, tensors


def _registered_loss(metadata: dict[str, Any], path: Path) -> AuxiliaryLoss:
    if metadata["loss"] not in LOSSES:
        raise ValueError(
            f"{path} holds the loss '{metadata['loss']}', which is not in the registry; "
            "pass it: AuxiliaryLossCallback.load(path, loss=YourLoss(...))"
        )
    for entry, (part, argument) in _NOT_IN_FILES.items():
        if metadata.get(entry):
            loss = LOSSES[metadata["loss"]].__name__
            raise ValueError(
                f"{path} holds a loss with {part}, which no file holds; pass the loss with it: "
                f"AuxiliaryLossCallback.load(path, loss={loss}({argument}))"
            )
    return make_loss(metadata["loss"], **metadata["loss_settings"])


def _weight_to_save(weight: float | Schedule) -> float | dict[str, Any] | None:
    """A number, a `WeightSchedule` as its fields, or None for any other function."""
    if isinstance(weight, WeightSchedule):
        return asdict(weight)
    return None if callable(weight) else weight


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
