"""What cannot work is refused before a frame is spent on it, with what to do instead."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    EncoderRate,
    FrozenTeacher,
    VectorEncoder,
    find_encoder,
)
from contrastive_distillation.losses import AuxiliaryLoss, ContrastiveDistillation, Learner
from contrastive_distillation.memory import EpisodicMemory, MemoryBatch, ReplayMemory

KWARGS = {"features_extractor_class": VectorEncoder, "net_arch": [16]}


def ppo(**settings: Any) -> BaseAlgorithm:
    defaults: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "seed": 0}
    env = make_vec_env("CartPole-v1", n_envs=1, seed=0)
    return PPO("MlpPolicy", env, policy_kwargs=dict(KWARGS), **(defaults | settings))


def join(loss: AuxiliaryLoss | None = None, **settings: Any) -> AuxiliaryLossCallback:
    loss = loss or ContrastiveDistillation(n_negatives=16)
    defaults: dict[str, Any] = {"memory": EpisodicMemory(capacity=500), "weight": 0.3, "every": 1}
    return AuxiliaryLossCallback(loss, **(defaults | settings))


def test_a_model_on_another_device_is_refused() -> None:
    model = ppo()
    model.device = torch.device("meta")
    with pytest.raises(ValueError, match=r"encoder is on cpu, but the model was made for meta.*"):
        model.learn(32, callback=join())


def test_a_loss_left_on_another_device_is_refused() -> None:
    model, joined = ppo(), join()
    model.learn(32, callback=joined)
    joined.loss.to("meta")
    with pytest.raises(ValueError, match=r"the loss is on meta, .*AuxiliaryLossCallback.load"):
        model.learn(32, callback=joined)


def test_a_frozen_encoder_is_refused_unless_the_weight_is_zero() -> None:
    frozen = [EncoderRate(0.0), join()]
    with pytest.raises(ValueError, match=r"every parameter of the encoder is frozen.*weight=0"):
        ppo().learn(32, callback=frozen)
    ppo().learn(32, callback=[EncoderRate(0.0), join(weight=0.0)])


def test_frozen_parts_of_an_encoder_are_left_out() -> None:
    model, joined = ppo(), join()
    encoder, _ = find_encoder(model)
    first, *others = list(encoder.parameters())
    first.requires_grad_(False)
    before = [p.detach().clone() for p in encoder.parameters()]
    model.learn(64, callback=joined)
    assert joined.n_updates > 0
    assert torch.equal(before[0], first)
    assert all(not torch.equal(b, p) for b, p in zip(before[1:], others, strict=True))


@pytest.mark.parametrize("other", ["Pendulum-v1", "FrozenLake-v1"])
def test_a_teacher_of_other_observations_is_refused(other: str) -> None:
    env = make_vec_env(other, n_envs=1, seed=0)
    source = PPO("MlpPolicy", env, policy_kwargs=dict(KWARGS), n_steps=16, batch_size=16)
    loss = ContrastiveDistillation(teacher=FrozenTeacher.from_model(source))
    joined = AuxiliaryLossCallback(loss, memory=EpisodicMemory(capacity=500))
    with pytest.raises(ValueError, match=r"the teacher reads other observations .*the model's Box"):
        ppo().learn(32, callback=joined)


def test_a_memory_that_never_holds_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_anchors is 32, but the memory keeps only 16 rows"):
        join(memory=EpisodicMemory(capacity=16), n_anchors=32)


@pytest.mark.parametrize("kind", [EpisodicMemory, ReplayMemory])
def test_by_default_anchors_fit_into_a_small_memory(kind: Any) -> None:
    joined = join(memory=kind(capacity=4))
    ppo().learn(64, callback=joined)
    assert joined.n_updates > 0


def test_a_memory_without_a_whole_batch_is_waited_for_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun: list[int] = []

    class Watch(BaseCallback):
        def _on_rollout_start(self) -> None:
            if joined.n_updates and not begun:
                begun.append(len(joined.memory))

        def _on_step(self) -> bool:
            return True

    env = make_vec_env("CartPole-v1", n_envs=1, seed=0)
    model = A2C("MlpPolicy", env, n_steps=5, policy_kwargs=dict(KWARGS), seed=0)
    joined = join(n_anchors=22)
    with caplog.at_level(logging.WARNING):
        model.learn(50, callback=[joined, Watch()])
    waits = [record.getMessage() for record in caplog.records if "waits" in record.getMessage()]
    assert len(waits) == 1
    assert "memory holds 5 rows, too few for a batch of 22 anchors" in waits[0]
    assert begun == [25]
    assert joined.n_updates == 6  # of ten optimiser steps: those with 25 rows and more


# -- what was typed by mistake ------------------------------------------------------------------


class Size(AuxiliaryLoss):
    """Returns what it is told to."""

    name: ClassVar[str] = "size"

    def __init__(self, returns: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.returns = returns

    def forward(self, learner: Learner, batch: MemoryBatch) -> Any:
        return self.returns(learner.encoder(batch.observations).square())


class Unbegun(AuxiliaryLoss):
    name: ClassVar[str] = "unbegun"

    def __init__(self) -> None:
        pass


class Nameless(AuxiliaryLoss):
    pass


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"loss": "curl"},
            r"loss is 'curl', expected an object such as ContrastiveDistillation\(\)",
        ),
        ({"loss": ContrastiveDistillation}, r"loss is <class .*, expected an object"),
        ({"loss": Unbegun()}, r"Unbegun\.__init__ does not begin with super\(\)\.__init__\(\)"),
        ({"loss": Nameless()}, "Nameless has no name: write name = "),
        ({"memory": "episodic"}, "memory is 'episodic', expected an object such as EpisodicMemory"),
        ({"memory": EpisodicMemory}, "memory is <class .*, expected an object"),
        ({"weight": "0.1"}, "weight is '0.1', expected a number"),
        ({"every": 2.5}, "every is 2.5, expected a whole number ≥ 1"),
        ({"n_anchors": 8.0}, "n_anchors is 8.0, expected a whole number"),
        ({"seed": -1}, "seed is -1, expected a whole number ≥ 0"),
    ],
)
def test_arguments_of_another_kind(arguments: dict[str, Any], said: str) -> None:
    given = {"loss": ContrastiveDistillation(), "memory": EpisodicMemory()} | arguments
    with pytest.raises(ValueError, match=said):
        AuxiliaryLossCallback(given.pop("loss"), **given)


@pytest.mark.parametrize(
    ("returns", "said"),
    [
        (lambda x: x.mean(), r"it returned a tensor of shape \(\)"),
        (lambda x: {"size": x.mean(dim=1)}, r"returned \{'size': a tensor of shape \(16,\)\}"),
        (lambda x: {"size": 0.5}, r"returned \{'size': a float\}"),
        (lambda x: None, "it returned a NoneType"),
    ],
)
def test_a_loss_that_returns_no_scalars_by_name(returns: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r"Size\.forward must return one scalar .*" + said):
        ppo().learn(64, callback=join(Size(returns), n_anchors=16))


def test_a_memory_of_other_observations_is_refused() -> None:
    seen = EpisodicMemory(capacity=500)
    env = make_vec_env("Pendulum-v1", n_envs=1, seed=0)
    other = PPO("MlpPolicy", env, policy_kwargs=dict(KWARGS), n_steps=16, batch_size=16)
    other.learn(32, callback=join(memory=seen))
    said = r"memory holds other observations than the model's: of shape \(3,\)"
    for given in ({"memory": seen}, {"source_memory": seen}):
        with pytest.raises(ValueError, match=said):
            ppo().learn(32, callback=join(**given))


@pytest.mark.parametrize("twice", ["a memory", "a callback"])
def test_a_memory_has_one_writer(twice: str) -> None:
    """Else one episode would hold each step twice."""
    first = join()
    second = first if twice == "a callback" else join(memory=first.memory)
    with pytest.raises(ValueError, match="another callback writes into this callback's memory"):
        ppo().learn(32, callback=[first, second])
