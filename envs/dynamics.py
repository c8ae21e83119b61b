"""Classic control with other physics: the ranges of Packer et al., arXiv 1810.12282.

Each episode draws its parameters from the environment's own seeded generator: `"random"` from an
interval around the defaults, `"extreme"` from two intervals, one below and one above it.

| parameter          | default | random      | extreme                    |
|--------------------|---------|-------------|----------------------------|
| CartPole force     | 10      | 5 … 15      | 1 … 5 and 15 … 20          |
| CartPole length    | 0.5     | 0.25 … 0.75 | 0.05 … 0.25 and 0.75 … 1   |
| CartPole pole mass | 0.1     | 0.05 … 0.5  | 0.01 … 0.05 and 0.5 … 1    |
| Acrobot length     | 1       | 0.75 … 1.25 | 0.5 … 0.75 and 1.25 … 1.5  |
| Acrobot mass       | 1       | 0.75 … 1.25 | 0.5 … 0.75 and 1.25 … 1.5  |
| Acrobot inertia    | 1       | 0.75 … 1.25 | 0.5 … 0.75 and 1.25 … 1.5  |

Quantities that depend on a parameter are recomputed: CartPole's `total_mass` and
`polemass_length`, and the centres of mass of Acrobot's links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.acrobot import AcrobotEnv
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from numpy.typing import NDArray

Spread = Literal["random", "extreme"]


@dataclass(frozen=True, kw_only=True)
class Range:
    """The range of one physical parameter."""

    random: tuple[float, float]
    """The interval around the default."""
    extreme: tuple[float, float]
    """The wider interval; `"extreme"` excludes `random` from it."""

    def draw(self, spread: Spread, generator: np.random.Generator) -> float:
        """Draw a value uniformly from the interval or intervals of `spread`."""
        low, high = self.random
        if spread == "random":
            return float(generator.uniform(low, high))
        outer_low, outer_high = self.extreme
        value = float(generator.uniform(outer_low, outer_high - (high - low)))
        return value if value < low else value + (high - low)


CARTPOLE_RANGES: Mapping[str, Range] = {
    "force": Range(random=(5.0, 15.0), extreme=(1.0, 20.0)),
    "length": Range(random=(0.25, 0.75), extreme=(0.05, 1.0)),
    "mass": Range(random=(0.05, 0.5), extreme=(0.01, 1.0)),
}

ACROBOT_RANGES: Mapping[str, Range] = {
    name: Range(random=(0.75, 1.25), extreme=(0.5, 1.5)) for name in ("length", "mass", "inertia")
}


class VariedCartPole(CartPoleEnv):
    """CartPole that draws some of `force`, `length` and `mass` for each episode."""

    def __init__(
        self, *, spread: Spread, parameters: Sequence[str], render_mode: str | None = None
    ) -> None:
        super().__init__(render_mode=render_mode)
        self._spread: Spread = spread
        self._parameters = tuple(parameters)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode and draw its parameters."""
        first: tuple[NDArray[np.float32], dict[str, Any]]
        first = super().reset(seed=seed, options=options)
        drawn = _draw(CARTPOLE_RANGES, self._parameters, self._spread, self.np_random)
        self.force_mag = drawn.get("force", self.force_mag)
        self.length = drawn.get("length", self.length)
        self.masspole = drawn.get("mass", self.masspole)
        self.total_mass = self.masspole + self.masscart
        self.polemass_length = self.masspole * self.length
        return first


class VariedAcrobot(AcrobotEnv):
    """Acrobot that draws some of `length`, `mass` and `inertia` for each episode.

    Both links have the same parameters, and their centres of mass stay in their middles.
    """

    def __init__(
        self, *, spread: Spread, parameters: Sequence[str], render_mode: str | None = None
    ) -> None:
        super().__init__(render_mode=render_mode)
        self._spread: Spread = spread
        self._parameters = tuple(parameters)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode and draw its parameters."""
        first: tuple[NDArray[np.float32], dict[str, Any]]
        first = super().reset(seed=seed, options=options)
        drawn = _draw(ACROBOT_RANGES, self._parameters, self._spread, self.np_random)
        length = drawn.get("length", self.LINK_LENGTH_1)
        self.LINK_LENGTH_1 = self.LINK_LENGTH_2 = length
        self.LINK_COM_POS_1 = self.LINK_COM_POS_2 = length / 2
        self.LINK_MASS_1 = self.LINK_MASS_2 = drawn.get("mass", self.LINK_MASS_1)
        self.LINK_MOI = drawn.get("inertia", self.LINK_MOI)
        return first


class SwappedActions(gym.ActionWrapper[Any, int, int], gym.utils.RecordConstructorArgs):
    """Discrete actions in reverse order: in CartPole, left and right are exchanged."""

    def __init__(self, env: gym.Env[Any, int]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        if not isinstance(env.action_space, gym.spaces.Discrete):
            raise ValueError(
                f"SwappedActions needs a Discrete action space, got {env.action_space}"
            )
        self._last = int(env.action_space.n) - 1

    def action(self, action: int) -> int:
        """The action with the opposite index."""
        return self._last - int(action)


def _draw(
    ranges: Mapping[str, Range],
    parameters: Sequence[str],
    spread: Spread,
    generator: np.random.Generator,
) -> dict[str, float]:
    return {name: ranges[name].draw(spread, generator) for name in parameters}
