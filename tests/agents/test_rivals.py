"""Every registered loss in a short real training, through the callback."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor

from contrastive_distillation.agents import AuxiliaryLossCallback, VectorEncoder, policy_sha256
from contrastive_distillation.losses import LOSSES, AuxiliaryLoss
from contrastive_distillation.memory import EpisodicMemory, Memory

KWARGS = {
    "features_extractor_class": VectorEncoder,
    "features_extractor_kwargs": {"features_dim": 12, "hidden_dims": ()},
    "net_arch": [16],
}

MakesLoss = Callable[..., AuxiliaryLoss]


def model(agent: str, *, seed: int = 0) -> BaseAlgorithm:
    env = make_vec_env("CartPole-v1", n_envs=2, seed=seed)
    common: dict[str, Any] = {"policy_kwargs": dict(KWARGS), "seed": seed, "batch_size": 32}
    if agent == "dqn":
        return DQN("MlpPolicy", env, learning_starts=32, target_update_interval=64, **common)
    return PPO("MlpPolicy", env, n_steps=32, n_epochs=2, **common)


def agent_of(name: str) -> str:
    """The first agent that a loss is for."""
    return (LOSSES[name].agents or ("ppo",))[0]


@functools.cache
def source(agent: str) -> tuple[BaseAlgorithm, Memory]:
    """A source agent of other weights, and what it saw."""
    memory = EpisodicMemory(capacity=500)
    trained = model(agent, seed=7)
    trained.learn(160, callback=AuxiliaryLossCallback(Nothing(), memory=memory, weight=0.0))
    return trained, memory


class Nothing(AuxiliaryLoss):
    name = "nothing"


class Gradients(BaseCallback):
    """Copies every gradient of the policy in a step pre-hook of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Tensor]] = []
        self.handles: list[Any] = []

    def _on_rollout_end(self) -> None:
        self.handles.append(self.model.policy.optimizer.register_step_pre_hook(self._look))

    def _look(self, *_: object) -> None:
        named = self.model.policy.named_parameters()
        self.seen.append(
            {n: torch.zeros(()) if p.grad is None else p.grad.clone() for n, p in named}
        )

    def _on_rollout_start(self) -> None:
        while self.handles:
            self.handles.pop().remove()

    def _on_step(self) -> bool:
        return True


def join(
    name: str, make_rival: MakesLoss, **settings: Any
) -> tuple[BaseAlgorithm, AuxiliaryLossCallback]:
    agent = agent_of(name)
    trained, source_memory = source(agent)
    student = model(agent)
    defaults: dict[str, Any] = {"n_anchors": 16, "every": 1, "weight": 0.5}
    defaults |= {"memory": EpisodicMemory(capacity=500), "source_memory": source_memory}
    return student, AuxiliaryLossCallback(make_rival(name, trained), **(defaults | settings))


@pytest.mark.parametrize("balance", ["norm", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_only_what_is_declared_changes(name: str, balance: str, make_rival: MakesLoss) -> None:
    student, joined = join(name, make_rival, balance=balance)
    before, after = Gradients(), Gradients()
    student.learn(256, callback=[before, joined, after])
    assert joined.n_updates > 0 and joined.learner is not None
    declared = {id(p) for p in joined.loss.changed_parameters(joined.learner)}
    changed: dict[str, bool] = {}
    for one, other in zip(before.seen, after.seen, strict=True):
        for key in one:
            differs = bool((one[key] != other[key]).any())
            changed[key] = changed.get(key, False) or differs
            assert bool(torch.isfinite(other[key]).all())
    for key, parameter in student.policy.named_parameters():
        assert changed[key] == (id(parameter) in declared), key


@pytest.mark.parametrize("name", LOSSES)
def test_weight_zero_is_bit_identical_to_stock(name: str, make_rival: MakesLoss) -> None:
    student, joined = join(name, make_rival, weight=0.0)
    student.learn(128, callback=joined)
    stock = model(agent_of(name)).learn(128)
    assert policy_sha256(student) == policy_sha256(stock)


@pytest.mark.parametrize("name", LOSSES)
def test_training_continues_to_the_bit(name: str, make_rival: MakesLoss, tmp_path: Path) -> None:
    """With the auxiliary file written and read in between, and without."""

    def train(reload: bool) -> str:
        student, joined = join(name, make_rival, every=2)
        trained, source_memory = source(agent_of(name))
        student.learn(128, callback=joined)
        if reload:
            joined.save(tmp_path / "aux.safetensors")
            joined = AuxiliaryLossCallback.load(
                tmp_path / "aux.safetensors",
                loss=make_rival(name, trained),
                source_memory=source_memory,
            )
            joined.continue_episodes()  # a file does not know that nothing was reset
        n_updates = joined.n_updates
        student.learn(128, callback=joined, reset_num_timesteps=False)
        assert joined.n_updates > n_updates > 0
        return policy_sha256(student)

    assert train(reload=True) == train(reload=False)


@pytest.mark.parametrize("name", [n for n in LOSSES if not LOSSES[n].needs_source])
def test_a_loss_without_a_source_is_loaded_by_its_name(
    name: str, make_rival: MakesLoss, tmp_path: Path
) -> None:
    student, joined = join(name, lambda n, _: make_rival(n, None), source_memory=None)
    student.learn(96, callback=joined)
    joined.save(tmp_path / "aux.safetensors")
    again = AuxiliaryLossCallback.load(tmp_path / "aux.safetensors")
    assert type(again.loss) is type(joined.loss)
    assert again.loss.keywords() == joined.loss.keywords()


@pytest.mark.parametrize("name", [n for n in LOSSES if LOSSES[n].needs_source])
def test_a_source_is_asked_for(name: str, make_rival: MakesLoss) -> None:
    student, joined = join(name, lambda n, _: make_rival(n, None), source_memory=None)
    with pytest.raises(ValueError, match=f"{name} needs the .* of a source agent"):
        student.learn(96, callback=joined)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_says_what_it_is(name: str) -> None:
    kind = LOSSES[name]
    module = inspect.getmodule(kind)
    assert "https://arxiv.org/abs/" in f"{kind.__doc__} {module and module.__doc__}"
    published = kind.published
    assert published is None or (published.balance == "none" and published.weight > 0)
