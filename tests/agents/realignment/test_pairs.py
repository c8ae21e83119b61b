"""`realign` on pairs: what both sensors show of the same states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from contrastive_distillation.agents import gather_memory, realign

from .conftest import ENCODER, Build
from .small_envs import drifts, linear, same_weights, weights_of

SENSOR = linear(3)[0]
OBJECTIVES = ("contrast", "squared_error", "policy")


def shown(seen: np.ndarray) -> np.ndarray:
    found: np.ndarray = SENSOR(seen).astype(np.float32)
    return found


def seen(n: int = 120) -> np.ndarray:
    drawn: np.ndarray = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    return drawn


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", [PPO, DQN])
def test_a_linear_sensor_of_vectors_is_undone(
    kind: type[BaseAlgorithm], objective: str, build: Build
) -> None:
    source, model = build(drifts(1), kind), build(drifts(1, sensor=SENSOR), kind, seed=1)
    report = realign(
        model, source=source, pairs=(seen(), shown(seen())), objective=objective, updates=3
    )
    assert report.frames == model.num_timesteps == 0
    assert report.sensors_changed is None
    assert "96 pairs" in str(report)
    assert len(report.restarts) == 1
    new = seen(300)[200:]
    wanted = source.policy.obs_to_tensor(new)[0]
    found = model.policy.obs_to_tensor(shown(new))[0]
    with torch.no_grad():
        if kind is DQN:
            own, theirs = model.policy.q_net(found), source.policy.q_net(wanted)  # type: ignore[operator]
        else:
            own = model.policy.predict_values(found)  # type: ignore[operator]
            theirs = source.policy.predict_values(wanted)  # type: ignore[operator]
    torch.testing.assert_close(own, theirs, atol=0.02, rtol=0.02)


class Other(BaseFeaturesExtractor):
    """Another architecture, of the same width."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, 16)
        self.deep = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        return self.deep(observations)  # type: ignore[no-any-return]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_another_architecture_learns_as_a_whole(objective: str, build: Build) -> None:
    other = {"features_extractor_class": Other, "net_arch": [16]}
    source, model = build(drifts()), build(drifts(sensor=SENSOR), seed=1, kwargs=other)
    report = realign(
        model, source=source, pairs=(seen(), shown(seen())), objective=objective,
        layers="encoder", updates=60, restarts=2,
    )  # fmt: skip
    assert len(report.moved) == 4
    theirs, own = weights_of(source), weights_of(model)
    heads = [name for name in own if "features_extractor" not in name]
    assert heads
    assert all(torch.equal(own[name], theirs[name]) for name in heads)
    begun = realign(
        build(drifts(sensor=SENSOR), seed=1, kwargs=other), source=source,
        pairs=(seen(), shown(seen())), objective=objective, layers="encoder", updates=1,
        restarts=2,
    )  # fmt: skip
    assert report.restarts[0].loss < 0.9 * begun.restarts[0].loss


def test_a_view_shows_what_the_source_saw(build: Build) -> None:
    source = build(drifts())
    memory = gather_memory(source, frames=200)
    asked = []

    def view(batch: np.ndarray) -> np.ndarray:
        asked.append(batch)
        return shown(batch)

    model = build(drifts(sensor=SENSOR), seed=1)
    realign(model, source=source, source_memory=memory, view=view, updates=2)
    rows = np.unique(memory.observations(memory.rows()), axis=0)
    assert np.array_equal(np.unique(np.concatenate(asked), axis=0), rows)


def test_one_seed_gives_the_same_weights(build: Build) -> None:
    found = []
    for seed in (0, 0, 1):
        model = build(drifts(sensor=SENSOR), seed=1)
        pairs = (seen(), shown(seen()))
        realign(model, source=build(drifts()), pairs=pairs, updates=3, seed=seed)
        found.append(weights_of(model))
    assert same_weights(found[0], found[1])
    assert not same_weights(found[0], found[2])


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"pairs": (seen(9), seen(8))}, "9 observations of the source and 8"),
        ({"pairs": (seen(9), seen(9)[:, :3])}, r"\(3,\).*\(4,\)"),
        ({"pairs": seen(9)}, "two batches"),
        ({"pairs": (seen(1), seen(1))}, "1 distinct pairs"),
        ({"pairs": (seen(9), seen(9)), "view": shown}, "pass one of data=, view= and pairs="),
        ({"objective": "inverse_dynamics"}, "needs steps in the target"),
        ({"restarts": 0}, "restarts is 0"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], text: str, build: Build) -> None:
    model = build(drifts(sensor=SENSOR), seed=1)
    before = weights_of(model)
    given = {"pairs": (seen(9), shown(seen(9)))} | settings
    with pytest.raises(ValueError, match=text):
        realign(model, source=build(drifts()), **given)
    assert same_weights(weights_of(model), before)


def test_a_loss_that_is_not_finite_changes_nothing(build: Build) -> None:
    model = build(drifts(sensor=SENSOR), seed=1)
    before = weights_of(model)
    broken = seen()
    broken[3, 1] = np.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        realign(model, source=build(drifts()), pairs=(broken, shown(seen())))
    assert same_weights(weights_of(model), before)


def test_the_policy_is_compared_on_pairs_alone(build: Build) -> None:
    model = build(drifts(sensor=SENSOR), seed=1)
    with pytest.raises(ValueError, match="view= or pairs="):
        realign(model, source=build(drifts()), objective="policy")


def test_the_actions_show_one_encoder_alone(build: Build) -> None:
    separate = ENCODER | {"share_features_extractor": False}
    source, model = build(drifts(), kwargs=separate), build(drifts(), seed=1, kwargs=separate)
    with pytest.raises(ValueError, match="this agent has 2"):
        realign(model, source=source, pairs=(seen(), seen()), objective="policy", layers="encoder")


def test_networks_of_continuous_actions_learn_from_pairs(build: Build) -> None:
    source = build(drifts(1, continuous=True), SAC)
    model = build(drifts(1, continuous=True, sensor=SENSOR), SAC, seed=1)
    report = realign(model, source=source, pairs=(seen(), shown(seen())), updates=3)
    assert len(report.moved) == 2
    observations = torch.as_tensor(seen()), torch.as_tensor(shown(seen()))
    with torch.no_grad():
        wanted = source.policy.actor(observations[0], deterministic=True)  # type: ignore[operator]
        found = model.policy.actor(observations[1], deterministic=True)  # type: ignore[operator]
    torch.testing.assert_close(found, wanted, atol=0.02, rtol=0.02)
