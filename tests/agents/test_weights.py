"""Weights: read without running code, carried over by name and shape, hashed, frozen."""

import io
import pickle
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env

from contrastive_distillation.agents import (
    TRANSFER_MODES,
    EncoderRate,
    FrozenTeacher,
    build_agent,
    carry_weights,
    find_encoder,
    policy_sha256,
    read_weights,
)
from contrastive_distillation.agents.weights import is_encoder_parameter

SMALL = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}


def ppo(seed: int, env_id: str = "CartPole-v1", **overrides: object) -> BaseAlgorithm:
    env = make_vec_env(env_id, n_envs=2, seed=seed)
    return build_agent("ppo", env, seed=seed, **(SMALL | overrides))


def dqn(seed: int, **overrides: object) -> BaseAlgorithm:
    env = make_vec_env("CartPole-v1", n_envs=1, seed=seed)
    small = {"learning_starts": 8, "train_freq": 8}
    return build_agent("dqn", env, seed=seed, **(small | overrides))


def test_weights_survive_the_zip(tmp_path: Path) -> None:
    model = ppo(0)
    model.save(tmp_path / "model.zip")
    weights = read_weights(tmp_path / "model.zip")
    for name, tensor in model.policy.state_dict().items():
        assert torch.equal(weights[name], tensor)


def test_a_malicious_zip_runs_nothing(tmp_path: Path) -> None:
    witness = tmp_path / "ran"

    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, (f"open({str(witness)!r}, 'w').close()",))

    raw = io.BytesIO()
    torch.save({"weight": Malicious()}, raw)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("policy.pth", raw.getvalue())
        archive.writestr("data", pickle.dumps(Malicious()))
    with pytest.raises(ValueError, match="broken or not a Stable-Baselines3 zip"):
        read_weights(tmp_path / "bad.zip")
    assert not witness.exists()


def test_missing_and_broken_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no weights at"):
        read_weights(tmp_path / "nothing.zip")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(ValueError, match="broken"):
        read_weights(tmp_path / "broken.zip")


@pytest.mark.parametrize("mode", list(TRANSFER_MODES))
@pytest.mark.parametrize("make", [ppo, dqn])
def test_each_mode_carries_what_it_says(mode: str, make: type) -> None:
    source, target = make(0), make(1)
    fresh = {name: t.clone() for name, t in target.policy.state_dict().items()}
    report = carry_weights(target, source.policy.state_dict(), mode=mode)
    wanted = source.policy.state_dict()
    for name, tensor in target.policy.state_dict().items():
        carried = is_encoder_parameter(name) or TRANSFER_MODES[mode].carries_head
        if name.startswith("q_net_target."):
            continue  # follows q_net, below
        assert torch.equal(tensor, wanted[name] if carried else fresh[name])
        assert (name in report.carried) == carried
        assert (name in report.fresh) != carried
    if hasattr(target.policy, "q_net_target"):
        for name, tensor in target.policy.q_net.state_dict().items():
            assert torch.equal(target.policy.q_net_target.state_dict()[name], tensor)
    assert f"carried over: {len(report.carried)} tensors" in str(report)


def test_other_shapes_stay_fresh_and_are_reported() -> None:
    source = ppo(0, policy_kwargs={"net_arch": [32]})
    target = ppo(1)
    encoder_only = {
        name: t for name, t in source.policy.state_dict().items() if not is_encoder_parameter(name)
    }
    with pytest.raises(ValueError, match="nothing of the source's encoder fits"):
        carry_weights(target, encoder_only)
    with pytest.raises(ValueError, match="unknown transfer mode 'thaw'"):
        carry_weights(target, source.policy.state_dict(), mode="thaw")


def test_the_hash_tells_weights_apart() -> None:
    first, again, other = ppo(0), ppo(0), ppo(1)
    assert policy_sha256(first) == policy_sha256(again) != policy_sha256(other)


@pytest.mark.parametrize("make", [ppo, dqn])
def test_a_frozen_encoder_does_not_move_and_its_head_does(make: type) -> None:
    model = make(0)
    before = {name: t.clone() for name, t in model.policy.state_dict().items()}
    model.learn(160, callback=EncoderRate(0.0))
    moved = {n for n, t in model.policy.state_dict().items() if not torch.equal(t, before[n])}
    assert moved
    assert not [name for name in moved if is_encoder_parameter(name)]
    assert all(p.requires_grad for p in find_encoder(model)[0].parameters())  # thawed again


def test_a_lower_rate_is_that_share_of_the_step() -> None:
    def first_step(factor: float) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        model = ppo(0, n_steps=16, batch_size=32)
        before = {name: t.clone() for name, t in model.policy.named_parameters()}
        model.learn(32, callback=EncoderRate(factor))
        after = dict(model.policy.named_parameters())
        return before, {name: (after[name] - before[name]).detach() for name in before}

    _, full = first_step(1.0)
    _, tenth = first_step(0.1)
    for name, step in full.items():
        factor = 0.1 if is_encoder_parameter(name) else 1.0
        torch.testing.assert_close(tenth[name], factor * step, rtol=1e-3, atol=1e-6)


def test_a_frozen_teacher_does_not_follow_its_model() -> None:
    model = ppo(0)
    teacher = FrozenTeacher.from_model(model)
    observations = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    before = teacher(observations)
    encoder, _ = find_encoder(model)
    torch.testing.assert_close(before, encoder(observations).detach())
    model.learn(64)
    assert torch.equal(teacher(observations), before)
    assert not torch.equal(encoder(observations), before)
    assert not before.requires_grad


def test_a_teacher_from_weights_is_the_source_encoder() -> None:
    source, target = ppo(0), ppo(1)
    observations = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    teacher = FrozenTeacher.from_weights(source.policy.state_dict(), like=target)
    encoder, _ = find_encoder(source)
    torch.testing.assert_close(teacher(observations), encoder(observations).detach())
    with pytest.raises(ValueError, match="the teacher's weights do not fit"):
        FrozenTeacher.from_weights({}, like=target)


def test_a_teacher_keeps_its_sources_statistics() -> None:
    from stable_baselines3.common.vec_env import VecNormalize

    env = VecNormalize(make_vec_env(lambda: gym.make("CartPole-v1"), n_envs=2, seed=0))
    model = build_agent("ppo", env, seed=0, **SMALL)
    model.learn(64)
    teacher = FrozenTeacher.from_model(model)
    observations = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    before = teacher(observations)
    for _ in range(20):
        env.step(np.zeros(2, dtype=np.int64))
    assert torch.equal(teacher(observations), before)
