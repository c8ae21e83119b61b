"""More reinforcement-learning epochs instead of a loss: the control of equal compute."""

from __future__ import annotations

from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback

from .checks import whole_number


class MatchedPasses(BaseCallback):
    """Lets PPO or DQN learn more often, so that its encoder sees as much as with a loss beside it.

    A sample-pass is one observation through the agent's own encoder, with gradient. With a loss,
    k optimiser steps on minibatches of B are `k·B + ⌊k/every⌋·n_encoded` passes. Without it, each
    PPO epoch is as many as its rollout is long, each DQN gradient step B. Before each `train()`
    `n_epochs` (DQN: `gradient_steps`) is set to the most with which the passes since the start
    do not exceed those with the loss: so they are never behind by a whole epoch (DQN: gradient
    step), whatever the ratio. PPO's `target_kl` may end the epochs of a `train()` early, with a
    loss as without one; epochs that it leaves out are not made up for. It draws no random numbers
    and has no state to save: it follows from the model's counts of frames and updates. After
    `learn()` the model has its own number again.

    The keys of the loss are not counted: they are encoded without gradient, by copies of the
    encoder, and once for each observation and snapshot.

    Args:
        every: optimiser steps for each update of the loss, ≥ 1.
        n_encoded: observations that an update of the loss encodes, ≥ 0.

    Raises:
        ValueError: a number out of range; at the start of `learn()`, a model other than PPO or
            DQN, or a DQN that learns once for each step of its episodes (gradient_steps=-1).
    """

    def __init__(self, *, every: int, n_encoded: int) -> None:
        super().__init__()
        self.every = whole_number("every", every, least=1)
        self.n_encoded = whole_number("n_encoded", n_encoded, least=0)

    def _init_callback(self) -> None:
        model = self.model
        if isinstance(model, PPO):
            self._n_units = model.n_epochs
            self._unit_passes = model.n_steps * model.n_envs
            self._unit_steps = -(-self._unit_passes // model.batch_size)
        elif isinstance(model, DQN) and model.gradient_steps > 0:
            self._n_units = model.gradient_steps
            self._unit_passes, self._unit_steps = model.batch_size, 1
        else:
            raise ValueError(
                f"MatchedPasses needs PPO, or DQN with gradient_steps ≥ 1, got "
                f"{type(model).__name__}"
            )

    def units_after(self, n_trainings: int) -> int:
        """PPO epochs (DQN gradient steps) due after `n_trainings` calls of `train()`."""
        n_units = n_trainings * self._n_units
        n_updates = n_units * self._unit_steps // self.every
        return n_units + n_updates * self.n_encoded // self._unit_passes

    def _on_training_start(self) -> None:
        self._n_trainings = 0

    def _on_rollout_end(self) -> None:
        if isinstance(self.model, PPO):  # learns after every rollout, though less with target_kl
            n_before = (
                self.model.num_timesteps - 1
            ) // self._unit_passes  # the last may be shorter
            n_done = self.units_after(n_before)
        else:  # does not learn after every rollout
            n_done = self.model._n_updates
            while self.units_after(self._n_trainings) < n_done:
                self._n_trainings += 1
            n_before = self._n_trainings
        self._set(max(self.units_after(n_before + 1) - n_done, 1))

    def _set(self, n_units: int) -> None:
        if isinstance(self.model, PPO):
            self.model.n_epochs = n_units
        elif isinstance(self.model, DQN):
            self.model.gradient_steps = n_units

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._set(self._n_units)
