"""Environments of any observations, for `module:ID`: random, in episodes of 20 steps."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Shaped(gym.Env[Any, Any]):
    """Rewards one of two actions; the observations say nothing."""

    action_space = spaces.Discrete(2)

    def __init__(self, observation_space: spaces.Space[Any], is_constant: bool = False) -> None:
        self.observation_space = observation_space
        self.is_constant = is_constant
        self.n_steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.n_steps = 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        return self._seen(), float(action), self.n_steps == 20, False, {}

    def _seen(self) -> Any:
        seen = self.observation_space.sample()
        return np.zeros_like(seen) if self.is_constant else seen


FLOATS = spaces.Box(-1.0, 1.0, (4,))
SPACES: dict[str, spaces.Space[Any]] = {
    "floats": FLOATS,
    "bytes": spaces.Box(0, 255, (4,), np.uint8),
    "hwc": spaces.Box(0, 255, (36, 36, 3), np.uint8),
    "chw": spaces.Box(0, 255, (3, 36, 36), np.uint8),
    "dict": spaces.Dict(speed=FLOATS, gear=spaces.Discrete(3)),
    "keys": spaces.Dict(speed=FLOATS, wheel=spaces.Discrete(3)),
}

for name, space in SPACES.items():
    gym.register(
        f"shaped/{name}-v0",
        entry_point=Shaped,
        kwargs={"observation_space": space},
        max_episode_steps=20,
    )
gym.register(
    "shaped/constant-v0",
    entry_point=Shaped,
    kwargs={"observation_space": FLOATS, "is_constant": True},
    max_episode_steps=20,
)
