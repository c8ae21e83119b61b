"""What is fitted to a source: g learns what follows, statistics are of the right steps, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from contrastive_distillation.losses import (
    DynamicsSettings,
    SourceDynamics,
    encode_all,
    fit_source_dynamics,
    usual_steps,
)
from contrastive_distillation.memory import Observations, Trajectories

N_STATES, N_ACTIONS = 5, 3
SPACE = gym.spaces.Discrete(N_ACTIONS)
QUICK = DynamicsSettings(n_steps=2, hidden=32, n_updates=300, batch_size=64)


def walk(*, n_episodes: int = 40, length: int = 12, seed: int = 0) -> Trajectories:
    """A ring of states: action 0 stays, 1 goes on, 2 goes back. Even episodes are random ones.

    The others go on three times out of four.
    """
    generator = np.random.default_rng(seed)
    states, actions = [], []
    for episode in range(n_episodes):
        state = int(generator.integers(N_STATES))
        p = [1 / 3] * 3 if episode % 2 == 0 else [1 / 8, 3 / 4, 1 / 8]
        for action in generator.choice(N_ACTIONS, length, p=p):
            states.append(state)
            actions.append(action)
            state = (state + (0, 1, -1)[action]) % N_STATES
    episodes = np.repeat(np.arange(n_episodes), length)
    return Trajectories(
        observations=np.eye(N_STATES, dtype=np.float32) * 2,
        indices=np.array(states),
        actions=np.array(actions),
        episodes=episodes,
        random=episodes % 2 == 0,
    )


class Encoder:
    """Fixed random features of the states."""

    def __init__(self) -> None:
        self.weight = torch.randn(N_STATES, 6, generator=torch.Generator().manual_seed(7))
        self.sizes: list[int] = []

    def __call__(self, observations: Observations) -> Tensor:
        assert isinstance(observations, np.ndarray)
        self.sizes.append(len(observations))
        return torch.relu(torch.as_tensor(observations) @ self.weight)


def fit(steps: Trajectories, settings: DynamicsSettings = QUICK, **keywords: Any) -> SourceDynamics:
    return fit_source_dynamics(
        Encoder(),
        steps,
        action_space=keywords.pop("action_space", SPACE),
        settings=settings,
        generator=np.random.default_rng(keywords.pop("seed", 0)),
        **keywords,
    )


def foreseen(found: SourceDynamics, steps: Trajectories) -> float:
    """Share of the windows' steps after which the nearest state to g's prediction is the true one.

    By cosine, in the source's own features.
    """
    features = encode_all(Encoder(), steps.observations) - found.mean
    starts = steps.windows(found.settings.n_steps)
    rows = starts[:, None] + np.arange(found.settings.n_steps + 1)
    seen = torch.as_tensor(steps.indices[rows])
    actions = torch.eye(N_ACTIONS)[torch.as_tensor(steps.actions[rows[:, :-1]])]
    predicted = found.dynamics.predict(features[seen[:, 0]], actions)
    cosines = F.cosine_similarity(predicted[:, :, None], features, dim=-1)
    return float((cosines.argmax(dim=-1) == seen[:, 1:].T).float().mean())


@pytest.fixture(scope="module")
def fitted() -> SourceDynamics:
    return fit(walk())


def test_what_follows_is_learnt(fitted: SourceDynamics) -> None:
    """In other episodes too; it is not where actions are permuted, or with "none"."""
    others = walk(seed=1)
    assert foreseen(fitted, others) == 1.0
    assert foreseen(fit(walk(), shuffled_actions=True), others) < 0.8
    assert foreseen(fit(walk(), criterion="none"), others) < 0.5


def test_the_action_is_learnt(fitted: SourceDynamics) -> None:
    steps = walk(seed=1)
    starts = steps.windows(1)
    features = encode_all(Encoder(), steps.observations) - fitted.mean
    before = features[torch.as_tensor(steps.indices[starts])]
    after = features[torch.as_tensor(steps.indices[starts + 1])]
    losses = torch.stack(
        [fitted.inverse.loss(before, after, each.expand(len(starts), -1)) for each in torch.eye(3)]
    )
    taken = torch.as_tensor(steps.actions[starts])
    assert (losses.argmin(dim=0) == taken).float().mean() > 0.95


def test_squared_error_predicts_the_features_themselves() -> None:
    settings = DynamicsSettings(n_steps=1, hidden=32, n_updates=400, batch_size=64)
    steps, found = walk(), fit(walk(), settings, criterion="squared_error")
    features = encode_all(Encoder(), steps.observations) - found.mean
    ahead = found.dynamics(features, torch.eye(N_ACTIONS)[1].expand(N_STATES, -1))
    errors = (ahead - features.roll(-1, dims=0)).square().mean()
    assert float(errors) < 0.05 * float(features.var())
    assert found.criterion == "squared_error"


def test_mean_of_all_steps_and_statistics_of_random_windows(fitted: SourceDynamics) -> None:
    """Each step counts; `μ_s` and `Σ_T` are of random steps that change the observation."""
    steps = walk()
    features = Encoder()(steps.observations).numpy()
    np.testing.assert_allclose(fitted.mean, features[steps.indices].mean(axis=0), rtol=1e-5)
    rows = [
        features[steps.indices[i]]
        for i in range(len(steps) - 2)
        if steps.random[i]
        and steps.episodes[i] == steps.episodes[i + 2]
        and steps.indices[i] != steps.indices[i + 1]
    ]
    np.testing.assert_allclose(fitted.random_mean, np.mean(rows, axis=0), rtol=1e-4)
    np.testing.assert_allclose(fitted.covariance, np.cov(np.transpose(rows)), rtol=1e-4, atol=1e-6)
    assert fitted.behaviour == "random"


def only_played(steps: Trajectories, *, n_random: int = 0) -> Trajectories:
    """The same steps, of which but a few at the beginning are random."""
    is_random = np.arange(len(steps)) < n_random
    return Trajectories(
        observations=steps.observations,
        indices=steps.indices,
        actions=steps.actions,
        episodes=steps.episodes,
        random=is_random,
    )


@pytest.mark.parametrize("n_random", [0, 1])
def test_without_random_steps_all_are_used(n_random: int) -> None:
    """One alone has no covariance."""
    steps = only_played(walk(), n_random=n_random)
    found = fit(steps, DynamicsSettings(n_updates=1, changing=False))
    features = Encoder()(steps.observations)[torch.as_tensor(steps.indices)]
    assert found.behaviour == "all"
    torch.testing.assert_close(found.random_mean, features.mean(dim=0))
    torch.testing.assert_close(found.covariance, features.T.cov())


def test_usual_steps() -> None:
    steps = walk(n_episodes=2, length=12)
    all_windows = steps.windows(2)
    changing, every = DynamicsSettings(n_steps=2), DynamicsSettings(n_steps=2, changing=False)
    assert usual_steps(steps, changing).tolist() == [i for i in all_windows if i < 12]
    assert usual_steps(steps, every).tolist() == list(range(12))
    assert usual_steps(only_played(steps), changing).tolist() == all_windows.tolist()
    assert usual_steps(only_played(steps), every).tolist() == list(range(24))


def test_half_of_each_batch_is_random() -> None:
    """Also where there are few of them: g learns what only random steps show."""
    settings = DynamicsSettings(n_steps=1, hidden=32, n_updates=300, batch_size=64)
    back = walk(n_episodes=2, length=8)
    back = Trajectories(
        observations=back.observations,
        indices=np.array([3, 2, 1, 0, 4, 3, 2, 1] * 2),
        actions=np.full(16, 2),
        episodes=back.episodes,
        random=np.ones(16, dtype=bool),
    )
    n = 4000
    on = Trajectories(
        observations=back.observations,
        indices=np.arange(n) % N_STATES,
        actions=np.ones(n, dtype=np.int64),
        episodes=np.zeros(n, dtype=np.int64),
        random=np.zeros(n, dtype=bool),
    )
    found = fit(Trajectories.join([back, on]), settings)
    assert foreseen(found, back) == 1.0


@pytest.mark.parametrize("criterion", ["contrast", "squared_error", "none"])
def test_a_seed_fixes_the_fit(criterion: Any) -> None:
    settings = DynamicsSettings(n_steps=2, hidden=8, n_updates=5, batch_size=8)
    state = torch.get_rng_state()
    first, again, other = (fit(walk(), settings, criterion=criterion, seed=s) for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    weights = [found.dynamics.layers[0].weight for found in (first, other)]
    assert not torch.equal(*weights)
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_fitted_inside_of_no_grad() -> None:
    settings = DynamicsSettings(n_steps=2, hidden=8, n_updates=2, batch_size=8)
    with torch.no_grad():
        inside = fit(walk(), settings)
    assert torch.equal(
        inside.dynamics.layers[0].weight, fit(walk(), settings).dynamics.layers[0].weight
    )


def test_each_observation_is_encoded_once() -> None:
    encoder = Encoder()
    features = encode_all(encoder, np.tile(np.eye(N_STATES, dtype=np.float32), (900, 1)))
    assert encoder.sizes == [2048, 2048, 404]
    torch.testing.assert_close(features[-N_STATES:], Encoder()(np.eye(N_STATES, dtype=np.float32)))
    assert not features.requires_grad


@pytest.mark.parametrize("n_steps", [0, 1, 3])
def test_too_few_windows(n_steps: int) -> None:
    with pytest.raises(
        ValueError, match=r"memory has \d windows of 3 consecutive .* gather_memory"
    ):
        fit(walk().first(n_steps), DynamicsSettings())


def test_features_that_do_not_fit() -> None:
    steps = walk()
    broken = Trajectories(
        observations=steps.observations * np.float32(np.nan),
        indices=steps.indices,
        actions=steps.actions,
        episodes=steps.episodes,
        random=steps.random,
    )
    with pytest.raises(ValueError, match="encoder gives NaN or infinite features"):
        fit(broken)
    alike = Trajectories(
        observations=np.ones((N_STATES, N_STATES), dtype=np.float32),
        indices=steps.indices,
        actions=steps.actions,
        episodes=steps.episodes,
        random=steps.random,
    )
    with pytest.raises(ValueError, match="the same features for all observations"):
        fit(alike)
    with pytest.raises(ValueError, match="the memory is of another action space"):
        fit(steps, action_space=gym.spaces.Discrete(2))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_steps", 0, "n_steps is 0; it must be 1 or more"),
        ("hidden", 0, "hidden is 0"),
        ("n_updates", -1, "n_updates is -1; it must be 0 or more"),
        ("batch_size", 1, "batch_size is 1; it must be 2 or more"),
        ("temperature", 0.0, "it must be above 0"),
        ("changing", 1, "changing is 1; expected true or false"),
    ],
)
def test_settings_out_of_range(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DynamicsSettings(**{name: value})


# ---------------------------------------------------------------- files


def test_a_file_gives_back_everything(fitted: SourceDynamics, tmp_path: Path) -> None:
    fitted.encoder_sha256 = "abc"
    path = tmp_path / "dynamics.safetensors"
    fitted.save(path)
    found = SourceDynamics.load(path, action_space=SPACE)
    assert found.state_dict().keys() == fitted.state_dict().keys()
    for name, tensor in fitted.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    assert found.settings == fitted.settings
    assert (found.behaviour, found.criterion) == ("random", "contrast")
    assert found.encoder_sha256 == "abc"
    assert not any(parameter.requires_grad for parameter in found.parameters())
    assert [file.name for file in tmp_path.iterdir()] == ["dynamics.safetensors"]


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(4),
        gym.spaces.Discrete(3, start=1),
        gym.spaces.MultiBinary(3),  # of the same width
        gym.spaces.Box(-1, 1, (3,)),
    ],
    ids=str,
)
def test_a_file_of_another_action_space(fitted, tmp_path, space) -> None:
    path = tmp_path / "dynamics.safetensors"
    fitted.save(path)
    with pytest.raises(ValueError, match=r"is of the action space Discrete\(3\), not"):
        SourceDynamics.load(path, action_space=space)


def damaged(path: Path, how: str) -> None:
    content = path.read_bytes()
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["source_dynamics"])
    match how:
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("dynamics")
        case "missing":
            path.unlink()
        case "folder":
            path.unlink()
            path.mkdir()
        case "of another kind":
            save_file(tensors, path)
        case "metadata":
            save_file(tensors, path, {"source_dynamics": "{"})
        case "list":
            save_file(tensors, path, {"source_dynamics": "[]"})
        case _:
            kind, _, name = how.partition(" ")
            if kind == "without":
                if tensors.pop(name, None) is None:
                    del metadata[name]
            elif kind == "settings":
                metadata["settings"][name] = "many"
            else:
                changes = {
                    "version": 99,
                    "n_features": 7,
                    "behaviour": "odd",
                    "criterion": "odd",
                    "settings": None,
                    "mean": torch.full((6,), torch.nan),
                    "covariance": torch.eye(7),
                }
                (tensors if name in tensors else metadata)[name] = changes[name]
            save_file(tensors, path, {"source_dynamics": json.dumps(metadata)})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", ""),
        ("empty", ""),
        ("text", ""),
        ("missing", "No such file"),
        ("folder", ""),
        ("of another kind", "another safetensors file"),
        ("metadata", ""),
        ("list", ""),
        ("without version", "lacks 'version'"),
        ("without action_space", "lacks 'action_space'"),
        ("without settings", "lacks 'settings'"),
        ("without mean", "Missing key"),
        ("without dynamics.layers.0.weight", "Missing key"),
        ("settings hidden", "hidden is 'many'"),
        ("settings depth", "depth"),
        ("other version", "version 99, expected 1"),
        ("other n_features", "size mismatch"),
        ("other behaviour", "behaviour is 'odd'; expected one of random, all"),
        ("other criterion", "criterion is 'odd'"),
        ("other settings", ""),
        ("other mean", "not finite"),
        ("other covariance", "size mismatch"),
    ],
)
def test_damaged_files(fitted, tmp_path, how, message) -> None:
    path = tmp_path / "dynamics.safetensors"
    fitted.save(path)
    damaged(path, how)
    with pytest.raises(
        ValueError, match=r"cannot be read as a source's latent dynamics: ."
    ) as error:
        SourceDynamics.load(path, action_space=SPACE)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_failed_save_leaves_the_file_before(fitted, tmp_path, monkeypatch) -> None:
    path = tmp_path / "dynamics.safetensors"
    fitted.save(path)
    before = path.read_bytes()

    def fail(tensors: Any, part: Path, metadata: Any) -> None:
        part.write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr("contrastive_distillation.losses.source_dynamics.save_file", fail)
    with pytest.raises(OSError, match="the disk is full"):
        fitted.save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_by_distance_measures_the_errors_of_each_step_and_narrows_to_them() -> None:
    settings = DynamicsSettings(
        n_steps=2, hidden=16, residual=True, changing=False, n_updates=200, by_distance=True
    )
    found = fit(walk(), settings)
    assert found.errors.shape == (2, len(found.mean))
    assert torch.isfinite(found.errors).all()
    wide, narrow = found.widths(0.0), found.widths(1.0)
    assert wide is not None
    assert narrow is not None
    assert (wide == 1).all()
    assert torch.equal(narrow, found.errors.clamp(1e-3, 1.0))
    assert fit(walk(), QUICK).widths() is None
