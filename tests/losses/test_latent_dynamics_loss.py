"""Latent dynamics as a loss beside reinforcement learning: windows, terms, and the source."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from contrastive_distillation.losses import (
    OBJECTIVES,
    DynamicsSettings,
    LatentDynamicsLoss,
    SourceDynamics,
    WindowBatch,
    fit_source_dynamics,
    realignment_terms,
)
from contrastive_distillation.memory import EpisodicMemory, Trajectories

QUICK = {"n_fit_updates": 3}


def built(learner, teacher, **settings):
    torch.manual_seed(3)
    loss = LatentDynamicsLoss(teacher=teacher, **(QUICK | settings))
    loss.build(learner)
    return loss


def path_memory(paths):
    """One environment; each path an episode of which the numbers are the observations."""
    memory = EpisodicMemory(capacity=100)
    memory.start(n_envs=1, gamma=0.9, tasks=["a"])
    for time, (seen, is_last) in enumerate(
        (s, i == len(p)) for p in paths for i, s in enumerate(p, 1)
    ):
        memory.add(
            observations=np.full((1, 4), seen, dtype=np.uint8),
            actions=np.array([seen % 3]),
            rewards=np.zeros(1),
            terminated=np.array([is_last]),
            truncated=np.zeros(1, dtype=bool),
            tasks=np.zeros(1, dtype=np.int64),
            time=time,
        )
    return memory


def test_a_teacher_is_needed(learner):
    with pytest.raises(ValueError, match="latent_dynamics needs the frozen encoder of a source"):
        LatentDynamicsLoss().build(learner)


def test_the_sources_memory_is_needed(learner, teacher, filled):
    loss = built(learner, teacher)
    for missing in (None, EpisodicMemory(capacity=10)):
        with pytest.raises(ValueError, match="latent_dynamics needs the memory of a source agent"):
            loss.sample(filled(), 8, np.random.default_rng(0), missing)


def test_windows_stay_within_episodes_and_begin_with_a_change(learner, teacher, filled):
    """Of 5 5 6 7 8 the first step changes nothing; 1 2 is too short for three steps."""
    loss = built(learner, teacher, n_steps=3)
    memory = path_memory([[5, 5, 6, 7, 8], [1, 2], [9, 10, 11, 12]])
    batch = loss.sample(memory, 50, np.random.default_rng(0), filled())
    assert batch.seen.shape == (50, 4) and batch.actions.shape == (50, 3, 3)
    paths = batch.observations[batch.seen][..., 0]
    assert {tuple(path) for path in paths.tolist()} == {(5, 6, 7, 8), (9, 10, 11, 12)}
    assert len(batch.observations) == len(np.unique(batch.observations, axis=0)) == 8
    np.testing.assert_array_equal(batch.actions.argmax(axis=2), paths[:, :3] % 3)


def test_it_waits_for_windows(learner, teacher, filled):
    loss = built(learner, teacher)
    for paths in ([[1, 2, 3]], [[1, 1, 1, 1, 1, 1]], [[1, 2, 3, 4]]):
        assert loss.sample(path_memory(paths), 8, np.random.default_rng(0), filled()) is None
    memory = path_memory([[1, 2, 3, 4, 5]])
    assert len(loss.sample(memory, 1, np.random.default_rng(0), filled()).seen) == 2


def test_the_two_terms(learner, teacher, filled):
    loss = built(learner, teacher, statistics_weight=2.0)
    batch = loss.sample(filled(n_values=3), 12, np.random.default_rng(0), filled(seed=1))
    found = loss(learner, batch)
    seen = torch.as_tensor(batch.seen)
    terms = realignment_terms(
        OBJECTIVES["contrast_statistics"],
        learner.encoder(batch.observations)[None],
        WindowBatch(seen=seen, actions=torch.as_tensor(batch.actions), usual=seen[:, 0]),
        loss.dynamics,
    )
    assert found.keys() == {"latent_dynamics"}
    torch.testing.assert_close(
        found["latent_dynamics"], terms["contrast"][0] + 2.0 * terms["statistics"][0]
    )
    assert loss.metrics == {name: pytest.approx(float(v.detach())) for name, v in terms.items()}


def test_what_is_fitted_is_the_teachers(learner, teacher, filled):
    """As `fit_source_dynamics` fits it; the agent's own memory has no part in it."""
    loss, source = built(learner, teacher), filled(seed=1)
    loss.sample(filled(n_values=3), 12, np.random.default_rng(5), source)
    wanted = fit_source_dynamics(
        teacher,
        Trajectories.from_memory(source),
        action_space=gym.spaces.Discrete(3),
        settings=DynamicsSettings(n_updates=3),
        generator=np.random.default_rng(5),
    )
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(loss.dynamics.state_dict()[name], tensor), name
    mean = teacher(source.observations(source.rows())).mean(dim=0)
    torch.testing.assert_close(loss.dynamics.mean, mean)


def test_gradient_reaches_the_encoder_alone(learner, teacher, filled):
    loss = built(learner, teacher)
    batch = loss.sample(filled(), 16, np.random.default_rng(0), filled(seed=1))
    loss(learner, batch)["latent_dynamics"].backward()
    assert all((p.grad != 0).any() for p in learner.encoder.parameters())
    assert loss.changed_parameters(learner) == list(learner.encoder.parameters())
    assert loss.head_parameters() == []
    assert all(p.grad is None for p in [*loss.parameters(), *teacher.parameters()])


def test_it_is_fitted_once_and_kept(learner, teacher, filled):
    loss = built(learner, teacher)
    loss.sample(filled(), 8, np.random.default_rng(0), filled(seed=1))
    first = {name: tensor.clone() for name, tensor in loss.dynamics.state_dict().items()}
    loss.sample(filled(), 8, np.random.default_rng(1), filled(seed=2))
    again = built(learner, teacher)
    again.load_state_dict(loss.state_dict())
    again.sample(filled(), 8, np.random.default_rng(2))  # needs no source's memory any more
    for name, tensor in first.items():
        assert torch.equal(loss.dynamics.state_dict()[name], tensor)
        assert torch.equal(again.dynamics.state_dict()[name], tensor)
    loss.build(learner)  # a new training
    with pytest.raises(ValueError, match="needs the memory of a source agent"):
        loss.sample(filled(), 8, np.random.default_rng(0))


def given_dynamics(learner, **settings):
    space = learner.policy.action_space
    return SourceDynamics(learner.n_features, space, DynamicsSettings(**settings))


def test_given_dynamics_need_no_source(learner, filled):
    dynamics = given_dynamics(learner, n_steps=2, temperature=0.5).requires_grad_(False)
    loss = LatentDynamicsLoss(dynamics=dynamics)
    before = {name: tensor.clone() for name, tensor in dynamics.state_dict().items()}
    for _ in range(2):
        loss.build(learner)
        batch = loss.sample(filled(), 8, np.random.default_rng(0))
        assert batch.seen.shape == (8, 3)
        loss(learner, batch)["latent_dynamics"].backward()
    assert all(torch.equal(before[n], tensor) for n, tensor in loss.dynamics.state_dict().items())
    assert loss.n_encoded(10, with_source_memory=True) == 30
    assert LatentDynamicsLoss(n_steps=4).n_encoded(10, with_source_memory=False) == 50


def test_other_widths_and_actions_are_refused(learner, teacher):
    wide = SourceDynamics(9, gym.spaces.Discrete(3), DynamicsSettings())
    with pytest.raises(ValueError, match="the source's encoder gives 9, the agent's 6"):
        LatentDynamicsLoss(dynamics=wide).build(learner)
    acting = SourceDynamics(6, gym.spaces.Discrete(4), DynamicsSettings())
    with pytest.raises(
        ValueError, match=r"the actions Discrete\(4\), the agent's actions are Disc"
    ):
        LatentDynamicsLoss(dynamics=acting).build(learner)
    teacher.n_features = 7
    with pytest.raises(ValueError, match="gives 7, the agent's 6; use the same architecture"):
        LatentDynamicsLoss(teacher=teacher).build(learner)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("statistics_weight", -1, "statistics_weight is -1; it must be 0 or more"),
        ("n_steps", 0, "n_steps is 0; it must be 1 or more"),
        ("n_fit_updates", -1, "n_fit_updates is -1"),
        ("temperature", 0, "temperature is 0; it must be above 0"),
        ("residual", "yes", "residual is 'yes'; expected true or false"),
        ("dynamics", "g", "dynamics is a str; expected SourceDynamics"),
    ],
)
def test_out_of_range(name, value, message):
    with pytest.raises(ValueError, match=message):
        LatentDynamicsLoss(**{name: value})
