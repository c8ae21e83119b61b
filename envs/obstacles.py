"""MiniGrid's Dynamic-Obstacles with the seven actions of MiniGrid's other environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

SEVEN_ACTIONS_ID = "contrastive/Dynamic-Obstacles-Random-5x5-SevenActions-v0"
SEVEN_ACTIONS_BASE = "MiniGrid-Dynamic-Obstacles-Random-5x5-v0"


class SurplusActionsDoNothing(gym.ActionWrapper[Any, int, int], gym.utils.RecordConstructorArgs):
    """Offer all of MiniGrid's actions; those that the environment lacks do nothing.

    They become the action `done`, which lets one step pass. (Dynamic-Obstacles itself would turn
    left instead, and with seven actions it would let the agent pick up obstacles.)
    """

    def __init__(self, env: gym.Env[Any, int]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        actions = env.unwrapped.actions  # type: ignore[attr-defined]
        assert isinstance(env.action_space, gym.spaces.Discrete)
        self._n_known = int(env.action_space.n)
        self._done = int(actions.done)
        self.action_space = gym.spaces.Discrete(len(actions))  # type: ignore[assignment]
        env.unwrapped.action_space = self.action_space

    def action(self, action: int) -> int:
        """The action itself, or `done` for one that the environment lacks."""
        return action if int(action) < self._n_known else self._done


def make_seven_actions(**settings: Any) -> gym.Env[Any, Any]:
    """Make `SEVEN_ACTIONS_ID`, an environment without keys, doors or corridors."""
    import minigrid  # noqa: F401  (registers the base)

    return SurplusActionsDoNothing(
        gym.make(SEVEN_ACTIONS_BASE, disable_env_checker=True, **settings)
    )
