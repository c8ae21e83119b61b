"""Any teacher: none, a moving average, or frozen from a model, a run directory or a zip."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    FrozenTeacher,
    GridEncoder,
    VectorEncoder,
    build_agent,
    find_encoder,
)
from contrastive_distillation.envs import make_vec
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory


def model(
    width: int = 16, *, kind: type[BaseAlgorithm] = PPO, seed: int = 0, normalised: bool = False
) -> BaseAlgorithm:
    env = make_vec_env("Pendulum-v1" if kind is SAC else "CartPole-v1", n_envs=2, seed=seed)
    kwargs = {
        "features_extractor_class": VectorEncoder,
        "features_extractor_kwargs": {"features_dim": width, "hidden_dims": (8,)},
        "net_arch": [16],
    }
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 16}
    if kind is not PPO:
        settings = {"learning_starts": 16, "batch_size": 16}
    return kind(
        "MlpPolicy",
        VecNormalize(env) if normalised else env,
        policy_kwargs=kwargs,
        seed=seed,
        **settings,
    )


def module(of: BaseAlgorithm, width: int = 16) -> VectorEncoder:
    return VectorEncoder(of.observation_space, features_dim=width, hidden_dims=(8,))


def observations(of: BaseAlgorithm) -> np.ndarray:
    n_numbers = of.observation_space.shape[0]  # type: ignore[index]
    drawn = np.random.default_rng(0).standard_normal((5, n_numbers)).astype(np.float32)
    return 3.0 * drawn


def assert_same(teacher: FrozenTeacher, source: BaseAlgorithm, encoder: str = "auto") -> None:
    seen = observations(source)
    torch.testing.assert_close(teacher(seen), find_encoder(source, encoder)[0](seen).detach())
    assert not teacher(seen).requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())


# -- from a zip or a run directory --------------------------------------------------------------


@pytest.mark.parametrize("kind", [PPO, DQN, SAC])
def test_from_a_zip_with_the_module(kind: type[BaseAlgorithm], tmp_path: Path) -> None:
    source = model(kind=kind)
    source.save(tmp_path / "source.zip")
    own = module(source)
    before = {name: t.clone() for name, t in own.state_dict().items()}
    assert_same(FrozenTeacher.from_zip(tmp_path / "source.zip", encoder=own), source)
    assert all(torch.equal(t, before[name]) for name, t in own.state_dict().items())  # a copy


@pytest.mark.parametrize("kind", [PPO, DQN, SAC])
def test_from_a_trusted_zip(kind: type[BaseAlgorithm], tmp_path: Path) -> None:
    source = model(kind=kind)
    source.save(tmp_path / "source.zip")
    state = torch.random.get_rng_state()
    assert_same(FrozenTeacher.from_zip(tmp_path / "source.zip", trust=True), source)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_from_a_chosen_place_in_the_zip(tmp_path: Path) -> None:
    source, path = model(kind=SAC), tmp_path / "source.zip"
    source.save(path)
    at = "actor.features_extractor"
    assert_same(FrozenTeacher.from_zip(path, encoder=module(source), at=at), source, "actor")
    assert_same(
        FrozenTeacher.from_zip(path, at="actor.latent_pi", trust=True), source, "actor.latent_pi"
    )


def test_from_the_layers_of_a_stock_policy(tmp_path: Path) -> None:
    source = PPO("MlpPolicy", make_vec_env("CartPole-v1", n_envs=1, seed=0), seed=0)
    source.save(tmp_path / "source.zip")
    layers = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
    teacher = FrozenTeacher.from_zip(
        tmp_path / "source.zip",
        encoder=layers,
        at="mlp_extractor.policy_net",
        observation_space=source.observation_space,
    )
    assert_same(teacher, source, "mlp_extractor.policy_net")
    in_memory = FrozenTeacher.from_model(source, encoder="mlp_extractor.policy_net")
    assert_same(in_memory, source, "mlp_extractor.policy_net")


def test_from_a_run_directory(tmp_path: Path) -> None:
    source = model()
    (tmp_path / "checkpoints").mkdir()
    source.save(tmp_path / "checkpoints" / "final.zip")
    assert_same(FrozenTeacher.from_zip(tmp_path, encoder=module(source)), source)
    assert_same(FrozenTeacher.from_zip(tmp_path, trust=True), source)


def test_from_a_run_of_the_command_line(tmp_path: Path) -> None:
    source = build_agent("ppo", make_vec("MiniGrid-Empty-5x5-v0", 2, seed=0), seed=0, n_steps=8)
    (tmp_path / "checkpoints").mkdir()
    source.save(tmp_path / "checkpoints" / "final.zip")
    seen = source.get_env().reset()  # type: ignore[union-attr]
    expected = find_encoder(source)[0](seen).detach()
    module = GridEncoder(source.observation_space)  # type: ignore[arg-type]
    teacher = FrozenTeacher.from_zip(tmp_path, encoder=module)
    torch.testing.assert_close(teacher(seen), expected)
    torch.testing.assert_close(FrozenTeacher.from_zip(tmp_path, trust=True)(seen), expected)


def test_rebuilding_needs_trust_and_weights_alone_run_nothing(tmp_path: Path) -> None:
    source, path, witness = model(), tmp_path / "source.zip", tmp_path / "ran"
    source.save(tmp_path / "whole.zip")

    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, (f"open({str(witness)!r}, 'w').close()",))

    with zipfile.ZipFile(tmp_path / "whole.zip") as whole, zipfile.ZipFile(path, "w") as bad:
        bad.writestr("policy.pth", whole.read("policy.pth"))
        bad.writestr("data", pickle.dumps(Malicious()))
    with pytest.raises(ValueError, match=r"unpickling, .*pass encoder=module .*or trust=True"):
        FrozenTeacher.from_zip(path)
    assert_same(FrozenTeacher.from_zip(path, encoder=module(source)), source)
    assert not witness.exists()


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    source, path = model(16), tmp_path / "source.zip"
    source.save(path)
    with pytest.raises(ValueError, match=r"'features_extractor\.layers\.3\.weight' should be \(32"):
        FrozenTeacher.from_zip(path, encoder=module(source, 32))
    with pytest.raises(ValueError, match=r"do not fit Linear: it has nothing at critic"):
        space = source.observation_space
        FrozenTeacher.from_zip(path, encoder=nn.Linear(4, 2), at="critic", observation_space=space)
    with pytest.raises(ValueError, match=r"Flatten has no weights"):
        FrozenTeacher.from_zip(
            path, encoder=nn.Flatten(), observation_space=source.observation_space
        )
    with pytest.raises(ValueError, match=r"Linear does not know its observation space; pass obs"):
        FrozenTeacher.from_zip(path, encoder=nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"no weights at .*nothing\.zip"):
        FrozenTeacher.from_zip(tmp_path / "nothing.zip", trust=True)


# -- its own statistics -------------------------------------------------------------------------


@pytest.mark.parametrize("as_file", [True, False])
def test_a_zips_teacher_takes_its_sources_statistics(as_file: bool, tmp_path: Path) -> None:
    source = model(normalised=True)
    source.learn(64)
    source.save(tmp_path / "source.zip")
    statistics = source.get_vec_normalize_env()
    assert statistics is not None
    given: Any = statistics
    if as_file:
        given = tmp_path / "statistics.pkl"
        statistics.save(str(given))
        with pytest.raises(ValueError, match=r"statistics.pkl is a pickle.*pass trust=True"):
            FrozenTeacher.from_zip(
                tmp_path / "source.zip", encoder=module(source), vec_normalize=given
            )
    teacher = FrozenTeacher.from_zip(
        tmp_path / "source.zip", encoder=module(source), vec_normalize=given, trust=as_file
    )
    assert_same(teacher, source)
    seen = observations(source)
    before = teacher(seen)
    source.learn(64, reset_num_timesteps=False)  # moves the statistics
    assert torch.equal(teacher(seen), before)


def test_a_file_that_holds_no_statistics_is_told(tmp_path: Path) -> None:
    source = model()
    source.save(tmp_path / "source.zip")
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"mean": 0.0}))
    with pytest.raises(ValueError, match=r"holds a dict, expected a VecNormalize"):
        FrozenTeacher.from_zip(
            tmp_path / "source.zip", vec_normalize=tmp_path / "other.pkl", trust=True
        )


# -- in training --------------------------------------------------------------------------------


def none(tmp_path: Path) -> None:
    return None


def in_memory(tmp_path: Path) -> FrozenTeacher:
    return FrozenTeacher.from_model(model(24, seed=1))


def with_statistics(tmp_path: Path) -> FrozenTeacher:
    source = model(24, seed=1, normalised=True)
    source.learn(32)
    return FrozenTeacher.from_model(source)


def from_zip(tmp_path: Path) -> FrozenTeacher:
    source = model(24, seed=1)
    source.save(tmp_path / "source.zip")
    return FrozenTeacher.from_zip(tmp_path / "source.zip", encoder=module(source, 24))


def another_algorithm(tmp_path: Path) -> FrozenTeacher:
    return FrozenTeacher.from_model(model(24, kind=DQN, seed=1))


@pytest.mark.parametrize("make", [none, in_memory, with_statistics, from_zip, another_algorithm])
@pytest.mark.parametrize("target_weight", [0.0, 1.0])
@pytest.mark.parametrize("kind", [PPO, DQN])
def test_the_gradient_changes_with_every_teacher(
    kind: type[BaseAlgorithm],
    make: Callable[[Path], FrozenTeacher | None],
    target_weight: float,
    tmp_path: Path,
    gradients: Callable[..., Any],
) -> None:
    teacher = make(tmp_path)
    if teacher is None and target_weight == 0.0:
        with pytest.raises(ValueError, match="no term is left"):
            ContrastiveDistillation(target_weight=0.0)
        return
    loss = ContrastiveDistillation(teacher=teacher, target_weight=target_weight, n_negatives=16)
    joined = AuxiliaryLossCallback(loss, memory=EpisodicMemory(capacity=500), n_anchors=16, every=2)
    student = model(16, kind=kind, normalised=make is with_statistics)
    kept = {} if teacher is None else {k: t.clone() for k, t in teacher.state_dict().items()}
    before, after = gradients(student, joined, 64)
    assert joined.n_updates > 0
    assert any(bool((a != b).any()) for a, b in zip(before, after, strict=True))
    if teacher is not None:
        assert loss.source_head[-1].out_features == 24  # of the teacher; the student has 16
        assert all(torch.equal(t, kept[name]) for name, t in teacher.state_dict().items())


def test_the_moving_average_follows_the_encoder_slowly() -> None:
    student = model()
    first = [p.detach().clone() for p in find_encoder(student)[0].parameters()]
    loss = ContrastiveDistillation(n_negatives=16, momentum=0.9)
    joined = AuxiliaryLossCallback(loss, memory=EpisodicMemory(capacity=500), n_anchors=16)
    student.learn(32, callback=joined)
    average = list(loss.target_keys.averaged_encoder.average.parameters())  # type: ignore[attr-defined]
    moved = torch.cat([(a - f).flatten() for a, f in zip(average, first, strict=True)]).norm()
    now = list(find_encoder(student)[0].parameters())
    went = torch.cat([(n - f).flatten() for n, f in zip(now, first, strict=True)]).norm()
    assert 0.0 < moved < went


def test_keys_of_one_snapshot_do_not_follow_vec_normalize() -> None:
    env = VecNormalize(make_vec_env("CartPole-v1", n_envs=2))
    joined = AuxiliaryLossCallback(ContrastiveDistillation(), memory=EpisodicMemory(capacity=500))
    settings = {"n_steps": 64, "batch_size": 64, "device": "cpu"}
    kwargs = {"features_extractor_class": VectorEncoder}
    model = PPO("MlpPolicy", env, seed=0, policy_kwargs=kwargs, **settings)
    model.learn(256, callback=joined)
    keys, rows = joined.loss.target_keys, joined.memory.rows()
    before = keys.keys(joined.memory, rows)
    env.obs_rms.mean += 1.0
    keys.table.clear()
    np.testing.assert_allclose(keys.keys(joined.memory, rows), before, atol=1e-5)
