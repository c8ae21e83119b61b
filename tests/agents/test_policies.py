"""Policies that look at each distinct observation once are the plain ones to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    PictureEncoder,
    build_agent,
    default_callbacks,
    distinct_rows,
)
from contrastive_distillation.agents.distinct_rows import distinct_observations
from contrastive_distillation.envs import make_vec
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory

GRIDS = ["MiniGrid-Empty-Random-5x5-v0"]


def built(agent: str, observation: str, **settings: Any) -> BaseAlgorithm:
    env = make_vec(GRIDS, 4, 0, backend="gymnasium", observation=observation)
    return build_agent(agent, env, seed=0, **settings)


def repeated(space: gym.Space[Any], n_rows: int, n_distinct: int, seed: int) -> Any:
    space.seed(seed)
    rng = np.random.default_rng(seed)
    some = [space.sample() for _ in range(n_distinct)]
    chosen = [some[i] for i in rng.integers(0, n_distinct, n_rows)]
    if not isinstance(space, gym.spaces.Dict):
        return torch.as_tensor(np.stack(chosen))
    return {key: torch.as_tensor(np.stack([each[key] for each in chosen])) for key in space}


def length(observations: Any) -> int:
    first = next(iter(observations.values())) if isinstance(observations, dict) else observations
    return len(first)


@settings(max_examples=60, deadline=None)
@given(
    n_rows=st.integers(0, 40),
    n_distinct=st.integers(1, 30),
    n_bytes=st.integers(1, 19),
    highest=st.sampled_from([1, 2, 255]),
    n_keys=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
@example(n_rows=0, n_distinct=1, n_bytes=8, highest=1, n_keys=0, seed=0)
def test_distinct_ones_stand_for_all(
    n_rows: int, n_distinct: int, n_bytes: int, highest: int, n_keys: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    some = rng.integers(0, highest + 1, (n_distinct, max(n_keys, 1), n_bytes)).astype(np.uint8)
    rows = torch.as_tensor(some[rng.integers(0, n_distinct, n_rows)])
    keyed = {str(k): rows[:, k] for k in range(n_keys)}
    found = distinct_observations(keyed if n_keys else rows[:, 0])
    n_different = len(torch.unique(rows.flatten(1), dim=0)) if n_rows else 0
    if n_rows < 2 or n_different > 0.9 * n_rows:
        assert found is None
        return
    assert found is not None
    taken, inverse = found
    for key, part in (taken if isinstance(taken, dict) else {"0": taken}).items():
        assert len(part) == n_different
        assert torch.equal(part[inverse], rows[:, int(key)])


def test_observations_that_differ_in_any_one_bit_differ() -> None:
    for n_bytes in (8, 11):
        one_bit = torch.zeros(8 * n_bytes + 1, n_bytes, dtype=torch.uint8)
        for bit in range(8 * n_bytes):
            one_bit[bit, bit // 8] = 1 << (bit % 8)
        found = distinct_observations(torch.cat([one_bit, one_bit]))
        assert found is not None
        assert len(found[0]) == 8 * n_bytes + 1


def test_what_cannot_be_told_apart_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    bytes_ = torch.tensor([[1, 2], [3, 4], [1, 2], [1, 2]], dtype=torch.uint8)
    assert distinct_observations(bytes_) is not None
    assert distinct_observations(bytes_.float()) is None
    assert distinct_observations({"a": bytes_, "b": bytes_.long()}) is None
    zeros = lambda width, device: torch.zeros(width, dtype=torch.int64)  # noqa: E731
    monkeypatch.setattr(distinct_rows, "_multipliers", zeros)  # every hash collides
    assert distinct_observations(bytes_) is None


@pytest.mark.parametrize("observation", ["auto", "picture"])
@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_outputs_and_gradients(agent: str, observation: str) -> None:
    model = built(agent, observation)
    batch = repeated(model.observation_space, 60, 9, seed=1)
    actions = torch.arange(60) % 7

    def results() -> list[torch.Tensor]:
        policy: Any = model.policy
        policy.zero_grad()
        if agent == "ppo":
            torch.manual_seed(0)
            outputs = [*policy.evaluate_actions(batch, actions), *policy(batch)]
        else:
            outputs = [policy.q_net(batch), policy.q_net_target(batch)]
        mixed = [
            (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum() for out in outputs
        ]
        sum(mixed).backward()  # type: ignore[union-attr]
        return [out.detach() for out in outputs] + [
            p.grad for p in policy.parameters() if p.grad is not None
        ]

    encoded: list[int] = []
    for name, module in model.policy.named_modules():
        if name.endswith("features_extractor"):
            module.register_forward_pre_hook(lambda _, given: encoded.append(length(given[0])))
    once = results()
    assert set(encoded) == {9}
    for module in model.policy.modules():
        if hasattr(module, "encode_distinct"):
            module.encode_distinct = False
    plain = results()
    assert set(encoded) == {9, 60}
    assert len(once) == len(plain) > 10
    for found, expected in zip(once, plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("agent", "observation"), [("ppo", "auto"), ("dqn", "auto"), ("ppo", "picture")]
)
def test_a_training_goes_the_same_way(agent: str, observation: str) -> None:
    def weights(encode_distinct: bool) -> list[torch.Tensor]:
        small: dict[str, Any] = {"n_steps": 16, "batch_size": 32, "n_epochs": 2}
        if agent == "dqn":
            small = {"learning_starts": 32, "batch_size": 32, "train_freq": 4}
        model = built(agent, observation, **small)
        for module in model.policy.modules():
            if hasattr(module, "encode_distinct"):
                module.encode_distinct = encode_distinct
        joined = AuxiliaryLossCallback(
            ContrastiveDistillation(n_negatives=16), memory=EpisodicMemory(capacity=500), every=2
        )
        model.learn(192, callback=[*default_callbacks(model), joined])
        assert joined.n_updates > 3
        return [parameter.detach() for parameter in model.policy.parameters()]

    for found, expected in zip(weights(True), weights(False), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_an_encoder_of_others_is_left_alone() -> None:
    model = built("ppo", "picture")
    assert isinstance(model, PPO)
    seen: list[int] = []
    extractor = model.policy.features_extractor
    del extractor.encode_distinct  # as if it were another's
    plain: Callable[..., torch.Tensor] = extractor._encode
    extractor.forward = lambda pictures: seen.append(len(pictures)) or plain(pictures)
    model.policy.evaluate_actions(repeated(model.observation_space, 20, 2, 0), torch.zeros(20))
    assert seen == [20]


def test_a_subclass_of_our_encoder_is_one_of_others() -> None:
    class Dimmed(PictureEncoder):
        def forward(self, observations: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(0.5 * observations)

    model = built("ppo", "picture", policy_kwargs={"features_extractor_class": Dimmed})
    actions = torch.zeros(20)
    values, *_ = model.policy.evaluate_actions(repeated(model.observation_space, 20, 2, 0), actions)
    assert values.shape == (20, 1)


def test_saved_and_loaded(tmp_path: Any) -> None:
    for agent in ("ppo", "dqn"):
        model = built(agent, "auto")
        model.save(tmp_path / agent)
        loaded = type(model).load(tmp_path / agent)
        assert type(loaded.policy) is type(model.policy)
        batch = repeated(model.observation_space, 20, 5, seed=1)
        seen = {key: part.numpy() for key, part in batch.items()}
        for each in (model, loaded):
            each.policy.set_training_mode(False)
        found, expected = (m.predict(seen, deterministic=True)[0] for m in (loaded, model))
        np.testing.assert_array_equal(found, expected)
