"""`RecordMemory`: the memory holds what the model experienced, and the model is not changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    EncoderDiagnostics,
    RecordMemory,
    build_agent,
    policy_sha256,
)
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory

LENGTH = 4


class ByTurns(gym.Env[np.ndarray, np.int64]):
    """Episodes of one length: by turns they end by themselves, at a limit, and at both at once.

    Observations are the episode's number and the step; a step's reward is the step, from 1.
    """

    observation_space = gym.spaces.Box(0.0, 1e3, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, first: int = 0) -> None:
        self._episode, self._step = first - 1, 0

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(**options)
        self._episode, self._step = self._episode + 1, 0
        return self._seen(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._step += 1
        ends, which = self._step == LENGTH, self._episode % 3
        return self._seen(), float(self._step), ends and which != 1, ends and which != 0, {}

    def _seen(self) -> np.ndarray:
        return np.array([self._episode, self._step], dtype=np.float32)


@pytest.mark.parametrize("n_envs", [1, 3])
def test_only_returns_of_episodes_that_ended_by_themselves_are_known(n_envs: int) -> None:
    # the environments do not end alike: each begins with another of the three kinds
    firsts = iter(range(n_envs))
    env = make_vec_env(lambda: ByTurns(first=next(firsts)), n_envs=n_envs)
    memory = EpisodicMemory(capacity=1_000)
    model = PPO("MlpPolicy", env, n_steps=48, batch_size=48, n_epochs=1, gamma=0.9, seed=0)
    model.learn(48 * n_envs, callback=RecordMemory(memory))

    rows = memory.rows()
    observations = memory.observations(rows)
    assert isinstance(observations, np.ndarray)
    episode, step = observations.T
    discounts = 0.9 ** np.arange(LENGTH)
    expected = [discounts[: LENGTH - s] @ np.arange(s + 1, LENGTH + 1) for s in step.astype(int)]
    known = episode % 3 != 1
    assert len(rows) == 48 * n_envs and known.any() and not known.all()
    np.testing.assert_array_equal(memory.return_known(rows), known)
    np.testing.assert_allclose(memory.returns(rows)[known], np.array(expected)[known], rtol=1e-6)


def agent(name: str = "ppo") -> BaseAlgorithm:
    settings: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 2}
    if name == "dqn":
        settings = {"learning_starts": 32, "train_freq": 8, "gradient_steps": 1, "batch_size": 32}
    return build_agent(name, make_vec_env("CartPole-v1", n_envs=2, seed=0), seed=0, **settings)


def assert_same(ours: EpisodicMemory, theirs: EpisodicMemory) -> None:
    assert ours.metadata() == theirs.metadata()
    arrays, others = ours.state_tensors(), theirs.state_tensors()
    assert arrays.keys() == others.keys()
    assert all(array.tobytes() == others[name].tobytes() for name, array in arrays.items())


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_the_model_learns_as_without_the_callbacks(name: str) -> None:
    memory = EpisodicMemory(capacity=500)
    callbacks = [RecordMemory(memory), EncoderDiagnostics(memory, frames=100)]
    stock = agent(name).learn(256)
    recorded = agent(name).learn(256, callback=callbacks)
    assert policy_sha256(recorded) == policy_sha256(stock)
    assert memory.n_written == recorded.num_timesteps


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_it_records_and_logs_what_a_loss_of_weight_zero_does(name: str) -> None:
    ours, theirs = EpisodicMemory(capacity=500), EpisodicMemory(capacity=500)
    callbacks: list[MaybeCallback] = [
        [RecordMemory(ours), EncoderDiagnostics(ours, frames=400)],
        AuxiliaryLossCallback(
            ContrastiveDistillation(), memory=theirs, weight=0.0, diagnostics_frames=400
        ),
    ]
    logged = []
    for callback in callbacks:
        model = agent(name)
        model.set_logger(Logger(folder=None, output_formats=[]))
        model.learn(1_024, callback=callback, log_interval=1_000)
        values = model.logger.name_to_value
        logged.append({k: v for k, v in values.items() if k.startswith(("aux", "memory"))})
    assert_same(ours, theirs)
    assert logged[0] == logged[1]
    assert logged[0].keys() == {
        "aux/effective_rank", "aux/entropy", "memory/key_drift", "memory/known_returns",
        "memory/size",
    }  # fmt: skip


@pytest.mark.parametrize("with_loss", [False, True])
def test_a_saved_memory_is_loaded_and_its_open_episodes_continue(
    with_loss: bool, tmp_path: Path
) -> None:
    """Also from the file of an `AuxiliaryLossCallback`, in which older runs kept theirs."""
    path, memory = tmp_path / "aux.safetensors", EpisodicMemory(capacity=5_000)
    recorder: RecordMemory = RecordMemory(memory)
    if with_loss:
        recorder = AuxiliaryLossCallback(ContrastiveDistillation(), memory=memory, weight=0.0)
    model = agent()
    model.learn(512, callback=recorder)
    recorder.save(path)
    loaded = RecordMemory.load(path)
    assert isinstance(loaded.memory, EpisodicMemory)
    assert_same(loaded.memory, memory)
    loaded.continue_episodes()
    steps = memory.info(memory.rows()).steps
    model.learn(64, callback=loaded, reset_num_timesteps=False)
    continued = loaded.memory.info(loaded.memory.rows())
    assert len(continued.steps) == len(steps) + 64
    first = len(steps)  # the environments were reset, but the memory does not know
    assert continued.steps[first] > 0
    model.learn(64, callback=loaded)
    assert loaded.memory.info(loaded.memory.rows()).steps[first + 64] == 0


def test_a_file_without_a_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "memory.safetensors"
    EpisodicMemory(capacity=10).save(path)
    with pytest.raises(ValueError, match="not an auxiliary file"):
        RecordMemory.load(path)
    with pytest.raises(ValueError, match="missing or broken"):
        RecordMemory.load(tmp_path / "nothing.safetensors")


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="memory is 50000, expected an object such as"):
        RecordMemory(50_000)  # type: ignore[arg-type]


class Careless(gym.Env[Any, np.int64]):
    """Declares float32 and a byte; gives what arithmetic makes of them after the first step."""

    observation_space = gym.spaces.Dict(
        a=gym.spaces.Box(-10, 10, (4,), np.float32), n=gym.spaces.Box(0, 255, (1,), np.uint8)
    )
    action_space = gym.spaces.Discrete(2)

    def __init__(self, count: float = 1.0) -> None:
        self._count = count

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        super().reset(**options)
        self._step = 0
        return {"a": np.zeros(4, np.float32), "n": np.zeros(1, np.uint8)}, {}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._step += 1
        seen = {"a": self.np_random.normal(size=4), "n": np.array([self._count * self._step])}
        return seen, 1.0, self._step == LENGTH, False, {}


class Uncast(DummyVecEnv):
    """Like SubprocVecEnv, it returns the observations as the environments give them."""

    def _save_obs(self, env_idx: int, obs: Any) -> None:
        self._given = {**getattr(self, "_given", {}), env_idx: obs}

    def _obs_from_buf(self) -> Any:
        given = [self._given[i] for i in range(self.num_envs)]
        return {key: np.stack([each[key] for each in given]) for key in given[0]}


def test_observations_are_kept_in_the_dtypes_of_their_space() -> None:
    model = PPO("MultiInputPolicy", Uncast([Careless] * 2), n_steps=16, batch_size=16)
    memory = EpisodicMemory(capacity=64)
    model.learn(64, callback=RecordMemory(memory))
    kept = memory.observations(memory.rows())
    assert isinstance(kept, dict) and len(memory) == 64
    assert kept["a"].dtype == np.float32 and kept["n"].dtype == np.uint8
    assert set(np.unique(kept["n"])) == set(range(LENGTH))


def test_what_their_dtype_cannot_hold_is_refused() -> None:
    env = Uncast([lambda: Careless(count=0.5)])
    model = PPO("MultiInputPolicy", env, n_steps=16, batch_size=16)
    with pytest.raises(ValueError, match=r"'n' holds 0\.5, which uint8"):
        model.learn(16, callback=RecordMemory(EpisodicMemory(capacity=64)))
