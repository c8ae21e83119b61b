"""The loss reaches the encoder of every algorithm in which one optimiser owns it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    FrozenTeacher,
    VectorEncoder,
    find_encoder,
    policy_sha256,
)
from contrastive_distillation.losses import LOSSES, ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory

sb3_contrib = pytest.importorskip("sb3_contrib")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

OFF_POLICY: dict[str, Any] = {"learning_starts": 16, "batch_size": 16, "buffer_size": 500}
ON_POLICY: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2}
SMALL: dict[str, Any] = {
    "features_extractor_class": VectorEncoder,
    "features_extractor_kwargs": {"features_dim": 16, "hidden_dims": (16,)},
    "net_arch": [16],
}

ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], str, dict[str, Any]]] = {
    "PPO": (PPO, "CartPole-v1", ON_POLICY),
    "A2C": (A2C, "CartPole-v1", {"n_steps": 16}),
    "DQN": (DQN, "CartPole-v1", OFF_POLICY),
    "QRDQN": (sb3_contrib.QRDQN, "CartPole-v1", OFF_POLICY),
    "MaskablePPO": (sb3_contrib.MaskablePPO, "CartPole-v1", ON_POLICY),
    "RecurrentPPO": (sb3_contrib.RecurrentPPO, "CartPole-v1", ON_POLICY),
    "SAC": (SAC, "Pendulum-v1", OFF_POLICY),
    "TD3": (TD3, "Pendulum-v1", OFF_POLICY),
    "DDPG": (DDPG, "Pendulum-v1", OFF_POLICY),
    "TQC": (sb3_contrib.TQC, "Pendulum-v1", OFF_POLICY),
    "CrossQ": (sb3_contrib.CrossQ, "Pendulum-v1", OFF_POLICY),
}
CONTINUOUS = ["SAC", "TD3", "TQC"]
ONLY_FOR = {
    "kickstarting": ["PPO"],
    "qdagger": ["DQN"],
    "ewc": ["PPO", "DQN"],
    "rehearsal": ["PPO", "DQN"],
}
"""Losses that are not for all of them."""
NOTHING_TO_LEARN = {("value_contrast_positives", "SAC")}  # Pendulum's returns are never known
WITH_TRUNK = [name for name in ALGORITHMS if name != "RecurrentPPO"]


def make(name: str, *, n_envs: int = 1, **policy_kwargs: Any) -> BaseAlgorithm:
    algorithm, env_id, settings = ALGORITHMS[name]
    policy = "MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy"
    env = make_vec_env(env_id, n_envs=n_envs, seed=0)
    return algorithm(policy, env, policy_kwargs=policy_kwargs or None, seed=0, **settings)


def unmasked(name: str) -> dict[str, bool]:
    return {"use_masking": False} if name == "MaskablePPO" else {}


def join(**settings: Any) -> AuxiliaryLossCallback:
    loss = settings.pop("loss", None) or ContrastiveDistillation(n_negatives=16)
    defaults = {"memory": EpisodicMemory(capacity=500), "weight": 0.3, "n_anchors": 16, "every": 1}
    return AuxiliaryLossCallback(loss, **(defaults | settings))


def encoder_of(model: BaseAlgorithm, joined: AuxiliaryLossCallback) -> list[nn.Module]:
    assert joined.learner is not None
    return list(joined.learner.encoder.stages)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_encoders_gradient_changes(name: str, assert_changed: Callable[..., None]) -> None:
    joined = join(diagnostics_frames=16)
    assert_changed(make(name, **SMALL), joined, 64, **unmasked(name))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_weight_zero_is_bit_identical_to_stock(name: str) -> None:
    stock = make(name, **SMALL).learn(64, **unmasked(name))
    joined = join(weight=0.0, diagnostics_frames=16)
    with_loss = make(name, **SMALL).learn(64, callback=joined, **unmasked(name))
    assert policy_sha256(with_loss) == policy_sha256(stock)
    assert len(joined.memory) >= 64 and joined.n_updates == 0


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_hook_is_left_after_learn(name: str) -> None:
    model = make(name, **SMALL)
    model.learn(48, callback=join(), **unmasked(name))
    owners = [module for module in model.policy.modules() if hasattr(module, "optimizer")]
    assert owners
    for owner in owners:
        assert not owner.optimizer._optimizer_step_pre_hooks
        assert not owner.optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("every", [2, 5])
@pytest.mark.parametrize("name", ["PPO", "DQN"])
def test_every_so_many_steps(name: str, every: int, gradients: Callable[..., Any]) -> None:
    joined = join(every=every)
    before, after = gradients(make(name, **SMALL), joined, 96)
    changed = [bool((a != b).any()) for a, b in zip(before, after, strict=True)]
    assert changed == [step % every == 0 for step in range(1, len(changed) + 1)]
    assert sum(changed) > 1


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["PPO", "DQN", "SAC"])
def test_every_registered_loss_reaches_the_encoder_or_says_why_not(
    loss: str, name: str, gradients: Callable[..., Any], make_rival: Callable[..., Any]
) -> None:
    source, memory = make(name, **SMALL), EpisodicMemory(capacity=200)
    source.learn(64, callback=join(memory=memory, weight=0.0))
    joined = join(loss=make_rival(loss, source), source_memory=memory)
    if name in ONLY_FOR.get(loss, (name,)):
        before, after = gradients(make(name, **SMALL), joined, 64)
        assert joined.n_updates > 0
        changed = any(bool((a != b).any()) for a, b in zip(before, after, strict=True))
        assert changed == ((loss, name) not in NOTHING_TO_LEARN)
    else:
        with pytest.raises(ValueError, match=f"{loss} needs"):
            gradients(make(name, **SMALL), joined, 64)


# -- which encoder, and whose optimiser ---------------------------------------------------------


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("network", ["actor", "critic"])
def test_actor_and_critic_can_be_named(
    name: str, network: str, assert_changed: Callable[..., None]
) -> None:
    model, joined = make(name, **SMALL), join(encoder=network)
    assert_changed(model, joined, 48)
    owner = getattr(model.policy, network)
    assert encoder_of(model, joined) == [owner.features_extractor]
    assert find_encoder(model, network)[1] is owner.optimizer


@pytest.mark.parametrize("name", CONTINUOUS)
def test_a_shared_extractor_belongs_to_the_actor(
    name: str, assert_changed: Callable[..., None]
) -> None:
    model, joined = make(name, share_features_extractor=True, **SMALL), join()
    assert model.policy.actor.features_extractor is model.policy.critic.features_extractor
    assert find_encoder(model)[1] is model.policy.actor.optimizer
    assert_changed(model, joined, 48)


@pytest.mark.parametrize("name", ["PPO", "A2C", "MaskablePPO", "RecurrentPPO"])
@pytest.mark.parametrize("network", ["policy", "value"])
def test_separate_extractors_are_changed_one_by_one(
    name: str, network: str, assert_changed: Callable[..., None]
) -> None:
    model = make(name, share_features_extractor=False, **SMALL)
    joined = join(encoder=network)
    assert_changed(model, joined, 48, **unmasked(name))
    here = {"policy": "pi_features_extractor", "value": "vf_features_extractor"}[network]
    assert encoder_of(model, joined) == [getattr(model.policy, here)]
    assert model.policy.pi_features_extractor is not model.policy.vf_features_extractor


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_encoder_without_parameters_is_refused_with_a_way_out(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.* has no encoder with parameters") as refused:
        make(name).learn(32, callback=join(), **unmasked(name))
    assert "FlattenExtractor" in str(refused.value)
    assert "features_extractor_class=VectorEncoder" in str(refused.value)
    assert ("or name a trunk" in str(refused.value)) == (name in WITH_TRUNK)


@pytest.mark.parametrize("name", WITH_TRUNK)
def test_the_trunk_that_is_offered_works(name: str, assert_changed: Callable[..., None]) -> None:
    model = make(name)
    with pytest.raises(ValueError, match="or name a trunk") as refused:
        find_encoder(model)
    path = str(refused.value).split('encoder="')[1].split('"')[0]
    assert_changed(model, join(encoder=path), 48, **unmasked(name))


def test_a_trunk_after_an_extractor_takes_the_extractor_along() -> None:
    model = make("PPO", **SMALL)
    encoder, _ = find_encoder(model, "mlp_extractor.policy_net")
    extractor, trunk = model.policy.features_extractor, model.policy.mlp_extractor.policy_net
    assert list(encoder.stages) == [extractor, trunk]
    part, _ = find_encoder(make("DQN"), "q_net.q_net.1")
    assert part.n_features == 64 and [type(m) for m in part.stages[1]] == [nn.Linear, nn.ReLU]


@pytest.mark.parametrize("name", ["TRPO", "ARS"])
def test_algorithms_without_optimiser_steps_are_refused(name: str) -> None:
    algorithm = getattr(sb3_contrib, name)
    model = algorithm("MlpPolicy", make_vec_env("CartPole-v1", n_envs=1, seed=0), seed=0)
    with pytest.raises(ValueError, match=rf"{name} .*use PPO, A2C, DQN"):
        model.learn(32, callback=join())


def test_a_model_of_trpo_may_still_teach(assert_changed: Callable[..., None]) -> None:
    env = make_vec_env("CartPole-v1", n_envs=1, seed=0)
    source = sb3_contrib.TRPO("MlpPolicy", env, policy_kwargs=dict(SMALL), n_steps=16)
    teacher = FrozenTeacher.from_model(source)
    loss = ContrastiveDistillation(teacher=teacher, target_weight=0.0, source_anneal="constant")
    assert_changed(make("PPO", **SMALL), join(loss=loss), 64)


class Backbone(nn.Module):
    """What a policy of one's own may have in place of Stable-Baselines3's layers."""

    latent_dim_pi = latent_dim_vf = 16

    def __init__(self, space: gym.Space[Any]) -> None:
        super().__init__()
        self.shared_encoder = VectorEncoder(space, features_dim=16, hidden_dims=())

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        return self.shared_encoder(features)  # type: ignore[no-any-return]

    forward_critic = forward_actor


class OwnPolicy(ActorCriticPolicy):
    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = Backbone(self.observation_space)  # type: ignore[assignment]


def test_an_extractor_at_a_place_of_ones_own_is_found(assert_changed: Callable[..., None]) -> None:
    model = PPO(OwnPolicy, make_vec_env("CartPole-v1", n_envs=1, seed=0), seed=0, **ON_POLICY)
    joined = join()
    assert_changed(model, joined, 64)
    assert encoder_of(model, joined) == [model.policy.mlp_extractor.shared_encoder]


def test_an_encoder_that_no_optimiser_owns_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no optimiser of DQN owns .*use encoder='auto'"):
        find_encoder(make("DQN", **SMALL), "q_net_target.features_extractor")


@pytest.mark.parametrize("path", ["mlp_extractor.no_such_net", "value", "nonsense"])
def test_an_unknown_path_is_refused_with_those_there_are(path: str) -> None:
    with pytest.raises(ValueError, match=rf"no encoder '{path}'; choose 'auto' or one of \['poli"):
        find_encoder(make("DQN", **SMALL), path)


def test_layers_that_do_not_follow_the_extractor_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be run on observations of Box"):
        find_encoder(make("RecurrentPPO"), "mlp_extractor.policy_net")
    with pytest.raises(ValueError, match="cannot be run on observations of Box"):
        find_encoder(make("SAC", **SMALL), "critic.qf0")


# -- the saved model ----------------------------------------------------------------------------

LOADS_ALONE = """
import sys
sys.modules["contrastive_distillation"] = None  # importing it now fails
sys.path.insert(0, "")
try:
    import contrastive_distillation
except ImportError:
    pass
else:
    raise SystemExit("the package can still be imported")
import {module}
model = {module}.{name}.load(sys.argv[1], device="cpu")
print(model.predict(model.observation_space.sample())[0])
assert not [m for m in sys.modules if m.startswith("contrastive_distillation.")]
"""


@pytest.mark.parametrize("name", ["PPO", "DQN", "SAC", "QRDQN"])
def test_the_zip_loads_in_a_process_without_this_package(name: str, tmp_path: Path) -> None:
    model = make(name)
    path = {"PPO": "mlp_extractor.policy_net", "SAC": "actor.latent_pi"}
    paths = {"DQN": "q_net.q_net.3", "QRDQN": "quantile_net.quantile_net.3"} | path
    joined = join(encoder=paths[name])
    model.learn(48, callback=joined)
    assert joined.n_updates > 0
    model.save(tmp_path / "model.zip")
    module = "sb3_contrib" if name == "QRDQN" else "stable_baselines3"
    program = LOADS_ALONE.format(module=module, name=name)
    arguments = [sys.executable, "-c", program, str(tmp_path / "model.zip")]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [*ALGORITHMS, "TRPO"])
def test_every_zip_can_teach(name: str, tmp_path: Path) -> None:
    if name == "TRPO":
        env = make_vec_env("CartPole-v1", n_envs=1, seed=0)
        model = sb3_contrib.TRPO("MlpPolicy", env, policy_kwargs=dict(SMALL), n_steps=16)
    else:
        model = make(name, **SMALL)
    model.save(tmp_path / "model.zip")
    seen = np.random.default_rng(0).uniform(-1.0, 1.0, (5, *model.observation_space.shape))
    expected = FrozenTeacher.from_model(model)(seen.astype(np.float32))
    module = VectorEncoder(model.observation_space, **SMALL["features_extractor_kwargs"])
    for given in ({"trust": True}, {"encoder": module}):
        teacher = FrozenTeacher.from_zip(tmp_path / "model.zip", **given)
        torch.testing.assert_close(teacher(seen.astype(np.float32)), expected)
