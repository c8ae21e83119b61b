"""PPO and DQN that take the frames that `learn()` is given, and not those of a whole rollout."""

from __future__ import annotations

from typing import Any

from stable_baselines3 import DQN, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv


class ExactPPO(PPO):
    """PPO whose last rollout is as long as the frames that are left.

    The frames of `learn()` are rounded up to a multiple of the number of environments. If they are
    a multiple of a rollout, it is Stable-Baselines3's PPO, bit for bit.
    """

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Collect one rollout; the buffer is as long as it."""
        left = self._total_timesteps - self.num_timesteps
        n_rollout_steps = _at_most(n_rollout_steps, left, self.n_envs)
        rollout_buffer.buffer_size = n_rollout_steps  # its reset() allocates the arrays
        return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)


class ExactDQN(DQN):
    """DQN that collects, before its last replay, the frames that are left.

    As `ExactPPO`. The last replay has as many gradient steps as the others.
    """

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, train_freq: TrainFreq, *args: Any, **kwargs: Any
    ) -> RolloutReturn:
        """Collect the steps before one replay."""
        if train_freq.unit == TrainFrequencyUnit.STEP:
            left = self._total_timesteps - self.num_timesteps
            n_steps = _at_most(train_freq.frequency, left, self.n_envs)
            train_freq = TrainFreq(n_steps, TrainFrequencyUnit.STEP)
        return super().collect_rollouts(env, callback, train_freq, *args, **kwargs)


def _at_most(n_steps: int, left: int, n_envs: int) -> int:
    """Steps of all environments, at most as many as `learn()` has frames left for."""
    return min(n_steps, -(-left // n_envs)) if left > 0 else n_steps
