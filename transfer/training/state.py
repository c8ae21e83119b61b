"""Save and restore the state of a training at a rollout's start.

Weights, replay buffer and observations are saved as safetensors, the optimiser by torch, which
loads it with ``weights_only``, and numbers as JSON. Only environments are pickled.
"""

import io
import json
import random
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save_file
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from contrastive_distillation.memory import pack, unpack

from .checkpoints import Checkpoint

POLICY = "policy.safetensors"
OPTIMISER = "optimiser.pth"
ARRAYS = "arrays.safetensors"
NUMBERS = "state.json"

_COUNTERS = (
    "num_timesteps", "_n_updates", "_episode_num", "_n_calls", "exploration_rate",
    "_current_progress_remaining", "largest_advantage_std", "learning_starts",
)  # fmt: skip
_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")

Arrays = dict[str, torch.Tensor]


def save_policy(model: BaseAlgorithm, path: Path) -> None:
    """Write the policy's weights, including those of a target network."""
    save_file({k: v.detach().cpu().clone() for k, v in model.policy.state_dict().items()}, path)


def save_optimiser(model: BaseAlgorithm, path: Path) -> None:
    """Write the optimiser's state."""
    buffer = io.BytesIO()
    torch.save(model.policy.optimizer.state_dict(), buffer)
    path.write_bytes(buffer.getvalue())


def save_arrays(model: BaseAlgorithm, path: Path) -> None:
    """Write the last observations, the replay buffer and torch's random generators."""
    arrays: dict[str, NDArray[Any]] = dict(_parts("last_observations", model._last_obs))
    assert model._last_episode_starts is not None
    arrays["last_episode_starts"] = model._last_episode_starts
    if isinstance(model, OffPolicyAlgorithm):
        arrays |= _replay_arrays(model)
    tensors = {k: torch.from_numpy(v).clone() for k, v in pack(arrays).items()}
    tensors["random/torch"] = torch.get_rng_state()
    if model.device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(model.device)
    save_file(tensors, path)


def save_numbers(model: BaseAlgorithm, others: dict[str, Any], path: Path) -> None:
    """Write counters, random generators, the open row of the log, and the state of `others`."""
    log = model.logger
    state = {
        "counters": {name: getattr(model, name) for name in _COUNTERS if hasattr(model, name)},
        "episodes": [] if model.ep_info_buffer is None else list(model.ep_info_buffer),
        "random": {
            "python": random.getstate(),
            "numpy": np.random.get_state(legacy=False),
            "actions": model.action_space.np_random.bit_generator.state,
        },
        "log": {
            "values": dict(log.name_to_value),
            "counts": dict(log.name_to_count),
            "excluded": dict(log.name_to_excluded),
        },
        **others,
    }
    path.write_text(json.dumps(state, default=lambda value: value.tolist()), encoding="utf-8")


def read_numbers(checkpoint: Checkpoint) -> dict[str, Any]:
    """Read what `save_numbers` wrote.

    Raises:
        ValueError: it is not JSON, or belongs to another checkpoint.
    """
    state: dict[str, Any] = json.loads(checkpoint.read(NUMBERS))
    if state["counters"]["num_timesteps"] != checkpoint.frames:
        raise ValueError(f"{NUMBERS} is of other frames")
    return state


def restore_model(model: BaseAlgorithm, checkpoint: Checkpoint, state: dict[str, Any]) -> Arrays:
    """Restore a fresh model from a checkpoint, and the open row of its log; returns the arrays.

    The random generators are restored by `restore_random`.

    Raises:
        Exception: of torch, safetensors or ours: the checkpoint does not fit the model, or holds
            NaN or infinity.
    """
    weights = load(checkpoint.read(POLICY))
    _require_finite(weights, POLICY)
    model.policy.load_state_dict(weights)
    optimiser = torch.load(
        io.BytesIO(checkpoint.read(OPTIMISER)), map_location=model.device, weights_only=True
    )
    model.policy.optimizer.load_state_dict(optimiser)
    packed = {name: tensor.numpy() for name, tensor in load(checkpoint.read(ARRAYS)).items()}
    arrays = {name: torch.from_numpy(array) for name, array in unpack(packed).items()}
    _require_finite(arrays, ARRAYS)
    for name, value in state["counters"].items():
        if name in _COUNTERS:
            setattr(model, name, value)
    model.ep_info_buffer = deque(state["episodes"], maxlen=model._stats_window_size)
    model.ep_success_buffer = deque(maxlen=model._stats_window_size)
    if isinstance(model, OffPolicyAlgorithm):
        _restore_replay(model, arrays)
    parts = {
        name.partition("/")[2]: tensor.numpy()
        for name, tensor in arrays.items()
        if name.partition("/")[0] == "last_observations"
    }
    model._last_obs = parts.get("", parts)
    model._last_episode_starts = arrays["last_episode_starts"].numpy()
    log = state["log"]
    model.logger.name_to_value.update(log["values"])
    model.logger.name_to_count.update(log["counts"])
    model.logger.name_to_excluded.update(log["excluded"])
    return arrays


def cut_replayed_episodes(model: BaseAlgorithm) -> None:
    """Mark the last episodes in a replay buffer as truncated, because new episodes follow them.

    Otherwise n-step returns would reach from one episode into the next.
    """
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None and (buffer.full or buffer.pos):
        last = buffer.pos - 1
        buffer.timeouts[last] = np.maximum(buffer.timeouts[last], 1.0 - buffer.dones[last])


def restore_random(model: BaseAlgorithm, arrays: Arrays, state: dict[str, Any]) -> None:
    """Restore all random generators; call it last before the training continues."""
    torch.set_rng_state(arrays["random/torch"])
    if model.device.type == "cuda" and "random/cuda" in arrays:
        torch.cuda.set_rng_state(arrays["random/cuda"], model.device)
    version, numbers, gauss = state["random"]["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(state["random"]["numpy"])
    model.action_space.np_random.bit_generator.state = state["random"]["actions"]


def _parts(name: str, observations: Any) -> dict[str, NDArray[Any]]:
    """``name`` or ``name/key`` → array."""
    if isinstance(observations, dict):
        return {f"{name}/{key}": values for key, values in observations.items()}
    return {name: observations}


def _replay_arrays(model: OffPolicyAlgorithm) -> dict[str, NDArray[Any]]:
    buffer = model.replay_buffer
    assert buffer is not None
    n_rows = buffer.buffer_size if buffer.full else buffer.pos
    arrays: dict[str, NDArray[Any]] = {"replay/position": np.array([buffer.pos, int(buffer.full)])}
    for name in _REPLAY:
        for part, values in _parts(f"replay/{name}", getattr(buffer, name)).items():
            arrays[part] = values[:n_rows]
    return arrays


def _restore_replay(model: OffPolicyAlgorithm, arrays: Arrays) -> None:
    buffer = model.replay_buffer
    assert buffer is not None
    position, full = (int(number) for number in arrays["replay/position"])
    n_rows = buffer.buffer_size if full else position
    for name in _REPLAY:
        for part, values in _parts(f"replay/{name}", getattr(buffer, name)).items():
            saved = arrays[part].numpy()
            if saved.shape != (n_rows, *values.shape[1:]) or saved.dtype != values.dtype:
                raise ValueError(f"{part} is {saved.dtype}{saved.shape}")
            values[:n_rows] = saved
    buffer.pos, buffer.full = position, bool(full)


def _require_finite(tensors: Arrays, name: str) -> None:
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name}: {key} has numbers that are not finite")
