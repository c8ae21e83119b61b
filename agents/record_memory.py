"""`RecordMemory`: writes what a Stable-Baselines3 model experiences into a memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from weakref import WeakKeyDictionary

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from contrastive_distillation.memory import EvictionPolicy, Memory

from .auxiliary_file import load_memory, write_file
from .checks import check_memories, check_memory

_FRAMES_TO_LOG = 1024
"""Frames between two log entries about the memory."""


@dataclass(frozen=True)
class _LastStep:
    """The step that was written last into a memory."""

    seen: Any
    """What the model will see next: the object itself, which tells its run from any other."""
    n_written: int
    run: dict[str, Any]
    """The arguments of `Memory.start`."""

    def is_continued(self, model: BaseAlgorithm, memory: Memory, run: dict[str, Any]) -> bool:
        """Whether a `learn()` that starts now goes on from here: the environments were not reset.

        That is so with `reset_num_timesteps=False`, unless the environment was set anew, another
        `learn()` ran in between, or a callback ended the last one in the middle of a step.
        """
        goes_on = model._last_obs is self.seen and memory.n_written == self.n_written
        return goes_on and run == self.run


_LAST_STEP: WeakKeyDictionary[Memory, _LastStep] = WeakKeyDictionary()


class RecordMemory(BaseCallback):
    """Writes each transition of a learning model into a memory: raw observations, raw rewards.

    The model itself is not changed: it learns exactly as without the callback.

    Example:
        memory = EpisodicMemory(capacity=50_000)
        model.learn(10_000, callback=RecordMemory(memory))
        memory.save("memory.safetensors")

    Args:
        memory: receives the transitions; no other callback may write into it.
        verbose: as in every Stable-Baselines3 callback.

    Logged about every 1,024 frames, in the model's own logger: memory/size, rows;
    memory/known_returns, share of rows.

    Raises:
        ValueError: `memory` is not a memory; at the start of `learn()`: the memory holds other
            observations than the model's, the observation space cannot be stored, or
            VecNormalize is inside another wrapper; during it: another callback writes into the
            memory.
    """

    def __init__(self, memory: Memory, *, verbose: int = 0) -> None:
        super().__init__(verbose)
        check_memory(memory)
        self.memory = memory
        self._continues = False
        self._rollout_from = 0
        self._n_written, self._recorded_at = memory.n_written, -1

    def continue_episodes(self) -> None:
        """Continue the memory's open episodes in the next `learn()`, whatever it starts from.

        Call it when the environments were restored in the middle of their episodes. Otherwise the
        open episodes are cut when `learn()` starts, unless Stable-Baselines3 does not reset the
        environments (`reset_num_timesteps=False` with the same environments) and the memory got
        their last step.
        """
        self._continues = True

    def _init_callback(self) -> None:
        check_memories(self.model, self.memory)

    def _on_training_start(self) -> None:
        env = self.model.get_env()
        assert env is not None
        self._normalised = self.model.get_vec_normalize_env()
        _check_outermost(env, self._normalised)
        env_ids = tuple(getattr(env, "env_ids", ("task",)))
        self._task_of_env = np.asarray(getattr(env, "task_of_env", [0] * env.num_envs))
        run: dict[str, Any] = {
            "n_envs": env.num_envs,
            "gamma": discount_of(self.model),
            "tasks": env_ids,
        }
        last = _LAST_STEP.get(self.memory)
        goes_on = last is not None and last.is_continued(self.model, self.memory, run)
        if not (self._continues or goes_on):
            self.memory.start(**run)
        self._continues = False
        self._run = run
        self._n_written, self._recorded_at = self.memory.n_written, self.model.num_timesteps
        self._observations = self._raw(self.model._last_obs)

    def _on_rollout_start(self) -> None:
        self._rollout_from = self.model.num_timesteps
        if isinstance(self.model, OnPolicyAlgorithm):
            self.memory.begin_rollout()

    def _on_step(self) -> bool:
        time = self.model.num_timesteps
        if time != self._recorded_at + self.memory.n_envs and time != self._recorded_at:
            raise ValueError(not_called_by_learn(self))
        if self.memory.n_written != self._n_written or time == self._recorded_at:
            raise ValueError(
                "another callback writes into this callback's memory: give each callback a memory "
                "of its own, and pass each callback to learn() once"
            )
        dones, infos = np.asarray(self.locals["dones"], dtype=bool), self.locals["infos"]
        truncated = np.zeros_like(dones)
        for env in np.flatnonzero(dones):
            truncated[env] = bool(infos[env].get("TimeLimit.truncated", False))
        rewards = self.locals["rewards"]
        if self._normalised is not None:
            rewards = self._normalised.get_original_reward()
        self.memory.add(
            observations=self._observations,
            actions=np.asarray(self.locals["actions"]),
            rewards=np.asarray(rewards, dtype=np.float32),
            terminated=dones & ~truncated,
            truncated=truncated,
            tasks=self._task_of_env,
            time=time,
        )
        self._n_written, self._recorded_at = self.memory.n_written, time
        self._observations = self._raw(self.locals["new_obs"])
        _LAST_STEP[self.memory] = _LastStep(self.locals["new_obs"], self._n_written, self._run)
        return True

    def _on_rollout_end(self) -> None:
        if self.model.num_timesteps // _FRAMES_TO_LOG > self._rollout_from // _FRAMES_TO_LOG:
            self.logger.record("memory/size", len(self.memory))
            self.logger.record("memory/known_returns", self.memory.known_fraction())

    def _raw(self, seen: Any) -> Any:
        """A copy of the observations `seen` by the model, as they were before VecNormalize.

        Their dtypes are those of the space: environments in a SubprocVecEnv may give others.
        """
        space = self.model.observation_space
        if self._normalised is not None and self._normalised.norm_obs:
            seen, space = (
                self._normalised.get_original_obs(),
                self._normalised.venv.observation_space,
            )
        if isinstance(space, gym.spaces.Dict):
            return {key: _cast(key, seen[key], part) for key, part in space.spaces.items()}
        return _cast("", seen, space)

    def save(self, path: str | Path) -> None:
        """Write the memory to a safetensors file that `load` reads; no code is stored.

        Raises:
            ValueError: the path's directory is missing.
        """
        write_file(Path(path), self.memory, {}, {})

    @classmethod
    def load(cls, path: str | Path, *, keep: EvictionPolicy | None = None) -> Self:
        """A callback with the memory of a file that `save`, of it or of a subclass, has written.

        Args:
            path: the file.
            keep: needed where the memory had an eviction policy of your own.

        Raises:
            ValueError: the file is broken, or of another version.
        """
        return cls(load_memory(Path(path), keep=keep))


def _cast(key: str, values: Any, space: gym.Space[Any]) -> np.ndarray:
    """A copy of observations (N, ...) in the dtype of their space.

    Raises:
        ValueError: the dtype cannot hold them.
    """
    seen = np.asarray(values)
    cast = np.array(seen, dtype=space.dtype)
    if cast.dtype.kind != "f" and not np.array_equal(cast, seen):
        name = f"observation {key!r}" if key else "an observation"
        raise ValueError(
            f"{name} holds {seen[cast != seen].flat[0]}, which {cast.dtype}, the dtype of its "
            f"space, cannot hold: correct the environment's observation_space, now {space}"
        )
    return cast


def not_called_by_learn(callback: BaseCallback) -> str:
    """The error text for a callback that `learn()` does not call at every step."""
    name = type(callback).__name__
    return (
        f"{name} is not called at every step and rollout, so that it would miss steps of the "
        "environments: pass it to learn() itself, alone or in a list, not to another callback "
        "such as EveryNTimesteps or EvalCallback (AuxiliaryLossCallback(every=...) joins the loss "
        "less often)"
    )


def discount_of(model: BaseAlgorithm) -> float:
    """The model's discount; 0.99 for an algorithm that has none."""
    return float(getattr(model, "gamma", 0.99))


def _check_outermost(env: VecEnv, normalised: VecNormalize | None) -> None:
    if normalised is not None and normalised.norm_obs and env is not normalised:
        raise ValueError(
            f"VecNormalize is inside {type(env).__name__}; memory keeps raw observations: "
            "make VecNormalize the outermost wrapper: VecNormalize(VecFrameStack(env)) for "
            "stacked frames, VecNormalize(VecTransposeImage(env)) for pictures"
        )
