"""A block of EnvPool environments: the same observations and rules, many times faster.

EnvPool resets a finished environment in the *next* step, which ignores its action and has reward
0. Stable-Baselines3 expects the reset within the step. The block therefore resets the finished
environments right after each step, so that EnvPool's empty step never happens.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from .block import BlockStep, Observations
from .mission import MISSION_LENGTH, encode_mission
from .observations import check_picture, grid_space, shows_pictures
from .picture_sensors import PictureSensor
from .pictures import draw_pictures, picture_space
from .procgen import (
    PROCGEN,
    PROCGEN_ACTION,
    PROCGEN_OBSERVATION,
    PROCGEN_REFUSAL,
    procgen_available,
)
from .registry import make_raw_env
from .running_step import track_step
from .sensor_ids import sensor_of

_MISSION_BYTES = 256  # the default, 96, truncates BabyAI's longer sentences
_SAME_PHYSICS = frozenset({"CartPole-v1", "Acrobot-v1"})
_GRIDS = ("MiniGrid-", "BabyAI-")


def envpool_ids() -> frozenset[str]:
    """The ids that EnvPool has; empty if EnvPool does not import."""
    try:
        from envpool.registration import list_all_envs
    except ImportError:
        return frozenset()
    return frozenset(list_all_envs())


def envpool_has(env_id: str) -> bool:
    """Whether EnvPool has an environment that equals Gymnasium's `env_id`."""
    if env_id in PROCGEN:
        return procgen_available()
    changed = sensor_of(env_id)
    base = changed.base_id if changed else env_id
    return (base.startswith(_GRIDS) or base in _SAME_PHYSICS) and base in envpool_ids()


def check_envpool_has(env_id: str) -> None:
    """Raise ValueError if `envpool_has` is False; the message says why."""
    if env_id in PROCGEN and not procgen_available():
        raise ValueError(PROCGEN_REFUSAL)
    if not envpool_has(env_id):
        raise ValueError(
            f"EnvPool does not have an environment that equals Gymnasium's {env_id!r}. Use "
            f'backend="auto" or backend="gymnasium".'
        )


class EnvPoolBlock:
    """`n_envs` EnvPool environments of one id, in synchronous mode."""

    backend = "envpool"
    envs: Sequence[gym.Env[Any, Any]] = ()

    def __init__(
        self, *, env_id: str, n_envs: int, observation: str, mission: bool, num_threads: int = 1
    ) -> None:
        self.env_id = env_id
        self.n_envs = n_envs
        changed, game = sensor_of(env_id), PROCGEN.get(env_id)
        self._pool_id = changed.base_id if changed else game.pool_id if game else env_id
        self._sensor = changed.sensor if changed else None
        self._grid = self._pool_id.startswith(_GRIDS)
        self._pool_settings: dict[str, Any] = {"num_levels": game.n_levels} if game else {}
        if self._grid:
            self._pool_settings["mission_bytes"] = _MISSION_BYTES
        self._picture = observation == "picture" or shows_pictures(env_id)
        self._missions: NDArray[np.uint8] | None = None
        if self._grid and mission:
            self._missions = np.zeros((n_envs, MISSION_LENGTH), dtype=np.uint8)
        self._num_threads = num_threads
        self.observation_space, self.action_space = self._spaces(observation, mission)
        self._pool: Any = None
        self._stale = False
        self._seeds: Sequence[int] = range(n_envs)

    def _spaces(self, observation: str, mission: bool) -> tuple[gym.Space[Any], gym.Space[Any]]:
        if self.env_id in PROCGEN:
            plain: gym.Space[Any] = PROCGEN_OBSERVATION
            action_space: gym.Space[Any] = PROCGEN_ACTION
        else:
            env = make_raw_env(self.env_id)
            plain, action_space = env.observation_space, env.action_space
            env.close()
        if observation == "picture":
            check_picture(self.env_id, has_grid=self._grid)
        if not self._grid:
            return plain, action_space
        return (picture_space() if self._picture else grid_space(mission=mission)), action_space

    def seed(self, seeds: Sequence[int]) -> None:
        """Set the seeds, one for each environment; the next `reset` makes a new pool with them."""
        self._seeds = list(seeds)
        self._stale = True

    def reset(self, options: Sequence[dict[str, Any]]) -> Observations:
        """Start a new episode in every environment. Raises ValueError for reset options."""
        if any(options):
            raise ValueError('EnvPool does not accept reset options. Use backend="gymnasium".')
        if self._pool is None or self._stale:
            self.close()
            self._pool = self._make_pool()
            self._stale = False
        raw, _ = self._pool.reset()
        self._read_missions(raw, np.arange(self.n_envs))
        return self._observe(raw, self._missions)

    def _make_pool(self) -> Any:
        import envpool

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*precision lowered by casting.*")
            pool = envpool.make(
                self._pool_id,
                env_type="gymnasium",
                num_envs=self.n_envs,
                num_threads=self._num_threads,
                seed=self._seeds,
                **self._pool_settings,
            )
            _ = pool.observation_space  # its first use warns about float64 bounds
            return pool

    def step(self, actions: NDArray[Any]) -> BlockStep:
        """Step every environment, and reset those whose episode ended."""
        with track_step(self.env_id, 0):
            raw, rewards, terminated, truncated, _ = self._pool.step(actions)
        finished = np.flatnonzero(terminated | truncated)
        last = None
        if finished.size:
            last = self._restart(raw, finished)
        return BlockStep(
            observations=self._observe(raw, self._missions),
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            finished=finished,
            last_observations=last,
        )

    def _restart(self, raw: Any, finished: NDArray[np.intp]) -> Observations:
        """Reset the `finished` environments: put their first observations into `raw`.

        Returns the last observations of their finished episodes.
        """
        fresh, _ = self._pool.reset(finished.astype(np.int32))
        if not isinstance(raw, dict):
            last = self._observe(raw[finished], None)
            raw[finished] = fresh
            return last
        missions = None if self._missions is None else self._missions[finished]
        seen = {key: raw[key][finished] for key in ("image", "direction")}
        last = self._observe(seen, missions)
        for key in ("image", "direction"):
            raw[key][finished] = fresh[key]
        self._read_missions(fresh, finished)
        return last

    def _read_missions(self, fresh: Any, envs: NDArray[np.intp]) -> None:
        """Encode the missions of environments that were just reset, into a new array.

        The array of earlier steps is not changed, since callers may still hold it.
        """
        if self._missions is None:
            return
        self._missions = self._missions.copy()
        for env, text in zip(envs, fresh["mission"], strict=True):
            sentence = text.tobytes().rstrip(b"\0").decode()
            self._missions[env] = encode_mission(sentence)

    def _observe(self, raw: Any, missions: NDArray[np.uint8] | None) -> Observations:
        """Convert EnvPool's arrays to the observation space."""
        if not self._grid:
            plain: NDArray[Any] = raw
            return plain if self._sensor is None else self._sensor(plain)
        image = raw["image"]
        if isinstance(self._sensor, PictureSensor):
            return self._sensor.draw(image)
        if self._sensor is not None:
            image = self._sensor(image)
        if self._picture:
            return draw_pictures(image)
        parts = {"image": image, "direction": raw["direction"].astype(np.uint8)[:, np.newaxis]}
        if missions is not None:
            parts["mission"] = missions
        return parts

    def replace(self, envs: Sequence[gym.Env[Any, Any]]) -> None:
        """Not supported: a pool cannot load a state."""
        raise RuntimeError(f"cannot load a state into {self.env_id!r}: it runs in EnvPool")

    def close(self) -> None:
        """Close the pool."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
