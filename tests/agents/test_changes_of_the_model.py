"""Layers replaced, frozen and thawed, episodes that go on, callbacks that are not called."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback, EveryNTimesteps
from torch import nn
from torch.nn.utils import prune

from contrastive_distillation.agents import AuxiliaryLossCallback, RecordMemory, VectorEncoder
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory

_VECTORS = {"features_extractor_class": VectorEncoder}
_ALL = {f"features_extractor.layers.{i}.{kind}" for i in (1, 3) for kind in ("weight", "bias")}


class Counting(gym.Env[np.ndarray, int]):
    """Observes the step of the episode, which ends after 50 with a reward of 1."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> Any:
        self.t += 1
        over = self.t >= 50
        return np.array([self.t], np.float32), float(over), over, False, {}


def ppo(env: Any = "CartPole-v1", **settings: Any) -> PPO:
    settings = {"n_steps": 64, "batch_size": 32, "n_epochs": 1, "seed": 0} | settings
    return PPO("MlpPolicy", env, policy_kwargs=_VECTORS | {"net_arch": [16]}, **settings)


def dqn(env: Any = "CartPole-v1") -> DQN:
    kwargs = _VECTORS | {"net_arch": [16]}
    return DQN("MlpPolicy", env, learning_starts=32, batch_size=16, seed=0, policy_kwargs=kwargs)


def join(**settings: Any) -> AuxiliaryLossCallback:
    settings = {"memory": EpisodicMemory(), "every": 1, "n_anchors": 16, "weight": 0.5} | settings
    return AuxiliaryLossCallback(ContrastiveDistillation(), **settings)


class Look(BaseCallback):
    """Copies every gradient of the policy right before its present optimiser steps."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, torch.Tensor | None]] = []
        self._handles: list[Any] = []

    def _on_rollout_end(self) -> None:
        self._off()
        optimizer = self.model.policy.optimizer
        self._handles.append(optimizer.register_step_pre_hook(self._look))

    def _look(self, *_: object) -> None:
        named = self.model.policy.named_parameters()
        self.seen.append({n: None if p.grad is None else p.grad.clone() for n, p in named})

    def _off(self) -> None:
        while self._handles:
            self._handles.pop().remove()

    _on_rollout_start = _on_training_end = _off

    def _on_step(self) -> bool:
        return True


def touched(model: PPO, joined: BaseCallback, frames: int, *first: BaseCallback) -> set[str]:
    """Train; the names of the parameters whose gradient the callback has changed."""
    before, after = Look(), Look()
    model.learn(frames, callback=[*first, before, joined, after], reset_num_timesteps=False)
    found = set()
    for own, others in zip(before.seen, after.seen, strict=True):
        for name, gradient in others.items():
            known = own[name]
            if gradient is None:
                continue
            if known is None or not torch.equal(gradient, known):
                found.add(name)
    return found


# -- other layers -------------------------------------------------------------------------------


def _other_extractor(policy: Any) -> None:
    own = VectorEncoder(policy.observation_space, features_dim=policy.features_dim)
    policy.features_extractor = policy.pi_features_extractor = policy.vf_features_extractor = own


def _other_layer(policy: Any) -> None:
    old = policy.features_extractor.layers[1]
    policy.features_extractor.layers[1] = nn.Linear(old.in_features, old.out_features)


def _other_activation(policy: Any) -> None:
    policy.features_extractor.layers[2] = nn.Tanh()


def _pruned(policy: Any) -> None:
    prune.l1_unstructured(policy.features_extractor.layers[1], "weight", 0.5)


def _subclass(policy: Any) -> None:
    """Another class around the same layers."""

    class Doubled(VectorEncoder):
        def forward(self, *given: Any, **named: Any) -> torch.Tensor:
            return 2.0 * super().forward(*given, **named)

    own = Doubled(policy.observation_space, features_dim=policy.features_dim)
    own.layers = policy.features_extractor.layers
    policy.features_extractor = policy.pi_features_extractor = policy.vf_features_extractor = own


_CHANGES = (_other_extractor, _other_layer, _other_activation, _pruned, _subclass)


class ChangeOnce(BaseCallback):
    def __init__(self, change: Callable[[Any], None], *, at: int) -> None:
        super().__init__()
        self._change: Callable[[Any], None] | None = change
        self._at = at

    def _on_step(self) -> bool:
        if self._change is not None and self.num_timesteps >= self._at:
            changed(self.model, self._change)
            self._change = None
        return True


def changed(model: BaseAlgorithm, change: Callable[[Any], None]) -> None:
    change(model.policy)
    model.policy.optimizer = torch.optim.Adam(model.policy.parameters(), lr=3e-4)


@pytest.mark.parametrize("change", _CHANGES)
def test_the_loss_reaches_replaced_parts(change: Callable[[Any], None]) -> None:
    model, joined = ppo(), join()
    wanted = {name.replace("weight", "weight_orig") for name in _ALL if ".1.w" in name}
    wanted = (_ALL | wanted) - {"features_extractor.layers.1.weight"} if change is _pruned else _ALL
    assert touched(model, joined, 64) == _ALL
    changed(model, change)
    assert touched(model, joined, 64) == wanted
    seen = joined.memory.observations(joined.memory.rows()[:8])
    model.policy.set_training_mode(False)
    now = model.policy.features_extractor(torch.as_tensor(seen))
    assert joined.learner is not None
    assert torch.equal(joined.learner.encoder(seen), now)
    average = joined.loss.target_keys.averaged_encoder.average  # type: ignore[union-attr]
    average.load_state_dict(joined.learner.encoder.state_dict())
    assert torch.equal(average(seen), now)


@pytest.mark.parametrize("change", [_other_extractor, _other_layer])
def test_the_loss_reaches_parts_replaced_during_learn(change: Callable[[Any], None]) -> None:
    model, joined = ppo(), join()
    assert touched(model, joined, 64) == _ALL
    assert touched(model, joined, 64, ChangeOnce(change, at=100)) == _ALL


def test_dqn_with_a_new_optimiser_during_learn_is_looked_up_again() -> None:
    model, joined = dqn(), join()

    def change(policy: Any) -> None:
        policy.q_net.features_extractor.layers[1] = nn.Linear(4, 128)

    model.learn(128, callback=[ChangeOnce(change, at=64), joined])
    assert joined.learner is not None
    assert joined.learner.optimizer is model.policy.optimizer
    mine = {id(p) for p in model.policy.q_net.features_extractor.parameters()}
    assert {id(p) for p in joined.learner.encoder.parameters()} == mine


# -- frozen and thawed --------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("during", [False, True])
def test_the_loss_reaches_what_is_trainable_now(frozen: tuple[bool, bool], during: bool) -> None:
    first, second = frozen
    model, joined = ppo(), join()
    layer = model.policy.features_extractor.layers[1]
    without = {name for name in _ALL if ".1." not in name}
    layer.requires_grad_(not first)
    assert touched(model, joined, 64) == (without if first else _ALL)
    change = ChangeOnce(lambda policy: layer.requires_grad_(not second), at=64)
    if not during:
        layer.requires_grad_(not second)
    then = touched(model, joined, 64, *([change] if during else []))
    assert then == (without if second else _ALL)


def test_an_optimiser_without_the_frozen_layers_will_do() -> None:
    model, joined = ppo(), join()
    model.policy.features_extractor.layers[1].requires_grad_(False)
    trained = [p for p in model.policy.parameters() if p.requires_grad]
    model.policy.optimizer = torch.optim.Adam(trained, lr=3e-4)
    assert touched(model, joined, 64) == {name for name in _ALL if ".1." not in name}
    model.policy.features_extractor.layers[1].requires_grad_(True)
    with pytest.raises(ValueError, match="optimiser"):
        model.learn(64, callback=joined)


def test_an_encoder_frozen_during_learn_is_refused() -> None:
    model, joined = ppo(), join()
    freeze = ChangeOnce(lambda policy: policy.features_extractor.requires_grad_(False), at=32)
    with pytest.raises(ValueError, match="every parameter of the encoder is frozen"):
        model.learn(64, callback=[freeze, joined])


# -- episodes that go on ------------------------------------------------------------------------


def known(chunks: list[int], make: Callable[[Any], BaseAlgorithm], *, anew: bool) -> Any:
    model, memory = make(Counting()), EpisodicMemory()
    joined = RecordMemory(memory)
    for frames in chunks:
        joined = RecordMemory(memory) if anew else joined
        model.learn(frames, callback=joined, reset_num_timesteps=False)
    rows = memory.rows()
    assert np.array_equal(memory.observations(rows)[:, 0], memory.steps(rows))
    return memory.known_fraction(), len(np.unique(memory.episodes(rows)))


@pytest.mark.parametrize("make", [ppo, dqn])
@pytest.mark.parametrize("anew", [False, True])
def test_learn_in_a_loop_goes_on_in_the_episodes(make: Any, anew: bool) -> None:
    assert known([64] * 4, make, anew=anew) == known([256], make, anew=anew)


def test_episodes_are_cut_where_the_environments_were_reset_or_another_learn_ran() -> None:
    model, memory = ppo(Counting()), EpisodicMemory()
    joined = RecordMemory(memory)

    def n_cut_by(**how: Any) -> int:
        before = len(np.unique(memory.episodes(memory.rows())))
        model.learn(64, callback=joined, **how)
        return len(np.unique(memory.episodes(memory.rows()))) - before

    n_cut_by(reset_num_timesteps=False)  # 64 frames: one episode, and 14 steps
    assert n_cut_by(reset_num_timesteps=False) == 1  # 128: two episodes, and 28 steps
    assert n_cut_by(reset_num_timesteps=True) == 2
    model.learn(64, reset_num_timesteps=False)
    assert n_cut_by(reset_num_timesteps=False) == 2
    model.set_env(Counting())
    assert n_cut_by(reset_num_timesteps=False) == 2


# -- callbacks that are not called --------------------------------------------------------------


def in_every_n(joined: BaseCallback) -> BaseCallback:
    return EveryNTimesteps(7, joined)


def in_every_1(joined: BaseCallback) -> BaseCallback:
    return EveryNTimesteps(1, joined)


def in_an_evaluation(joined: BaseCallback) -> BaseCallback:
    env = gym.make("CartPole-v1")
    return EvalCallback(env, callback_after_eval=joined, eval_freq=20, n_eval_episodes=1, verbose=0)


def at_a_new_best(joined: BaseCallback) -> BaseCallback:
    """Here Stable-Baselines3 does not even tell the callback that the training starts."""
    env = gym.make("CartPole-v1")
    return EvalCallback(
        env, callback_on_new_best=joined, eval_freq=20, n_eval_episodes=1, verbose=0
    )


@pytest.mark.parametrize("place", [in_every_n, in_every_1, in_an_evaluation, at_a_new_best])
@pytest.mark.parametrize("make", [ppo, dqn])
def test_a_callback_that_is_not_called_at_every_step_is_refused(place: Any, make: Any) -> None:
    joined = join()
    with pytest.raises(ValueError, match=r"not called at every step.*pass it to learn\(\) itself"):
        make().learn(128, callback=place(joined))
    assert len(joined.memory) == 0


@pytest.mark.parametrize("place", [in_every_n, in_an_evaluation, at_a_new_best])
def test_a_recorder_that_is_not_called_at_every_step_is_refused(place: Any) -> None:
    with pytest.raises(ValueError, match="RecordMemory is not called at every step"):
        ppo().learn(64, callback=place(RecordMemory(EpisodicMemory())))


class OwnOptimiser(PPO):
    """Steps an optimiser of its own, not the policy's."""

    def train(self) -> None:
        plain = self.policy.optimizer
        self.policy.optimizer = torch.optim.Adam(self.policy.parameters(), lr=3e-4)
        super().train()
        self.policy.optimizer = plain


def own_optimiser() -> PPO:
    kwargs = _VECTORS | {"net_arch": [16]}
    return OwnOptimiser("MlpPolicy", "CartPole-v1", n_steps=64, seed=0, policy_kwargs=kwargs)


@pytest.mark.parametrize(
    "make, frames, weight, said",
    [(own_optimiser, 64, 0.5, 1), (dqn, 20, 0.5, 1), (dqn, 20, 0.0, 0), (ppo, 64, 0.5, 0)],
)
def test_a_learn_without_a_step_is_reported(
    make: Callable[[], BaseAlgorithm],
    frames: int,
    weight: float,
    said: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        make().learn(frames, callback=join(weight=weight))
    texts = [record.getMessage() for record in caplog.records]
    assert sum("no step of the optimiser (Adam)" in text for text in texts) == said
