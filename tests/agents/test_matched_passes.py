"""Equal compute: as many observations through the encoder as with a loss, counted."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    MatchedPasses,
    VectorEncoder,
    default_n_anchors,
)
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory

KWARGS: dict[str, Any] = {"policy_kwargs": {"features_extractor_class": VectorEncoder}, "seed": 0}


def ppo() -> PPO:
    return PPO("MlpPolicy", "CartPole-v1", n_steps=128, batch_size=32, n_epochs=3, **KWARGS)


def dqn() -> DQN:
    return DQN(
        "MlpPolicy", "CartPole-v1", batch_size=32, learning_starts=50, train_freq=4,
        gradient_steps=2, **KWARGS,
    )  # fmt: skip


def counted_passes(model: BaseAlgorithm, callback: BaseCallback, frames: int) -> int:
    """Observations through the agent's own encoder, with gradient, while it learns."""
    n_passes = 0

    def count(module: Any, args: Any, output: Any) -> None:
        nonlocal n_passes
        n_passes += len(output) if output.requires_grad else 0

    network = model.policy.q_net if isinstance(model, DQN) else model.policy
    network.features_extractor.register_forward_hook(count)
    model.learn(frames, callback=callback)
    return n_passes


@pytest.mark.parametrize("every", [1, 3, 4])
@pytest.mark.parametrize("build", [ppo, dqn])
def test_the_encoder_sees_as_much_as_with_the_loss(
    build: Callable[[], BaseAlgorithm], every: int
) -> None:
    model = build()
    n_anchors = default_n_anchors(model)
    loss = ContrastiveDistillation(n_negatives=16)
    joined = AuxiliaryLossCallback(loss, memory=EpisodicMemory(), every=every)
    with_loss = counted_passes(model, joined, 700)
    plain = counted_passes(build(), MatchedPasses(every=every, n_encoded=0), 700)
    matched = counted_passes(build(), MatchedPasses(every=every, n_encoded=n_anchors), 700)
    unit = 128 if isinstance(model, PPO) else 32
    assert plain < with_loss
    assert 0 <= with_loss - matched < unit


def test_without_anything_to_match_nothing_changes() -> None:
    model = ppo()
    model.learn(256, callback=MatchedPasses(every=4, n_encoded=0))
    assert model._n_updates == 6
    model.learn(256, callback=MatchedPasses(every=1, n_encoded=128))
    assert model._n_updates > 12
    assert model.n_epochs == 3, "the model has its own number again"


@given(
    every=st.integers(1, 20),
    n_encoded=st.integers(0, 1000),
    n_units=st.integers(1, 12),
    unit_passes=st.integers(1, 5000),
    unit_steps=st.integers(1, 64),
    n_trainings=st.integers(0, 3000),
)
def test_passes_are_never_behind_by_a_unit(
    every: int, n_encoded: int, n_units: int, unit_passes: int, unit_steps: int, n_trainings: int
) -> None:
    callback = MatchedPasses(every=every, n_encoded=n_encoded)
    callback._n_units, callback._unit_passes, callback._unit_steps = (
        n_units,
        unit_passes,
        unit_steps,
    )
    n_steps = n_trainings * n_units * unit_steps
    wanted = n_trainings * n_units * unit_passes + n_steps // every * n_encoded
    passes = callback.units_after(n_trainings) * unit_passes
    assert 0 <= wanted - passes < unit_passes
    assert callback.units_after(n_trainings + 1) - callback.units_after(n_trainings) >= n_units


@pytest.mark.parametrize(("every", "n_encoded"), [(0, 1), (1, -1)])
def test_numbers_out_of_range(every: int, n_encoded: int) -> None:
    with pytest.raises(ValueError, match="expected a whole number"):
        MatchedPasses(every=every, n_encoded=n_encoded)


def test_other_agents_are_refused() -> None:
    model = A2C("MlpPolicy", "CartPole-v1", **KWARGS)
    with pytest.raises(ValueError, match=r"MatchedPasses needs PPO, or DQN .* got A2C"):
        model.learn(10, callback=MatchedPasses(every=1, n_encoded=1))
