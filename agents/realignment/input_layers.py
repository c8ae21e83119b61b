"""The layers of a network that read the observation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from ..observation_encoder import Observations


def drawn_observations(space: gym.Space[Any], n: int, *, seed: int = 0) -> Observations:
    """n random observations of a space, (n, ...) or a dict of such, to find layers with."""
    if isinstance(space, gym.spaces.Dict):
        parts = enumerate(space.spaces.items())
        return {key: _drawn(part, n, seed + i) for i, (key, part) in parts}
    return _drawn(space, n, seed)


def _drawn(space: gym.Space[Any], n: int, seed: int) -> np.ndarray:
    if isinstance(space, gym.spaces.Box) and np.issubdtype(space.dtype, np.floating):
        normal = np.random.default_rng(seed).normal(size=(n, *space.shape))
        return normal.astype(space.dtype)
    space = copy.deepcopy(space)
    space.seed(seed)
    return np.stack([np.asarray(space.sample()) for _ in range(n)])


def input_layers(network: nn.Module, run: Callable[[], object]) -> dict[str, tuple[nn.Module, Any]]:
    """The innermost modules with parameters whose input depends on no other parameter.

    Args:
        network: all of it; its parameters' `requires_grad` is as before afterwards.
        run: runs the network on observations that require no gradient.

    Returns:
        By name in the network: the module, and the input that it got. Modules that never ran are
        not among them.
    """
    found: dict[str, tuple[nn.Module, Any]] = {}

    def look(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            tensors = list(_tensors(inputs))
            if tensors and not any(tensor.requires_grad for tensor in tensors):
                found[name] = (module, tensors[0].detach())

        return hook

    handles = [
        module.register_forward_pre_hook(look(name))
        for name, module in network.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    try:
        with torch.enable_grad(), _all_trainable(network):
            run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def parameters_to_move(
    stages: nn.Sequential, run: Callable[[], object], layers: str | Sequence[str]
) -> list[str]:
    """The names of the parameters of an encoder that a realignment moves.

    Args:
        stages: the encoder.
        run: runs it on observations.
        layers: "first": the layers that read the observation, which an encoder may name itself
            in an attribute `first_layers`; "encoder": all; else names of its modules or
            parameters.

    Raises:
        ValueError: no layer reads the observation, or a name is not in the encoder.
    """
    names = [name for name, _ in stages.named_parameters()]
    if layers == "encoder":
        return names
    if layers == "first":
        declared = getattr(stages[0], "first_layers", None)
        if declared is not None:
            return [n for n in names if n.startswith(tuple(f"0.{layer}." for layer in declared))]
        read = input_layers(stages, run)
        found = [n for n in names if n.rpartition(".")[0] in read]
        if not found:
            raise ValueError(
                f"no layer of {type(stages[0]).__name__} reads the observation by itself; name "
                f"the parameters to move: layers=[...], of {names}"
            )
        return found
    chosen = [layers] if isinstance(layers, str) else list(layers)
    kept = []
    for wanted in chosen:
        fits = [n for n in names if any(_is_at(n, p) for p in (wanted, f"0.{wanted}"))]
        if not fits:
            raise ValueError(
                f"layers: the encoder has no layer '{wanted}'; choose 'first', 'encoder', or some "
                f"of {names}"
            )
        kept += fits
    return [n for n in names if n in kept]


def _is_at(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.")


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(tuple(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


@contextmanager
def _all_trainable(network: nn.Module) -> Iterator[None]:
    before = [(p, p.requires_grad) for p in network.parameters() if p.is_floating_point()]
    try:
        for parameter, _ in before:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)
