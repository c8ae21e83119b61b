"""Any observation and action spaces: trained on, or refused in one line before a frame.

What the encoder is shown is decoded and compared with what the environment returned.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

from contrastive_distillation.agents import AuxiliaryLossCallback, build_agent
from contrastive_distillation.envs import make_vec
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory
from contrastive_distillation.transfer import parse_command_line, plan_train, run_training
from contrastive_distillation.transfer.errors import SettingsError

pytestmark = [
    pytest.mark.filterwarnings("ignore:the return range of"),
    pytest.mark.filterwarnings("ignore:Treating image space as channels-last"),
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),
]

ENV_ID = "any_spaces/Drawn-v0"


class Drawn(gym.Env[Any, Any]):
    """Samples its observation space, in episodes of 4 steps, and refuses foreign actions."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.t = 0
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action} is not in {self.action_space}"
        self.t += 1
        return self._seen(), float(self.t), self.t == 4, False, {}

    def _seen(self) -> Any:
        self.seen = self.observation_space.sample()
        return self.seen


def boxes(dtypes: tuple[Any, ...], low: int, high: int) -> st.SearchStrategy[spaces.Space[Any]]:
    shapes = st.lists(st.integers(1, 4), max_size=3).map(tuple)
    bounds = st.tuples(st.integers(low, high), st.integers(0, 60))
    return st.builds(
        lambda dtype, shape, bound: spaces.Box(bound[0], bound[0] + bound[1], shape, dtype),
        st.sampled_from(dtypes),
        shapes,
        bounds,
    )


def pictures() -> st.SearchStrategy[spaces.Space[Any]]:
    sizes, channels = st.sampled_from([5, 24, 36, 40]), st.sampled_from([1, 3, 4])
    return st.builds(
        lambda rows, columns, n, first: spaces.Box(
            0, 255, (n, rows, columns) if first else (rows, columns, n), np.uint8
        ),
        sizes,
        sizes,
        channels,
        st.booleans(),
    )


START = st.integers(-3, 3)


def discrete() -> st.SearchStrategy[spaces.Space[Any]]:
    pairs = st.lists(st.tuples(st.integers(1, 4), START), min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda n, first: spaces.Discrete(n, start=first), st.integers(1, 5), START),
        pairs.map(
            lambda each: spaces.MultiDiscrete([n for n, _ in each], start=[s for _, s in each])
        ),
        pairs.map(lambda each: spaces.MultiDiscrete([[n for n, _ in each]])),
        st.integers(1, 4).map(spaces.MultiBinary),
        st.just(spaces.MultiBinary((2, 3))),
    )


UNBOUNDED = st.sampled_from([spaces.Box(-np.inf, np.inf, shape) for shape in ((), (3,), (2, 2))])
PARTS = st.one_of(
    boxes((np.float32, np.float64), -50, 50),
    boxes((np.int16, np.int64), -50, 50),
    boxes((np.uint8,), 0, 100),
    st.just(spaces.Box(0, 1, (3, 2), np.bool_)),
    UNBOUNDED,
    pictures(),
    discrete(),
)
KEYS = st.sampled_from(["image", "direction", "mission", "x", "speed"])
UNUSABLE = st.sampled_from(
    [
        spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)]),
        spaces.Dict(inner=spaces.Dict(x=spaces.Discrete(2))),
        spaces.Dict(say=spaces.Text(4)),
        spaces.Box(0, 1, (0,)),
    ]
)
DICTS = st.dictionaries(KEYS, PARTS, min_size=1, max_size=3).map(spaces.Dict)
OBSERVATIONS = st.one_of(PARTS, DICTS, PARTS, DICTS, UNUSABLE)
ACTIONS = st.one_of(discrete(), boxes((np.float32,), -5, 5), boxes((np.int64,), 0, 3), UNBOUNDED)
NUMBERED = st.builds(lambda n, first: spaces.Discrete(n, start=first), st.integers(1, 5), START)
CASES = st.one_of(
    st.tuples(OBSERVATIONS, discrete(), st.just("ppo")),
    st.tuples(OBSERVATIONS, ACTIONS, st.just("ppo")),
    st.tuples(OBSERVATIONS, NUMBERED, st.just("dqn")),
    st.tuples(PARTS, ACTIONS, st.just("dqn")),
)


def parts_of(space: spaces.Space[Any], value: Any) -> dict[str, tuple[spaces.Space[Any], Any]]:
    if isinstance(space, spaces.Dict):
        return {key: (part, value[key]) for key, part in space.spaces.items()}
    return {"": (space, value)}


def decoded(space: spaces.Space[Any], shown: np.ndarray) -> np.ndarray:
    """The observation of a space behind what an encoder is shown of it, (1, …) float32."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        counts = [int(space.n)] if isinstance(space, spaces.Discrete) else space.nvec.ravel()
        flags = np.split(shown.ravel(), np.cumsum(counts)[:-1])
        assert all(sorted(each) == [0.0] * (len(each) - 1) + [1.0] for each in flags)
        numbers = np.array([np.argmax(each) for each in flags]).reshape(space.shape or ())
        found: np.ndarray = numbers + space.start
        return found
    if is_image_space(space):
        assert isinstance(space, spaces.Box)
        shown = 255 * shown[0]
        if not is_image_space_channels_first(space):
            shown = shown.transpose(1, 2, 0)
    return shown.reshape(space.shape or ())


def check_shown(model: BaseAlgorithm, vec: Any) -> None:
    """The encoder is shown every part of the observation that the environment has returned."""
    policy: Any = model.policy
    owner = policy.q_net if isinstance(model, DQN) else policy
    shown: list[Any] = []
    hook = owner.features_extractor.register_forward_pre_hook(
        lambda module, inputs: shown.append(inputs[0])
    )
    model.predict(vec.reset())
    hook.remove()
    raw = vec.get_attr("unwrapped")[0]
    seen = shown[0] if isinstance(shown[0], dict) else {"": shown[0]}
    expected = parts_of(raw.observation_space, raw.seen)
    assert seen.keys() == expected.keys()
    for key, (part, value) in expected.items():
        found = decoded(part, seen[key].numpy())
        np.testing.assert_allclose(found, np.asarray(value, np.float32), rtol=1e-6, atol=1e-4)


def hold(observation: Any, action: Any, agent: str, *, whole: bool) -> None:
    gym.register(ENV_ID, lambda **_: Drawn(observation, action))
    try:
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder) / "run"
            words = ["train", "--env", ENV_ID, "--agent", agent, "--frames", "64"]
            words += ["--n-envs", "4", "--information-points", "1", "--output", str(directory)]
            given: Any = parse_command_line(words, program="")
            try:
                plan = plan_train(given)
            except SettingsError as refusal:
                assert "\n" not in str(refusal) and "Error" not in str(refusal), refusal
                assert not directory.exists()
                return
            if whole:
                (spec,) = plan.specs
                run_training(spec, directory, command=(), report=_ignore, stop=lambda: False)
                assert (directory / "result.json").is_file()
        vec = make_vec(ENV_ID, 1, 0)
        small = {"n_steps": 16} if agent == "ppo" else {"learning_starts": 16, "buffer_size": 64}
        model = build_agent(agent, vec, seed=0, **small)  # type: ignore[arg-type]
        check_shown(model, vec)
        joined = AuxiliaryLossCallback(
            ContrastiveDistillation(n_negatives=8), memory=EpisodicMemory(capacity=64), every=1
        )
        model.learn(64, callback=joined)
        assert joined.n_updates > 0
        assert all(bool(torch.isfinite(p).all()) for p in model.policy.parameters())
    finally:
        del gym.registry[ENV_ID]


def _ignore(frames: int) -> None:
    """Nobody watches these trainings."""


def any_spaces(n_examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    checked = settings(
        max_examples=n_examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    return lambda test: checked(given(case=CASES)(test))


@any_spaces(20)
def test_twenty_spaces(case: tuple[Any, Any, str]) -> None:
    hold(*case, whole=False)


@pytest.mark.slow
@any_spaces(300)
def test_three_hundred_spaces(case: tuple[Any, Any, str]) -> None:
    hold(*case, whole=True)


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_a_whole_training(agent: str) -> None:
    observation = spaces.Dict(
        image=spaces.Box(0, 255, (24, 24, 3), np.uint8),
        direction=spaces.Discrete(4, start=1),
        speed=spaces.Box(-1, 1, (), np.float64),
    )
    hold(observation, spaces.Discrete(3, start=-1), agent, whole=True)
