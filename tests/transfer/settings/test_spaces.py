"""Spaces that cannot be used are refused while a command is planned, in one line."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from contrastive_distillation.transfer import parse_command_line, plan_train, plan_transfer

pytestmark = pytest.mark.filterwarnings("ignore:the return range of")

FLOATS = spaces.Box(-1, 1, (4,), np.float32)


class Planned(gym.Env[Any, Any]):
    """Samples its space; `first` and `reward` replace what reset and step return."""

    def __init__(
        self, observation: Any = FLOATS, action: Any = None, first: Any = None, reward: Any = 1.0
    ) -> None:
        self.observation_space = observation
        self.action_space = spaces.Discrete(2) if action is None else action
        self.first, self.reward = first, reward

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return (self.observation_space.sample(), {}) if self.first is None else self.first

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        return self.observation_space.sample(), self.reward, True, False, {}


MADE: dict[str, dict[str, Any]] = {
    "floats": {},
    "started": {"action": spaces.Discrete(2, start=-1)},
    "numbers": {"observation": spaces.Discrete(5, start=2)},
    "others": {"observation": spaces.Discrete(5)},
    "scalar": {"observation": spaces.Box(-1, 1, ())},
    "small": {"observation": spaces.Box(0, 255, (24, 24, 3), np.uint8)},
    "tuple": {"observation": spaces.Tuple([FLOATS, FLOATS])},
    "text": {"observation": spaces.Dict(v=FLOATS, say=spaces.Text(5))},
    "nested": {"observation": spaces.Dict(a=spaces.Dict(b=FLOATS))},
    "nothing": {"observation": spaces.Box(-1, 1, (0,))},
    "unbounded": {"action": spaces.Box(-np.inf, np.inf, (2,))},
    "whole": {"action": spaces.Box(0, 3, (2,), np.int64)},
    "old": {"first": np.zeros(4)},
    "pair": {"reward": np.ones(2)},
    "one": {"reward": np.ones(1)},
}
for name, kwargs in MADE.items():
    gym.register(f"planned/{name}-v0", entry_point=Planned, kwargs=kwargs)


def plan(name: str, tmp_path: Path, agent: str = "ppo") -> Any:
    words = ["train", "--env", f"planned/{name}-v0", "--agent", agent]
    settings: Any = parse_command_line([*words, "--output", str(tmp_path / "run")], program="")
    return plan_train(settings)


@pytest.mark.parametrize("name", ["floats", "started", "numbers", "scalar", "small", "one"])
@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_what_is_planned(name: str, agent: str, tmp_path: Path) -> None:
    assert len(plan(name, tmp_path, agent).specs) == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tuple", "its observations are Tuple"),
        ("text", "its observations are Dict"),
        ("nested", "its observations are Dict"),
        ("nothing", "its observations are Box.*not empty"),
        ("unbounded", "have no finite bounds"),
        ("whole", "are whole numbers in Box"),
        ("old", r"reset\(\) must return a tuple"),
        ("pair", r"reward, expected one number"),
    ],
)
def test_what_is_refused_before_a_frame(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^planned/{name}-v0: .*{says}") as refused:
        plan(name, tmp_path)
    assert "\n" not in str(refused.value)
    assert not any(tmp_path.iterdir())


def test_another_start_is_another_space(tmp_path: Path) -> None:
    words = ["transfer", "--source", "planned/numbers-v0", "--target", "planned/others-v0"]
    settings: Any = parse_command_line([*words, "--output", str(tmp_path / "run")], program="")
    with pytest.raises(ValueError, match=r"Discrete\(5, start=2\) +Discrete\(5\) +NO"):
        plan_transfer(settings)
