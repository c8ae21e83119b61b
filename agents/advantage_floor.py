"""Advantages and steps of PPO that stay small when an agent has learnt."""

from __future__ import annotations

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import Schedule

STATE = "largest_advantage_std"
"""Attribute of the model that keeps the number m; Stable-Baselines3 saves it in the zip."""


class _Lowered:
    """A learning rate's schedule times a share, with the settings that the model had."""

    def __init__(self, own: tuple[bool, Schedule], share: float) -> None:
        self.own, self.share = own, share

    def __call__(self, progress: float) -> float:
        return self.share * self.own[1](progress)


class AdvantageFloor(BaseCallback):
    """Divides PPO's advantages by their standard deviation, or by a share of the largest so far.

    PPO divides the advantages of a minibatch by their standard deviation. An agent that has learnt
    sees nearly equal returns; the division then makes full steps of the critic's small errors, and
    a few calls of `train()` undo what was learnt. Here the advantages A of a rollout become

        (A − mean A) / max(std A, share · m),    m ← max(std A, keep · m)

    so that they are small where there is little left to gain. Adam divides by the gradients' own
    size, so small advantages alone do not make its steps small; the learning rate of the rollout's
    updates is multiplied by

        max(slowest, min(1, std A / (share · m)))

    Both are free of the rewards' scale and work at any number of frames. During each `train()`, the
    model's own `normalize_advantage` is off and its `lr_schedule` gives the lower rate. m is an
    attribute of the model, so that a further `learn()` continues with it.

    Args:
        share: of the largest standard deviation, in [0, 1]; 0 normalises each rollout by its own,
            at the whole learning rate.
        keep: what is left of m after a rollout, in [0, 1].
        slowest: the least share of the learning rate, in [0, 1]; 1 leaves it alone.

    Raises:
        ValueError: a number out of range; at the start of `learn()`, a model other than PPO.
    """

    model: PPO

    def __init__(self, share: float = 0.5, keep: float = 0.999, slowest: float = 0.1) -> None:
        super().__init__()
        for name, value in (("share", share), ("keep", keep), ("slowest", slowest)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is {value}, expected a number in [0, 1]")
        self.share, self.keep, self.slowest = share, keep, slowest

    def _init_callback(self) -> None:
        if not isinstance(self.model, PPO):
            raise ValueError(f"AdvantageFloor needs PPO, got {type(self.model).__name__}")

    def _on_training_start(self) -> None:
        lowered = self.model.lr_schedule
        if isinstance(lowered, _Lowered):  # the last `train()` was interrupted
            self._own = lowered.own
            self._restore()
        self._own = self.model.normalize_advantage, self.model.lr_schedule

    def _on_rollout_start(self) -> None:
        self._restore()  # so that the model has its own settings if an environment raises

    def _on_rollout_end(self) -> None:
        buffer = self.model.rollout_buffer
        std = float(buffer.advantages.std())
        largest = max(std, self.keep * getattr(self.model, STATE, 0.0))
        setattr(self.model, STATE, largest)
        floor = self.share * largest
        centred = buffer.advantages - buffer.advantages.mean()
        buffer.advantages = centred / (max(std, floor) + 1e-8)
        slowed = max(self.slowest, std / floor) if std < floor else 1.0
        self.model.lr_schedule = _Lowered(self._own, slowed)
        self.model.normalize_advantage = False

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._restore()

    def _restore(self) -> None:
        self.model.normalize_advantage, self.model.lr_schedule = self._own
