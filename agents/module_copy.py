"""One way to copy a module: the copy computes the same function, or there is none."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterable
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)
_Memo = dict[int, Any]

_SHARED = (BaseAlgorithm, BaseCallback, VecEnv, gym.Env)
"""A copy refers to the same ones: they use the module, and are no part of its function."""
_ATOMS = (str, bytes, int, float, complex, type, ModuleType, Tensor, np.ndarray)
_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")
_UNSEEN = {*_BACKWARD_HOOKS, "_compiled_call_impl", "dynamo_ctx"}
"""Attributes of a module that its function does not depend on."""


def copy_module(module: _Module) -> _Module:
    """A deep copy of a module that computes the same function; it shares no weights with it.

    Forward hooks and forward pre-hooks are copied (spectral_norm, weight_norm, pruning, a user's
    own), and so are functions that refer to the module's layers or tensors: in the copy they refer
    to its own. A stored output of an earlier pass is copied without its graph. The copy has no
    backward hooks and no optimisers. It refers to the same models, callbacks and environments,
    and to the same objects that cannot be copied (locks, files), unless they hold tensors, arrays
    or modules.

    Raises:
        ValueError: an attribute holds tensors, arrays or modules and cannot be copied; the text
            names the attribute.
    """
    reached = _reached([module])
    memo: _Memo = {}
    for thing in reached:
        if isinstance(thing, Tensor) and not thing.is_leaf:
            memo[id(thing)] = thing.detach().clone()
        elif isinstance(thing, torch.optim.Optimizer):
            memo[id(thing)] = None
        elif isinstance(thing, _SHARED):
            memo[id(thing)] = thing
        elif isinstance(thing, nn.Module):
            memo |= {id(hooks): type(hooks)() for hooks in _backward_hooks(thing)}
    functions = [f for f in reached if isinstance(f, FunctionType) and _holds_state(f)]
    memo |= {id(function): _with_empty_cells(function) for function in functions}
    try:
        done = dict(memo)
        copied = copy.deepcopy(module, done)
    except Exception:
        _share_what_cannot_be_copied(module, memo)
        done = dict(memo)
        try:
            copied = copy.deepcopy(module, done)
        except Exception as error:
            raise ValueError(_not_copied(module, memo, error)) from error
    for function in functions:
        _fill(done[id(function)], function, done)
    return copied


def _children(thing: Any) -> list[Any]:
    """The objects that a copy of `thing` would have to copy with it."""
    if isinstance(thing, (*_ATOMS, *_SHARED, torch.optim.Optimizer)):
        return []
    if isinstance(thing, nn.Module):
        return [value for name, value in vars(thing).items() if name not in _UNSEEN]
    if isinstance(thing, FunctionType):
        return [*_contents(thing), thing.__defaults__]
    if isinstance(thing, MethodType):
        return [thing.__self__, thing.__func__]
    return gc.get_referents(thing)


def _reached(things: Iterable[Any]) -> list[Any]:
    """`things` and all objects reached from them."""
    found: dict[int, Any] = {}
    waiting = list(things)
    while waiting:
        thing = waiting.pop()
        if id(thing) not in found:
            found[id(thing)] = thing
            waiting.extend(_children(thing))
    return list(found.values())


def _holds_state(thing: Any) -> bool:
    """Whether tensors, arrays or modules are reached from an object."""
    return any(isinstance(other, Tensor | np.ndarray | nn.Module) for other in _reached([thing]))


def _backward_hooks(module: nn.Module) -> list[Any]:
    return [vars(module)[name] for name in _BACKWARD_HOOKS if name in vars(module)]


# -- functions: copy.deepcopy does not copy them --------------------------------------------------


def _contents(function: FunctionType) -> list[Any]:
    """The values of the outer variables that a function uses."""
    return [cell.cell_contents for cell in function.__closure__ or () if not _is_empty(cell)]


def _is_empty(cell: CellType) -> bool:
    return not gc.get_referents(cell)


def _with_empty_cells(function: FunctionType) -> FunctionType:
    closure = tuple(CellType() for _ in function.__closure__ or ())
    made = FunctionType(function.__code__, function.__globals__, function.__name__, None, closure)
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    return made


def _fill(made: FunctionType, function: FunctionType, memo: _Memo) -> None:
    """Give a function the copies of the values that the original function uses."""
    made.__defaults__ = copy.deepcopy(function.__defaults__, memo)
    for own, theirs in zip(made.__closure__ or (), function.__closure__ or (), strict=True):
        if not _is_empty(theirs):
            own.cell_contents = copy.deepcopy(theirs.cell_contents, memo)


# -- objects that cannot be copied ----------------------------------------------------------------


def _share_what_cannot_be_copied(module: nn.Module, memo: _Memo) -> None:
    """Enter into `memo` the objects without tensors that `copy.deepcopy` refuses, as themselves."""
    seen: set[int] = set()
    waiting = [value for _, value in _attributes(module)]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or _error_of_copying(thing, memo) is None:
            continue
        seen.add(id(thing))
        if _holds_state(thing):
            waiting.extend(_children(thing))
        else:
            memo[id(thing)] = thing


def _attributes(module: nn.Module) -> list[tuple[str, Any]]:
    """Every attribute of a module and of its submodules, with its name."""
    return [
        (f"{place}.{name}" if place else name, value)
        for place, part in module.named_modules()
        for name, value in vars(part).items()
        if name not in _UNSEEN and name not in ("_modules", "_parameters", "_buffers")
    ]


def _error_of_copying(thing: Any, memo: _Memo) -> Exception | None:
    """The error that `copy.deepcopy` raises for an object; its tensors and modules do not count."""
    reached = _reached([thing])
    kept = {id(t): t for t in reached if isinstance(t, Tensor | nn.Module) and t is not thing}
    try:
        copy.deepcopy(thing, kept | memo)
    except Exception as error:
        return error
    return None


def _not_copied(module: nn.Module, memo: _Memo, error: Exception) -> str:
    names = [name for name, value in _attributes(module) if _error_of_copying(value, memo)]
    where = f"its attribute {names[0]}" if names else "it"
    reason = next(iter(str(error).splitlines()), "")[:120]
    return (
        f"{type(module).__name__} cannot be copied exactly, because {where} cannot "
        f"({type(error).__name__}: {reason}): keep tensors and layers in attributes of the "
        "module itself, and apart from objects such as generators, locks and files"
    )
