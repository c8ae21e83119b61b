"""A known sensor, undone by `fold`: the policy gives the source's outputs, to rounding."""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN, TQC, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecFrameStack
from torch import Tensor, nn

from contrastive_distillation.agents import VectorEncoder
from contrastive_distillation.agents.realignment.folding import fold, synchronise_targets

from .small_envs import drifts, linear, same_weights, weights_of

ENCODER = {
    "features_extractor_class": VectorEncoder,
    "features_extractor_kwargs": {"features_dim": 16, "hidden_dims": (16,)},
    "net_arch": [16],
}
SMALL = {"net_arch": [16, 16]}
CASES: dict[str, tuple[type[BaseAlgorithm], dict[str, Any], int]] = {
    "ppo": (PPO, SMALL, 2),
    "ppo-encoder": (PPO, ENCODER, 1),
    "ppo-separate": (PPO, ENCODER | {"share_features_extractor": False}, 2),
    "a2c": (A2C, SMALL, 2),
    "maskable": (MaskablePPO, SMALL, 2),
    "recurrent": (RecurrentPPO, ENCODER | {"lstm_hidden_size": 16}, 1),
    "dqn": (DQN, SMALL, 1),
    "dqn-encoder": (DQN, ENCODER, 1),
    "qrdqn": (QRDQN, SMALL, 1),
    "sac": (SAC, SMALL, 3),
    "sac-shared": (SAC, ENCODER | {"share_features_extractor": True}, 1),
    "sac-separate": (SAC, ENCODER, 2),
    "td3": (TD3, SMALL, 3),
    "td3-separate": (TD3, ENCODER, 2),
    "tqc": (TQC, SMALL, 3),
}
"""An algorithm, its networks, and how many of its layers read the observation."""


def build(
    kind: type[BaseAlgorithm], env: Any, seed: int, kwargs: dict[str, Any] | None = None
) -> BaseAlgorithm:
    name = "MlpLstmPolicy" if kind is RecurrentPPO else "MlpPolicy"
    if isinstance(env.observation_space, gym.spaces.Dict):
        name = "MultiInputPolicy"
    settings: Any = (
        {"buffer_size": 100} if "buffer_size" in inspect.signature(kind).parameters else {}
    )
    made: Any = kind
    model: BaseAlgorithm = made(
        name, env, policy_kwargs=dict(kwargs or SMALL), seed=seed, device="cpu", **settings
    )
    return model


@torch.no_grad()
def outputs(model: BaseAlgorithm, observations: Any) -> list[Tensor]:
    """What every network of a policy, target copies too, says of observations."""
    policy: Any = model.policy
    seen: Any = obs_as_tensor(observations, model.device)
    if hasattr(policy, "lstm_actor"):
        policy.set_training_mode(False)
        n = len(observations)
        state = (torch.zeros(1, n, 16), torch.zeros(1, n, 16))
        begins = torch.zeros(n)
        distribution, _ = policy.get_distribution(seen, state, begins)
        return [distribution.distribution.logits, policy.predict_values(seen, state, begins)]
    for name in ("q_net", "quantile_net"):
        if hasattr(policy, name):
            return [getattr(policy, name)(seen), getattr(policy, f"{name}_target")(seen)]
    if hasattr(policy, "critic"):
        actions = torch.linspace(-1.0, 1.0, 2 * len(observations)).view(-1, 2)
        found = [policy.critic(seen, actions), policy.critic_target(seen, actions)]
        values = [
            value for each in found for value in (each if isinstance(each, tuple) else [each])
        ]
        return [policy._predict(seen, deterministic=True), *values]
    return [policy.get_distribution(seen).distribution.logits, policy.predict_values(seen)]


def folded(
    source: BaseAlgorithm, target: BaseAlgorithm, number: int, n_seen: int, example: Any, n: int = 1
) -> list[str]:
    """Write the map that undoes a sensor into the target."""
    _, matrix, offset = linear(number, n_seen)
    return fold(
        target,
        source.policy.state_dict(),
        torch.as_tensor(matrix, dtype=torch.float32),
        torch.as_tensor(offset, dtype=torch.float32),
        example=example,
        n_frames=n,
    )


def assert_same(own: list[Tensor], wanted: list[Tensor]) -> None:
    for first, second in zip(own, wanted, strict=True):
        torch.testing.assert_close(first, second, atol=5e-5, rtol=1e-4)


def seen(n: int = 8, width: int = 4) -> np.ndarray:
    drawn: np.ndarray = np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)
    return drawn


@pytest.mark.parametrize("name", CASES)
def test_a_known_sensor_is_undone_in_every_network(name: str) -> None:
    kind, kwargs, n_layers = CASES[name]
    sensor = linear(3)[0]
    env = drifts(1, continuous=kind in (SAC, TD3, TQC))
    source, target = build(kind, env, 0, kwargs), build(kind, env, 1, kwargs)
    target.policy.load_state_dict(source.policy.state_dict())
    synchronise_targets(source.policy)
    shown = sensor(seen()).astype(np.float32)
    wanted = outputs(source, seen())
    with pytest.raises(AssertionError):
        assert_same(outputs(target, shown), wanted)
    generator = torch.get_rng_state()
    assert len(folded(source, target, 3, 4, shown)) == n_layers
    assert torch.equal(torch.get_rng_state(), generator)
    assert_same(outputs(target, shown), wanted)


@pytest.mark.parametrize("kind", [PPO, DQN, SAC], ids=lambda kind: kind.__name__)
def test_a_sensor_of_more_dimensions_is_undone(kind: type[BaseAlgorithm]) -> None:
    sensor = linear(4, 6)[0]
    source = build(kind, drifts(1, continuous=kind is SAC), 0)
    target = build(kind, drifts(1, continuous=kind is SAC, sensor=sensor), 1)
    own = target.policy.state_dict()
    same = {n: v for n, v in source.policy.state_dict().items() if own[n].shape == v.shape}
    target.policy.load_state_dict(own | same)
    synchronise_targets(source.policy)
    shown = sensor(seen()).astype(np.float32)
    folded(source, target, 4, 6, shown)
    assert_same(outputs(target, shown), outputs(source, seen()))


def test_every_frame_of_a_stack_gets_the_map() -> None:
    sensor = linear(5)[0]
    env = VecFrameStack(drifts(1), 3)
    source, target = build(PPO, env, 0), build(PPO, env, 1)
    target.policy.load_state_dict(source.policy.state_dict())
    frames = seen(8, 12).reshape(8, 3, 4)
    shown = sensor(frames).astype(np.float32).reshape(8, 12)
    folded(source, target, 5, 4, shown, 3)
    assert_same(outputs(target, shown), outputs(source, frames.reshape(8, 12)))


def test_a_map_over_all_keys_of_a_dict() -> None:
    sensor = linear(6)[0]
    env = drifts(1, as_dict=True)
    source, target = build(PPO, env, 0), build(PPO, env, 1)
    target.policy.load_state_dict(source.policy.state_dict())

    def parted(rows: np.ndarray) -> dict[str, np.ndarray]:
        rows = rows.astype(np.float32)
        return {"place": rows[:, :2], "speed": rows[:, 2:]}

    folded(source, target, 6, 4, parted(sensor(seen())))
    assert_same(outputs(target, parted(sensor(seen()))), outputs(source, parted(seen())))


class Own(BaseFeaturesExtractor):
    """A user's extractor, whose first layer a test chooses."""

    def __init__(self, space: gym.spaces.Box, first: str) -> None:
        super().__init__(space, 8)
        self.first: nn.Module = nn.Linear(4, 8, bias=first != "no bias")
        if first == "spectral norm":
            self.first = nn.utils.parametrizations.spectral_norm(self.first)
        if first == "weight norm":
            self.first = nn.utils.weight_norm(self.first)
        self.scale = 0.1 if first == "scaled" else 1.0
        self.width = 2 if first == "part" else 4
        if first == "part":
            self.first = nn.Linear(2, 8)

    def forward(self, observations: Tensor) -> Tensor:
        return torch.relu(self.first(self.scale * observations[:, : self.width]))


@pytest.mark.parametrize(
    ("first", "text"),
    [
        ("spectral norm", "not a plain linear layer"),
        ("weight norm", "not a plain linear layer"),
        ("no bias", "has no bias"),
        ("scaled", "something computed from it"),
        ("part", "a part of the observation"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_layer_that_cannot_take_a_map_is_refused(first: str, text: str) -> None:
    kwargs = {"features_extractor_class": Own, "features_extractor_kwargs": {"first": first}}
    model = build(PPO, drifts(1), 0, kwargs)
    before = weights_of(model)
    with pytest.raises(ValueError, match=text) as refused:
        folded(model, model, 3, 4, seen())
    assert "layers=[" in str(refused.value)
    assert same_weights(weights_of(model), before)


def test_a_plain_layer_of_ones_own_takes_it() -> None:
    kwargs = {"features_extractor_class": Own, "features_extractor_kwargs": {"first": "plain"}}
    source, target = build(PPO, drifts(1), 0, kwargs), build(PPO, drifts(1), 1, kwargs)
    target.policy.load_state_dict(source.policy.state_dict())
    shown = linear(3)[0](seen()).astype(np.float32)
    assert folded(source, target, 3, 4, shown) == ["features_extractor.first"]
    assert_same(outputs(target, shown), outputs(source, seen()))


def test_a_recurrent_layer_that_reads_the_observation_is_refused() -> None:
    model = build(RecurrentPPO, drifts(1), 0, {"lstm_hidden_size": 16})
    with pytest.raises(ValueError, match="'lstm_actor' reads the observation and is a LSTM"):
        folded(model, model, 3, 4, seen())
