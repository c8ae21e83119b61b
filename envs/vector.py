"""Several tasks as one Stable-Baselines3 `VecEnv`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from .block import Block, BlockStep, Observations
from .seeds import env_seeds
from .states import pack_state, unpack_state


class BadNumberError(ValueError):
    """An environment returned NaN or an infinite number.

    Attributes: `env_id`, `env_index` (its number in the vector), `step` (steps of the vector
    since its reset), `key` (`"reward"`, `"observation"`, or the key of a Dict observation).
    """

    def __init__(self, *, env_id: str, env_index: int, step: int, key: str) -> None:
        self.env_id, self.env_index, self.step, self.key = env_id, env_index, step, key
        super().__init__(
            f"environment {env_id!r} (number {env_index}) returned NaN or infinity as its {key} at "
            f"step {step}. Training stopped, since one such number makes every weight NaN: correct "
            f"the environment."
        )


_OUR_INFOS = {"episode", "terminal_observation", "TimeLimit.truncated"}
"""Infos that `TaskVecEnv` fills; those of the same name that an environment gives are dropped."""


class TaskVecEnv(VecEnv):
    """Blocks of environments, one block for each task, as one `VecEnv`.

    A step that ends an episode returns the next episode's first observation, and
    `infos[i]` holds `terminal_observation`, `TimeLimit.truncated` (a time limit cut it) and
    `episode` with `r` (sum of rewards), `l` (steps) and `t` (seconds since the start). NaN or
    infinity in a reward or in a float observation raises BadNumberError.

    `env_ids` names the tasks, `task_of_env` (n_envs,) int64 gives each environment's task, and
    `backend` each task's backend. `reset_rng_limited` names the tasks whose environments cannot
    save and load their state (EnvPool's): resuming a run reseeds them.
    """

    def __init__(self, *, blocks: Sequence[Block], seed: int) -> None:
        if not blocks:
            raise ValueError("blocks is empty: name at least one environment")
        self.blocks = tuple(blocks)
        self.env_ids = tuple(block.env_id for block in blocks)
        self.backend = tuple(block.backend for block in blocks)
        sizes = [block.n_envs for block in blocks]
        self.reset_rng_limited = tuple(block.env_id for block in blocks if not block.envs)
        self.task_of_env: NDArray[np.int64] = np.repeat(np.arange(len(sizes)), sizes)
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        super().__init__(sum(sizes), blocks[0].observation_space, blocks[0].action_space)
        self._float_keys = _float_keys(self.observation_space)
        self._actions: NDArray[Any] = np.zeros(0)
        self._steps = 0
        self._returns = np.zeros(self.num_envs, dtype=np.float64)
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        self._started = time.perf_counter()
        self.seed(seed)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seed that the next `reset` uses; the same seed gives the same episodes.

        Returns the seeds of the single environments. EnvPool accepts seeds only in its
        constructor, so its environments are made again. None draws a seed from the operating
        system.
        """
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0]) >> 2
        seeds = env_seeds(seed, self.num_envs)
        for block, start in zip(self.blocks, self._starts, strict=False):
            block.seed(seeds[start : start + block.n_envs])
        return seeds

    def reset(self) -> VecEnvObs:
        """Start a new episode in every environment. Returns the observations (n_envs, …)."""
        observations: VecEnvObs = _join(
            [
                block.reset(self._options[start : start + block.n_envs])
                for block, start in zip(self.blocks, self._starts, strict=False)
            ]
        )
        self._reset_options()
        self._steps = 0
        self._returns[:] = 0
        self._lengths[:] = 0
        self._check_numbers(observations, None)
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Store the actions (n_envs, …) for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step. Returns observations, rewards, dones (n_envs, …) and infos."""
        steps = [
            block.step(self._actions[start : start + block.n_envs])
            for block, start in zip(self.blocks, self._starts, strict=False)
        ]
        observations = _join([step.observations for step in steps])
        rewards = np.concatenate([step.rewards for step in steps])
        dones = np.concatenate([step.terminated | step.truncated for step in steps])
        self._steps += 1
        self._returns += rewards
        self._lengths += 1
        self._check_numbers(observations, rewards)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for start, step in zip(self._starts, steps, strict=False):
            self._fill_infos(infos, int(start), step)
        return observations, rewards, dones, infos

    def _fill_infos(self, infos: list[dict[str, Any]], start: int, step: BlockStep) -> None:
        """Fill the infos of one block's finished episodes, and reset their counters."""
        for i, info in step.infos.items():
            infos[start + i].update({key: info[key] for key in info if key not in _OUR_INFOS})
        if step.last_observations is None:
            return
        self._check_numbers(step.last_observations, None, envs=start + step.finished)
        now = round(time.perf_counter() - self._started, 6)
        for row, i in enumerate(step.finished):
            env = start + int(i)
            infos[env]["terminal_observation"] = _row(step.last_observations, row)
            infos[env]["TimeLimit.truncated"] = bool(step.truncated[i] and not step.terminated[i])
            infos[env]["episode"] = {
                "r": float(self._returns[env]),
                "l": int(self._lengths[env]),
                "t": now,
            }
            self._returns[env] = 0
            self._lengths[env] = 0

    def _check_numbers(
        self,
        observations: Any,
        rewards: NDArray[np.float32] | None,
        *,
        envs: NDArray[np.intp] | None = None,
    ) -> None:
        """Raise BadNumberError for NaN and infinity in floats.

        `envs` holds the environment of each row, if the rows are not all environments.
        """
        if rewards is not None and not np.isfinite(rewards).all():
            self._raise_bad_number("reward", rewards, envs)
        for key in self._float_keys:
            values = observations if key is None else observations[key]
            if not np.isfinite(values).all():
                self._raise_bad_number(key or "observation", values, envs)

    def _raise_bad_number(
        self, key: str, values: NDArray[Any], envs: NDArray[np.intp] | None
    ) -> None:
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        env = row if envs is None else int(envs[row])
        raise BadNumberError(
            env_id=self.env_ids[self.task_of_env[env]], env_index=env, step=self._steps, key=key
        )

    def save_state(self) -> bytes:
        """Pickle all environments in the middle of their episodes, with their generators.

        Raises StateUnavailableError if an environment cannot save its state.
        """
        counts = (self._steps, self._returns, self._lengths)
        return pack_state([block.envs for block in self.blocks], counts)

    def load_state(self, state: bytes) -> None:
        """Continue where `save_state` was called. It unpickles: pass only trusted bytes.

        Raises StateUnavailableError if the state belongs to other environments.
        """
        env_lists, counts = unpack_state(state, [block.envs for block in self.blocks])
        for block, envs in zip(self.blocks, env_lists, strict=True):
            block.replace(envs)
        self._steps, self._returns, self._lengths = counts

    def close(self) -> None:
        """Close every environment."""
        for block in self.blocks:
            block.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Get an attribute of Python environments. EnvPool's have only `render_mode`, None."""
        if attr_name == "render_mode":
            return [env and env.render_mode for env in self._python_envs(indices, strict=False)]
        return [env.get_wrapper_attr(attr_name) for env in self._python_envs(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of Python environments."""
        for env in self._python_envs(indices):
            setattr(env.unwrapped, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of Python environments."""
        return [
            env.get_wrapper_attr(method_name)(*method_args, **method_kwargs)
            for env in self._python_envs(indices)
        ]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None
    ) -> list[bool]:
        """Whether environments have a wrapper; True for `Monitor`, which this class replaces."""
        return [
            wrapper_class is Monitor or (env is not None and _is_wrapped(env, wrapper_class))
            for env in self._python_envs(indices, strict=False)
        ]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """An image of each Python environment, for `render`."""
        return [env.render() for env in self._python_envs(None)]

    def _python_envs(self, indices: Any, *, strict: bool = True) -> list[Any]:
        """The Gymnasium environments at `indices`; None for EnvPool's, an error if `strict`."""
        chosen: Iterable[int] = self._get_indices(indices)
        envs: list[Any] = []
        for i in chosen:
            task = int(self.task_of_env[i])
            block = self.blocks[task]
            if strict and not block.envs:
                raise AttributeError(
                    f"environment {block.env_id!r} runs in EnvPool, which does not have Python "
                    f'objects. Use backend="gymnasium".'
                )
            envs.append(block.envs[int(i) - int(self._starts[task])] if block.envs else None)
        return envs


def _float_keys(space: gym.Space[Any]) -> tuple[str | None, ...]:
    """Keys of the float parts of an observation; `(None,)` for a float array."""
    if isinstance(space, gym.spaces.Dict):
        return tuple(key for key, part in space.spaces.items() if _holds_floats(part))
    return (None,) if _holds_floats(space) else ()


def _holds_floats(space: gym.Space[Any]) -> bool:
    return space.dtype is not None and np.issubdtype(space.dtype, np.floating)


def _join(parts: list[Observations]) -> Any:
    """Concatenate the blocks' observations."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    if isinstance(first, dict):
        return {key: np.concatenate([part[key] for part in parts]) for key in first}
    return np.concatenate(parts)  # type: ignore[arg-type]


def _row(observations: Observations, row: int) -> Any:
    """A copy of one environment's observation."""
    if isinstance(observations, dict):
        return {key: values[row].copy() for key, values in observations.items()}
    return observations[row].copy()


def _is_wrapped(env: gym.Env[Any, Any], wrapper_class: type[Any]) -> bool:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, wrapper_class):
            return True
        env = env.env
    return False
