"""`watch`: episodes that never end, and environments that cannot draw."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from contrastive_distillation.agents import build_agent
from contrastive_distillation.envs import Suite, make_vec
from contrastive_distillation.transfer.errors import SettingsError
from contrastive_distillation.transfer.evaluation import evaluator
from contrastive_distillation.transfer.evaluation.evaluator import Evaluator
from contrastive_distillation.transfer.evaluation.gif import drawn_picture, watch
from contrastive_distillation.transfer.evaluation.policies import policy_of
from contrastive_distillation.transfer.evaluation.trained_agent import TrainedAgent

pytestmark = pytest.mark.filterwarnings("ignore:the return range of")


class Endless(gym.Env[Any, Any]):
    """Never ends; `drawn` is what it draws."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)
    drawn: Any = np.full((8, 8, 3), 100, np.uint8)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), 0.25, False, False, {}

    def render(self) -> Any:
        return self.drawn


class WithoutScreen(Endless):
    def __init__(self) -> None:
        super().__init__()


gym.register("watched/Endless-v0", entry_point=Endless)
gym.register("watched/WithoutScreen-v0", entry_point=WithoutScreen)


def trained(env_id: str) -> TrainedAgent:
    suite = Suite(
        name="watched", summary="one environment", sources=(env_id,), targets=(env_id,),
        source_frames=1, target_frames=1, agents=("ppo",),
    )  # fmt: skip
    model = build_agent("ppo", make_vec(env_id, 1, 0), seed=0)
    return TrainedAgent(
        model=model, suite=suite, env_ids=(env_id,), mission=False, file=Path("final.zip")
    )


def test_an_episode_without_end_is_cut_as_the_evaluator_cuts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "UNKNOWN_LENGTH", 20)
    agent, path = trained("watched/Endless-v0"), tmp_path / "agent.gif"
    assert watch(agent, path, n_episodes=2, seed=0) == 2 * (20 + 1)
    assert Image.open(path).size == (400, 448)
    judge = Evaluator(env_ids=agent.env_ids, backend="auto", observation="auto", mission=False)
    (episodes,) = judge.play(policy_of(agent.model, seed=0), n_episodes=2, seed=0)
    assert episodes.lengths.tolist() == [20, 20]


def test_an_environment_that_takes_no_render_mode_is_named(tmp_path: Path) -> None:
    agent = trained("watched/WithoutScreen-v0")
    with pytest.raises(ValueError, match="WithoutScreen-v0' cannot be drawn: its constructor"):
        watch(agent, tmp_path / "agent.gif", n_episodes=1, seed=0)
    assert not any(tmp_path.iterdir())


GREY = np.full((4, 6), 51, np.uint8)


@pytest.mark.parametrize(
    "drawn",
    [
        GREY,
        GREY[..., None],
        np.repeat(GREY[..., None], 3, axis=2),
        np.repeat(GREY[..., None], 4, axis=2),
        [np.zeros((4, 6, 3), np.uint8), np.repeat(GREY[..., None], 3, axis=2)],
        np.full((4, 6, 3), 0.2),
        np.full((4, 6, 3), 51.0, np.float32),
        np.full((4, 6, 3), 51, np.int64),
    ],
)
def test_pictures_of_every_kind_look_alike(drawn: Any) -> None:
    env = Endless()
    env.drawn = drawn
    picture = drawn_picture(env, "watched")
    assert picture.shape == (4, 6, 3) and picture.dtype == np.uint8
    assert np.unique(picture).tolist() == [51]


@pytest.mark.parametrize(
    ("drawn", "says"),
    [
        (None, "returned None"),
        ("#..#", "returned a str"),
        ([], r"an array of shape \(0,\)"),
        (np.zeros((3, 4, 6), np.uint8), r"an array of shape \(3, 4, 6\)"),
        (np.full((4, 6, 3), 300.0), r"numbers from 300\.0"),
        (np.full((4, 6, 3), np.nan), "numbers from nan"),
    ],
)
def test_what_cannot_be_drawn_is_named(drawn: Any, says: str) -> None:
    env = Endless()
    env.drawn = drawn
    with pytest.raises(SettingsError, match=f"^watched: cannot be drawn.*{says}"):
        drawn_picture(env, "watched")
