"""Environments with one fault each, for `module:ID`."""

import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv


class Faulty(CartPoleEnv):
    """CartPole, until the step at which its fault shows."""

    def __init__(self, fault: str, at_step: int = 40) -> None:
        super().__init__()
        self.fault, self.at_step, self.n_steps = fault, at_step, 0

    def step(self, action: Any) -> Any:
        self.n_steps += 1
        observation, reward, terminated, truncated, info = super().step(action)
        if self.n_steps >= self.at_step:
            if self.fault == "raises":
                raise RuntimeError("the pole broke")
            if self.fault == "hangs":
                time.sleep(600)
            if self.fault == "slow":
                time.sleep(0.3)
            if self.fault == "reward":
                reward = float("inf")
            if self.fault == "observation":
                observation = np.full_like(observation, np.nan)
        if self.fault == "huge" and self.n_steps >= self.at_step:
            reward = 3e38  # finite, but its square is not
        return observation, reward, terminated, truncated, info


class SavedBySettings(gym.utils.EzPickle, CartPoleEnv):
    """Pickles as Box2D's and MuJoCo's environments do: without its state."""

    def __init__(self) -> None:
        gym.utils.EzPickle.__init__(self)
        CartPoleEnv.__init__(self)


class Unpicklable(CartPoleEnv):
    """Holds what cannot be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.hook = lambda: None


for fault in ("raises", "hangs", "huge"):
    gym.register(
        f"broken/{fault}-v0", entry_point=Faulty, kwargs={"fault": fault}, max_episode_steps=100
    )
for fault in ("reward", "observation"):  # after PPO's first rollout of 512 frames
    gym.register(
        f"broken/{fault}-v0",
        entry_point=Faulty,
        kwargs={"fault": fault, "at_step": 140},
        max_episode_steps=100,
    )
gym.register(
    "broken/slow-v0",
    entry_point=Faulty,
    kwargs={"fault": "slow", "at_step": 600},
    max_episode_steps=100,
)
gym.register("broken/settings-v0", entry_point=SavedBySettings, max_episode_steps=100)
gym.register("broken/lambda-v0", entry_point=Unpicklable, max_episode_steps=100)
