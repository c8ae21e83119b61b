"""Writes what an agent experiences into memory, one step of all environments at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from contrastive_distillation.memory import Memory


class Recorder:
    """Records transitions of a learning model into memory: raw observations and raw rewards.

    Raises:
        ValueError: VecNormalize changes observations below another wrapper, so that what the
            policy saw cannot be told from what the environment gave; or somebody else writes into
            the memory, whose episodes would then be mixed up.
    """

    def __init__(
        self, *, model: BaseAlgorithm, memory: Memory, continues_episodes: bool = False
    ) -> None:
        """
        Args:
            model: in the middle of `learn()`.
            memory: written to.
            continues_episodes: the environments go on in the episodes that are open in memory.
        """
        env = model.get_env()
        assert env is not None
        self._model = model
        self._memory = memory
        self._normalised = model.get_vec_normalize_env()
        if (
            self._normalised is not None
            and self._normalised.norm_obs
            and env is not self._normalised
        ):
            raise ValueError(
                f"VecNormalize is inside {type(env).__name__}; memory keeps raw observations: "
                "make VecNormalize the outermost wrapper: VecNormalize(VecFrameStack(env)) for "
                "stacked frames, VecNormalize(VecTransposeImage(env)) for pictures"
            )
        task_of_env = _attribute(env, "task_of_env")
        env_ids = _attribute(env, "env_ids")
        if task_of_env is None or env_ids is None:
            env_ids, task_of_env = ("task",), np.zeros(env.num_envs, dtype=np.int64)
        self._task_of_env = np.asarray(task_of_env)
        self._nowhere = np.zeros(env.num_envs, dtype=bool)
        if not continues_episodes:
            memory.start(n_envs=env.num_envs, gamma=_gamma(model), tasks=tuple(env_ids))
        self._n_written, self._recorded_at = memory.n_written, -1
        self._observations = self._current()

    def record(self, local: dict[str, Any]) -> None:
        """Write one step; `local` are the local variables of the model's `collect_rollouts`."""
        time = self._model.num_timesteps
        if self._memory.n_written != self._n_written or time == self._recorded_at:
            raise ValueError(
                "somebody else writes into this callback's memory: give each "
                "AuxiliaryLossCallback a memory of its own, and name each once in the list of "
                "callbacks"
            )
        dones, infos = np.asarray(local["dones"], dtype=bool), local["infos"]
        terminated, truncated = dones, self._nowhere
        if np.count_nonzero(dones):
            truncated = np.zeros_like(dones)
            for env in np.flatnonzero(dones):
                truncated[env] = bool(infos[env].get("TimeLimit.truncated", False))
            terminated = dones & ~truncated
        rewards = local["rewards"]
        if self._normalised is not None:
            rewards = self._normalised.get_original_reward()
        self._memory.add(
            observations=self._observations,
            actions=np.asarray(local["actions"]),
            rewards=np.asarray(rewards, dtype=np.float32),
            terminated=terminated,
            truncated=truncated,
            tasks=self._task_of_env,
            time=time,
        )
        self._n_written, self._recorded_at = self._memory.n_written, time
        self._observations = self._current(local["new_obs"])

    def _current(self, new_observations: Any = None) -> Any:
        """The raw observations that the next action is taken on."""
        if self._normalised is not None and self._normalised.norm_obs:
            return _copied(self._normalised.get_original_obs())
        return _copied(self._model._last_obs if new_observations is None else new_observations)


def _copied(observations: Any) -> Any:
    if isinstance(observations, dict):
        return {key: np.array(value) for key, value in observations.items()}
    return np.array(observations)


def _gamma(model: BaseAlgorithm) -> float:
    return float(getattr(model, "gamma", 0.99))


def _attribute(env: Any, name: str) -> Any:
    """An attribute of a vectorised environment or of one it wraps, or None."""
    while env is not None:
        if name in vars(env):
            return vars(env)[name]
        if isinstance(value := getattr(type(env), name, None), property):
            return value.fget(env)  # type: ignore[misc]
        env = vars(env).get("venv")
    return None
