"""The frozen policy of a source: a copy that stays, and says what the policy says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    FrozenPolicy,
    VectorEncoder,
    policy_sha256,
)
from contrastive_distillation.losses import AuxiliaryLoss, Kickstarting
from contrastive_distillation.memory import EpisodicMemory

KWARGS: dict[str, Any] = {"features_extractor_class": VectorEncoder, "net_arch": [16]}
SETTINGS: dict[type[BaseAlgorithm], dict[str, Any]] = {
    PPO: {"n_steps": 32, "batch_size": 32, "n_epochs": 1},
    DQN: {"learning_starts": 16, "batch_size": 16},
}
OBSERVATIONS = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)


def trained(algorithm: type[BaseAlgorithm], *, seed: int = 0, **kwargs: Any) -> BaseAlgorithm:
    env = make_vec_env("CartPole-v1", n_envs=2, seed=seed)
    settings = SETTINGS[algorithm] | {"seed": seed, "policy_kwargs": KWARGS | kwargs}
    return algorithm("MlpPolicy", env, **settings).learn(96)


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_it_says_what_the_policy_says_and_stays(algorithm: type[BaseAlgorithm]) -> None:
    model = trained(algorithm)
    frozen = FrozenPolicy.from_model(model)  # right after learn(): a graph hangs on the policy
    with torch.no_grad():
        tensors = torch.as_tensor(OBSERVATIONS)
        if algorithm is PPO:
            wanted = model.policy.get_distribution(tensors).distribution.logits
        else:
            wanted = model.policy.q_net(tensors)
    assert torch.equal(frozen.logits(OBSERVATIONS), wanted)
    assert frozen.acts_by == ("probabilities" if algorithm is PPO else "values")
    model.learn(96)
    assert torch.equal(frozen.logits(OBSERVATIONS), wanted)
    assert not frozen.logits(OBSERVATIONS).requires_grad
    assert frozen.weights.keys() == dict(model.policy.named_parameters()).keys()


def test_nothing_of_the_model_changes_and_nothing_is_dragged_along() -> None:
    model = trained(PPO)
    model.policy.features_extractor.register_forward_hook(lambda *_: None)
    model.policy.features_extractor.register_full_backward_hook(lambda *_: None)
    before, state = policy_sha256(model), torch.get_rng_state()
    frozen = FrozenPolicy.from_model(model)
    assert policy_sha256(model) == before and torch.equal(torch.get_rng_state(), state)
    assert frozen.policy.optimizer is None and model.policy.optimizer is not None
    assert len(model.policy.features_extractor._forward_hooks) == 1
    assert len(frozen.policy.features_extractor._forward_hooks) == 1
    assert len(model.policy.features_extractor._backward_hooks) == 1
    assert not any(module._backward_hooks for module in frozen.modules())
    assert not frozen.training
    assert all(parameter.requires_grad for parameter in model.policy.parameters())


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_from_weights(algorithm: type[BaseAlgorithm]) -> None:
    source, target = trained(algorithm), trained(algorithm, seed=1)
    before = policy_sha256(target)
    frozen = FrozenPolicy.from_weights(source.policy.state_dict(), like=target)
    wanted = FrozenPolicy.from_model(source).logits(OBSERVATIONS)
    assert torch.equal(frozen.logits(OBSERVATIONS), wanted)
    assert policy_sha256(target) == before


def test_weights_that_do_not_fit_are_told() -> None:
    weights = trained(PPO, net_arch=[8]).policy.state_dict()
    with pytest.raises(ValueError, match=r"'mlp_extractor.policy_net.0.weight' should be .*found"):
        FrozenPolicy.from_weights(weights, like=trained(PPO))
    del weights["action_net.bias"]
    with pytest.raises(ValueError, match=r"do not fit: 'action_net\.bias' .* found nothing"):
        FrozenPolicy.from_weights(weights, like=trained(PPO, net_arch=[8]))


def test_the_sources_statistics_are_taken_along() -> None:
    env = VecNormalize(make_vec_env("CartPole-v1", n_envs=2, seed=0))
    model = PPO("MlpPolicy", env, policy_kwargs=KWARGS, seed=0, **SETTINGS[PPO]).learn(96)
    frozen = FrozenPolicy.from_model(model)
    seen = torch.as_tensor(env.normalize_obs(OBSERVATIONS))
    with torch.no_grad():
        wanted = model.policy.get_distribution(seen).distribution.logits
    env.obs_rms.mean += 5.0
    assert torch.equal(frozen.logits(OBSERVATIONS), wanted)


def test_actions_without_logits_are_told() -> None:
    model = SAC("MlpPolicy", "Pendulum-v1", seed=0)
    frozen = FrozenPolicy.from_model(model)
    assert frozen.acts_by == "other"
    with pytest.raises(ValueError, match=r"SACPolicy on Box.* has no logits of discrete actions"):
        frozen.logits(np.zeros((2, 3), dtype=np.float32))


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_fisher_information(algorithm: type[BaseAlgorithm]) -> None:
    """Each action's gradient by hand; weights that the logits do not depend on are left out."""
    model = trained(algorithm)
    frozen = FrozenPolicy.from_model(model)
    found = frozen.fisher_information(OBSERVATIONS[:4])
    wanted = {name: torch.zeros_like(p) for name, p in model.policy.named_parameters()}
    for observation in OBSERVATIONS[:4]:
        for action in range(2):
            tensors = torch.as_tensor(observation)[None]
            if algorithm is PPO:
                log_chance = model.policy.get_distribution(tensors).log_prob(torch.tensor(action))
            else:
                log_chance = model.policy.q_net(tensors).log_softmax(dim=1)[0, action]
            model.policy.zero_grad()
            log_chance.backward()
            for name, parameter in model.policy.named_parameters():
                if parameter.grad is not None:
                    wanted[name] += log_chance.detach().exp().squeeze() * parameter.grad**2 / 4
    assert len(found) == 8
    for name, total in wanted.items():
        expected = found.get(name, torch.zeros_like(total))
        torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-9)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert all(parameter.grad is None for parameter in frozen.parameters())


def join(loss: AuxiliaryLoss) -> AuxiliaryLossCallback:
    return AuxiliaryLossCallback(loss, memory=EpisodicMemory(capacity=200), n_anchors=8, every=1)


def test_a_source_with_other_observations_or_actions_is_refused() -> None:
    for env_id, what in (("Acrobot-v1", "acts in Discrete"), ("MountainCar-v0", "acts in")):
        env = make_vec_env(env_id, n_envs=2, seed=0)
        other = PPO("MlpPolicy", env, policy_kwargs=KWARGS, seed=0, **SETTINGS[PPO])
        loss = Kickstarting(source_policy=FrozenPolicy.from_model(other))
        with pytest.raises(ValueError, match=what):
            trained(PPO).learn(64, callback=join(loss))


def test_logit_parameters_are_those_the_logits_depend_on() -> None:
    names: dict[type[BaseAlgorithm], set[str]] = {}
    for algorithm in (PPO, DQN):
        model, joined = trained(algorithm), join(Features())
        model.learn(64, callback=joined)
        assert joined.learner is not None
        wanted = {id(p) for p in joined.learner.logit_parameters()}
        named = model.policy.named_parameters()
        names[algorithm] = {name.split(".")[0] for name, p in named if id(p) in wanted}
        assert len(wanted) == 8
    assert names == {PPO: {"features_extractor", "mlp_extractor", "action_net"}, DQN: {"q_net"}}


def test_the_value_function_has_no_part_in_logits() -> None:
    model, joined = trained(PPO), join(Features())
    model.learn(64, callback=joined)
    assert joined.learner is not None
    mine = {id(p) for p in joined.learner.logit_parameters()}
    for name, parameter in model.policy.named_parameters():
        if name.startswith(("value_net", "mlp_extractor.value_net")):
            assert id(parameter) not in mine
        else:
            assert id(parameter) in mine, name


class Features(AuxiliaryLoss):
    """The size of the features."""

    name = "features"

    def forward(self, learner: Any, batch: Any) -> Any:
        return {"features": learner.encoder(batch.observations).square().mean()}


def test_parameters_that_no_step_reaches_are_refused() -> None:
    class Target(Features):
        def changed_parameters(self, learner: Any) -> Any:
            return list(learner.policy.q_net_target.parameters())

    with pytest.raises(ValueError, match=r"features changes parameters .* optimiser does not step"):
        trained(DQN).learn(64, callback=join(Target()))
