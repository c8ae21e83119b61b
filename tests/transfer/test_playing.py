"""Evaluation episodes: complete, started together, and the policy's own."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from contrastive_distillation.agents import build_agent
from contrastive_distillation.envs import BadNumberError, make_vec
from contrastive_distillation.transfer import Evaluator, own_randomness, policy_of
from contrastive_distillation.transfer.protocol import UNKNOWN_LENGTH

EMPTY = "MiniGrid-Empty-5x5-v0"
RANDOM = "MiniGrid-Empty-Random-5x5-v0"
WALL, RIGHT, FORWARD = 2, 1, 2


def along_the_wall(observations: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Walk ahead, turn right at walls: 5 steps to the goal of the fixed empty room."""
    ahead = observations["image"][:, 3, 5, 0]
    return np.where(ahead == WALL, RIGHT, FORWARD)


def evaluator(env_ids: list[str], n_episodes: int, backend: str) -> Evaluator:
    return Evaluator(
        env_ids=env_ids,
        n_episodes=n_episodes,
        backend=backend,
        observation="auto",
        mission=False,
    )


@pytest.fixture(params=["gymnasium", "envpool"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "envpool":
        pytest.importorskip("envpool")
    return str(request.param)


def test_returns_and_lengths_of_a_known_walk(backend: str) -> None:
    (episodes,) = evaluator([EMPTY], 3, backend).play(along_the_wall, seed=0)
    assert episodes.backend == backend
    assert episodes.lengths.tolist() == [5, 5, 5]
    assert episodes.returns == pytest.approx([1 - 0.9 * 5 / 100] * 3)


def test_every_environment_plays_one_episode_and_the_batch_shrinks(backend: str) -> None:
    sizes: list[int] = []
    generator = np.random.default_rng(0)

    def at_random(observations: dict[str, NDArray[Any]]) -> NDArray[Any]:
        sizes.append(len(observations["image"]))
        return generator.integers(0, 3, sizes[-1])

    played = evaluator([RANDOM, EMPTY], 6, backend).play(at_random, seed=1)
    assert [episodes.env_id for episodes in played] == [RANDOM, EMPTY]
    lengths = np.concatenate([episodes.lengths for episodes in played])
    assert len(lengths) == 12
    assert sizes[0] == 12
    assert sizes == [int((lengths > step).sum()) for step in range(lengths.max())]
    returns = np.concatenate([episodes.returns for episodes in played])
    expected = np.where(lengths < 100, 1 - 0.9 * lengths / 100, returns)
    assert returns == pytest.approx(expected, abs=1e-6)


def test_the_same_round_plays_the_same_episodes(backend: str) -> None:
    rounds = [evaluator([RANDOM], 8, backend) for _ in range(2)]
    first = rounds[0].play(along_the_wall, seed=3, index=1)[0].lengths
    assert rounds[1].play(along_the_wall, seed=3, index=1)[0].lengths.tolist() == first.tolist()
    assert rounds[0].play(along_the_wall, seed=3, index=1)[0].lengths.tolist() == first.tolist()
    others = [rounds[0].play(along_the_wall, seed=3, index=i)[0].lengths for i in (0, 2, 5)]
    assert any(other.tolist() != first.tolist() for other in others)


def test_remembered_probabilities_are_the_policys() -> None:
    env = make_vec([RANDOM], 4, 0, "gymnasium", mission=False)
    model = build_agent("ppo", env, seed=0)
    torch.manual_seed(0)
    with torch.no_grad():  # far from uniform
        model.policy.action_net.weight.normal_(std=2.0)
    observations: Any = env.reset()
    many = {key: np.repeat(values, 4000, axis=0) for key, values in observations.items()}
    actions = policy_of(model, seed=0)(many).reshape(4, 4000)
    tensors, _ = model.policy.obs_to_tensor(observations)
    expected = model.policy.get_distribution(tensors).distribution.probs.detach().numpy()
    found = np.stack([np.bincount(row, minlength=7) / 4000 for row in actions])
    assert np.abs(found - expected).max() < 0.04
    assert expected.max() > 0.5


def test_a_dqn_is_judged_greedily() -> None:
    env = make_vec([RANDOM], 4, 0, "gymnasium", mission=False)
    model = build_agent("dqn", env, seed=0)
    act = policy_of(model, seed=0)
    observations: Any = env.reset()
    for _ in range(5):
        expected, _ = model.predict(observations, deterministic=True)
        assert act(observations).tolist() == expected.tolist()
        observations, *_ = env.step(expected)


def test_vectors_go_through_the_model_itself() -> None:
    env = make_vec(["CartPole-v1"], 2, 0, "gymnasium")
    model = build_agent("dqn", env, seed=0)
    observations = env.reset()
    expected, _ = model.predict(observations, deterministic=True)
    assert policy_of(model, seed=0)(observations).tolist() == expected.tolist()


def test_own_randomness_leaves_no_trace() -> None:
    import random

    def draw() -> tuple[float, float, float]:
        return torch.rand(1).item(), float(np.random.rand()), random.random()

    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = [draw(), draw()]
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    found = [draw()]
    with own_randomness(5):
        inside = draw()
    found.append(draw())
    assert found == expected
    with own_randomness(5):
        assert draw() == inside


class NotANumber(gym.Env):  # type: ignore[type-arg]
    """Gives NaN as its second observation, or its first reward; never ends by itself."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, bad: str = "nothing") -> None:
        self.bad = bad

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> Any:
        observation = np.full(2, np.nan if self.bad == "observation" else 0.0, np.float32)
        return observation, np.nan if self.bad == "reward" else 0.25, False, False, {}


for bad in ("nothing", "reward", "observation"):
    gym.register(f"test/Bad-{bad}-v0", entry_point=NotANumber, kwargs={"bad": bad})


@pytest.mark.parametrize("bad", ["reward", "observation"])
def test_evaluation_names_what_is_no_number(bad: str) -> None:
    env_id = f"test/Bad-{bad}-v0"
    with pytest.raises(BadNumberError, match=f"{env_id}.*its {bad} at step 1"):
        evaluator([env_id], 2, "gymnasium").play(lambda o: np.zeros(len(o), int), seed=0)


@pytest.mark.filterwarnings("ignore")
def test_an_endless_episode_is_cut() -> None:
    (episodes,) = evaluator(["test/Bad-nothing-v0"], 2, "gymnasium").play(
        lambda o: np.zeros(len(o), int), seed=0
    )
    assert episodes.lengths.tolist() == [UNKNOWN_LENGTH] * 2
    assert episodes.returns == pytest.approx([0.25 * UNKNOWN_LENGTH] * 2)
