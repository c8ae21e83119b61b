"""Evaluation episodes: complete, started together, and the policy's own."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from contrastive_distillation.agents import build_agent
from contrastive_distillation.envs import BadNumberError, make_vec
from contrastive_distillation.memory import EpisodicMemory
from contrastive_distillation.transfer import Evaluator, own_randomness, policy_of
from contrastive_distillation.transfer.evaluation.schedule import UNKNOWN_LENGTH

EMPTY = "MiniGrid-Empty-5x5-v0"
RANDOM = "MiniGrid-Empty-Random-5x5-v0"
WALL, RIGHT, FORWARD = 2, 1, 2


def along_the_wall(observations: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Walk ahead, turn right at walls: 5 steps to the goal of the fixed empty room."""
    ahead = observations["image"][:, 3, 5, 0]
    return np.where(ahead == WALL, RIGHT, FORWARD)


def evaluator(env_ids: list[str], backend: str) -> Evaluator:
    return Evaluator(env_ids=env_ids, backend=backend, observation="auto", mission=False)


@pytest.fixture(params=["gymnasium", "envpool"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "envpool":
        pytest.importorskip("envpool")
    return str(request.param)


def test_returns_and_lengths_of_a_known_walk(backend: str) -> None:
    (episodes,) = evaluator([EMPTY], backend).play(along_the_wall, n_episodes=3, seed=0)
    assert episodes.backend == backend
    assert episodes.lengths.tolist() == [5, 5, 5]
    assert episodes.returns == pytest.approx([1 - 0.9 * 5 / 100] * 3)


def test_every_environment_plays_one_episode_and_the_batch_shrinks(backend: str) -> None:
    sizes: list[int] = []
    generator = np.random.default_rng(0)

    def at_random(observations: dict[str, NDArray[Any]]) -> NDArray[Any]:
        sizes.append(len(observations["image"]))
        return generator.integers(0, 3, sizes[-1])

    played = evaluator([RANDOM, EMPTY], backend).play(at_random, n_episodes=6, seed=1)
    assert [episodes.env_id for episodes in played] == [RANDOM, EMPTY]
    lengths = np.concatenate([episodes.lengths for episodes in played])
    assert len(lengths) == 12
    assert sizes[0] == 12
    assert sizes == [int((lengths > step).sum()) for step in range(lengths.max())]
    returns = np.concatenate([episodes.returns for episodes in played])
    expected = np.where(lengths < 100, 1 - 0.9 * lengths / 100, returns)
    assert returns == pytest.approx(expected, abs=1e-6)


def test_the_same_round_plays_the_same_episodes(backend: str) -> None:
    judges = [evaluator([RANDOM], backend) for _ in range(2)]

    def lengths(judge: int, index: int, n_episodes: int = 8) -> list[int]:
        (episodes,) = judges[judge].play(along_the_wall, n_episodes=n_episodes, seed=3, index=index)
        return [int(steps) for steps in episodes.lengths]

    first = lengths(0, 1)
    assert lengths(1, 1) == first
    assert lengths(0, 1) == first
    assert any(lengths(0, i) != first for i in (0, 2, 5))


def test_a_smaller_round_plays_the_first_episodes_of_a_larger_one(backend: str) -> None:
    judge = evaluator([RANDOM], backend)
    rounds = [
        judge.play(along_the_wall, n_episodes=n_episodes, seed=3)[0] for n_episodes in (8, 3, 12)
    ]
    assert [len(episodes.returns) for episodes in rounds] == [8, 3, 12]
    starts = [episodes.lengths.tolist() for episodes in rounds]
    assert starts[0][:3] == starts[1]
    assert starts[2][:8] == starts[0]


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


def remembered(observations: dict[str, NDArray[Any]]) -> EpisodicMemory:
    """A memory of single steps, its keys in another order than the environment's."""
    n = len(observations["image"])
    memory = EpisodicMemory(capacity=n)
    memory.start(n_envs=n, gamma=0.99, tasks=[RANDOM])
    memory.add(
        observations={key: observations[key] for key in sorted(observations, reverse=True)},
        actions=np.zeros(n, np.int64),
        rewards=np.zeros(n, np.float32),
        terminated=np.ones(n, np.bool_),
        truncated=np.zeros(n, np.bool_),
        tasks=np.zeros(n, np.int64),
        time=n,
    )
    return memory


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_what_is_remembered_goes_through_the_network_beforehand(
    agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make_vec([RANDOM], 600, 0, "auto", mission=False)
    model = build_agent(agent, env, seed=0)
    observations: Any = env.reset()
    n_seen: list[int] = []
    forward = model.policy.obs_to_tensor

    def counting(these: dict[str, NDArray[Any]]) -> Any:
        n_seen.append(len(these["image"]))
        return forward(these)

    monkeypatch.setattr(model.policy, "obs_to_tensor", counting)
    plain, prepared = (
        policy_of(model, seed=3, memory=memory) for memory in (None, remembered(observations))
    )
    n_distinct = len({image.tobytes() for image in observations["image"]})
    assert n_distinct > 20
    assert n_seen[0] >= n_distinct
    n_before = len(n_seen)
    chosen = prepared(observations)
    assert len(n_seen) == n_before, "each of them was known"
    assert chosen.tolist() == plain(observations).tolist()


def test_pictures_are_not_learnt_by_heart() -> None:
    env = make_vec([RANDOM], 4, 0, "gymnasium", observation="picture")
    model = build_agent("ppo", env, seed=0)
    memory = EpisodicMemory(capacity=4)  # reading it would raise: it is empty
    assert len(policy_of(model, seed=0, memory=memory)(env.reset())) == 4


def test_an_empty_memory_tells_nothing() -> None:
    env = make_vec([RANDOM], 4, 0, "gymnasium", mission=False)
    model = build_agent("ppo", env, seed=0)
    act = policy_of(model, seed=0, memory=EpisodicMemory(capacity=4))
    assert len(act(env.reset())) == 4


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
        evaluator([env_id], "gymnasium").play(lambda o: np.zeros(len(o), int), n_episodes=2, seed=0)


@pytest.mark.filterwarnings("ignore")
def test_an_endless_episode_is_cut() -> None:
    (episodes,) = evaluator(["test/Bad-nothing-v0"], "gymnasium").play(
        lambda o: np.zeros(len(o), int), n_episodes=2, seed=0
    )
    assert episodes.lengths.tolist() == [UNKNOWN_LENGTH] * 2
    assert episodes.returns == pytest.approx([0.25 * UNKNOWN_LENGTH] * 2)
