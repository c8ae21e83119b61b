"""Weights under other names: shared tensors, old and compiled zips, encoders that are trunks."""

from __future__ import annotations

import io
import json
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    FrozenPolicy,
    FrozenTeacher,
    VectorEncoder,
    carry_weights,
    default_weight,
    find_encoder,
    read_weights,
)
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory

_VECTORS = {
    "features_extractor_class": VectorEncoder,
    "features_extractor_kwargs": {"features_dim": 16},
    "net_arch": [16],
}
_SEEN = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(3, 4)


def ppo(seed: int, *, policy: Any = "MlpPolicy", **kwargs: Any) -> PPO:
    return PPO(policy, "CartPole-v1", n_steps=16, seed=seed, policy_kwargs=_VECTORS | kwargs)


def plain(seed: int, kind: type[BaseAlgorithm] = PPO) -> BaseAlgorithm:
    return kind("MlpPolicy", "CartPole-v1", seed=seed, policy_kwargs={"net_arch": [16, 16]})


def features(model: BaseAlgorithm) -> torch.Tensor:
    return find_encoder(model)[0](_SEEN).detach()


def rewritten(path: Path, out: Path, change: Any) -> Path:
    """The same zip, its weights renamed by `change`, from a name to a name or None."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(out, "w") as changed:
        for name in archive.namelist():
            raw = archive.read(name)
            if name == "policy.pth":
                weights = torch.load(io.BytesIO(raw), weights_only=True)
                buffer = io.BytesIO()
                torch.save({change(k): v for k, v in weights.items() if change(k)}, buffer)
                raw = buffer.getvalue()
            changed.writestr(name, raw)
    return out


def before_1_7(name: str) -> str | None:
    return None if name.startswith(("pi_features", "vf_features")) else name


def compiled(name: str) -> str:
    return f"_orig_mod.{name}"


@pytest.mark.parametrize("change", [before_1_7, compiled])
def test_zips_with_other_names_are_read_everywhere(change: Any, tmp_path: Path) -> None:
    source = ppo(0)
    source.save(tmp_path / "new.zip")
    path = rewritten(tmp_path / "new.zip", tmp_path / "old.zip", change)
    own = VectorEncoder(source.observation_space, features_dim=16)
    weights = read_weights(path)
    for teacher in (
        FrozenTeacher.from_zip(path, encoder=own),
        FrozenTeacher.from_zip(path, encoder=own, at="vf_features_extractor"),
        FrozenTeacher.from_zip(path, trust=True),
        FrozenTeacher.from_weights(weights, like=ppo(1)),
    ):
        assert torch.equal(teacher(_SEEN), features(source))
    frozen = FrozenPolicy.from_weights(weights, like=ppo(1))
    assert torch.equal(frozen.logits(_SEEN), FrozenPolicy.from_model(source).logits(_SEEN))
    target = ppo(1)
    report = carry_weights(target, weights)
    assert torch.equal(features(target), features(source))
    assert report.fresh == report.left_behind == ()
    assert set(report.carried) == target.policy.state_dict().keys()


def test_an_old_zip_starts_both_extractors_of_a_target_that_has_two(tmp_path: Path) -> None:
    source, target = ppo(0), ppo(1, share_features_extractor=False)
    old = {k: v for k, v in source.policy.state_dict().items() if before_1_7(k)}
    assert carry_weights(target, old).fresh == ()
    for extractor in (target.policy.pi_features_extractor, target.policy.vf_features_extractor):
        assert torch.equal(extractor(torch.as_tensor(_SEEN)), features(source))


def test_a_shared_extractor_takes_one_of_two_and_says_which() -> None:
    source, target = ppo(0, share_features_extractor=False), ppo(1)
    report = carry_weights(target, source.policy.state_dict())
    assert torch.equal(features(target), features(source))  # the actor's
    assert report.fresh == ()
    weights = {n for n in source.policy.state_dict() if n.endswith("weight")}  # biases are all 0
    left = {name for name in weights if name.startswith("vf_features")}
    assert left == set(report.left_behind)


def other_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> Path:
    """A zip that needs a class of a module which is missing now."""
    module = types.ModuleType("gone")
    monkeypatch.setitem(sys.modules, "gone", module)
    kinds: dict[str, type] = {"extractor": VectorEncoder, "policy": ActorCriticPolicy}
    gone = type("Gone", (kinds[part],), {"__module__": "gone"})
    module.Gone = gone  # type: ignore[attr-defined]
    model = ppo(0, features_extractor_class=gone) if part == "extractor" else ppo(0, policy=gone)
    model.save(tmp_path / "gone.zip")
    monkeypatch.delitem(sys.modules, "gone")
    return tmp_path / "gone.zip"


@pytest.mark.parametrize("part", ["extractor", "policy"])
@pytest.mark.parametrize("renamed", [False, True])
def test_classes_that_are_missing_here_are_named(
    part: str, renamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = other_folder(tmp_path, monkeypatch, part)
    if renamed:  # the module is there, the class is not
        monkeypatch.setitem(sys.modules, "gone", types.ModuleType("gone"))
    with pytest.raises(ValueError, match=r"cannot be rebuilt here.*[Gg]one.*pass encoder=module"):
        FrozenTeacher.from_zip(path, trust=True)
    own = VectorEncoder(ppo(0).observation_space, features_dim=16)
    assert FrozenTeacher.from_zip(path, encoder=own).n_features == 16


def test_a_zip_that_says_how_pictures_were_scaled_is_believed(tmp_path: Path) -> None:
    space = gym.spaces.Box(0, 255, (1, 36, 36), np.uint8)

    class Pictures(gym.Env[np.ndarray, int]):
        observation_space, action_space = space, gym.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return space.low, {}

        def step(self, action: int) -> Any:
            return space.low, 0.0, True, False, {}

    kwargs = {"normalize_images": False, "features_extractor_class": VectorEncoder}
    PPO("MlpPolicy", Pictures(), policy_kwargs=kwargs).save(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert json.loads(archive.read("data"))["policy_kwargs"]["normalize_images"] is False
    own = VectorEncoder(space)
    with pytest.raises(ValueError, match="pass normalize_images=False"):
        FrozenTeacher.from_zip(tmp_path / "model.zip", encoder=own)
    teacher = FrozenTeacher.from_zip(tmp_path / "model.zip", encoder=own, normalize_images=False)
    assert teacher.encoder.normalize_images is False


def test_the_ending_may_be_left_out(tmp_path: Path) -> None:
    ppo(0).save(tmp_path / "v1.5")  # Stable-Baselines3 leaves this name as it is
    ppo(0).save(tmp_path / "model")
    for name in ("v1.5", "model", "model.zip"):
        assert FrozenTeacher.from_zip(tmp_path / name, trust=True).n_features == 16
    with pytest.raises(ValueError, match=r"no weights at .*nothing: expected"):
        FrozenTeacher.from_zip(tmp_path / "nothing", trust=True)


# -- carry_weights with encoder= ----------------------------------------------------------------


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_identical_models_without_an_extractor_are_carried(kind: type[BaseAlgorithm]) -> None:
    source, target = plain(0, kind), plain(1, kind)
    report = carry_weights(target, source.policy.state_dict())
    assert report.fresh == ()
    for name, tensor in target.policy.state_dict().items():
        assert torch.equal(tensor, source.policy.state_dict()[name])


@pytest.mark.parametrize(
    "kind, encoder, of_encoder",
    [
        (PPO, "mlp_extractor.policy_net", {"mlp_extractor.policy_net"}),
        (DQN, "q_net.q_net.2", {"q_net.q_net.0", "q_net.q_net.2"}),
    ],
)
def test_a_trunk_is_carried_without_the_head(
    kind: type[BaseAlgorithm], encoder: str, of_encoder: set[str]
) -> None:
    source, target = plain(0, kind), plain(1, kind)
    with pytest.raises(ValueError, match=f'name a trunk.*"{encoder.rpartition(".")[0]}'):
        carry_weights(target, source.policy.state_dict(), mode="new_head")
    report = carry_weights(target, source.policy.state_dict(), mode="new_head", encoder=encoder)
    for name in target.policy.state_dict():
        if not name.startswith("q_net_target"):
            inside = any(name.startswith(part) for part in of_encoder)
            assert (name in report.carried) == inside != (name in report.fresh)


def test_the_critic_s_encoder_takes_its_target_network_along() -> None:
    def sac(seed: int) -> SAC:
        return SAC("MlpPolicy", "Pendulum-v1", seed=seed, policy_kwargs=dict(_VECTORS))

    source, target = sac(0), sac(1)
    weights = source.policy.state_dict()
    report = carry_weights(target, weights, mode="new_head", encoder="critic")
    carried = {name.split("features_extractor")[0] for name in report.carried}
    assert carried == {"critic.", "critic_target."}
    assert all("features_extractor" in name for name in report.carried)


def test_other_architectures_are_refused() -> None:
    source = PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8]})
    weights = {k: v for k, v in source.policy.state_dict().items() if "net.0" in k}
    with pytest.raises(ValueError, match="nothing of the source's encoder fits"):
        carry_weights(plain(0), weights)


# -- advice that can be followed ----------------------------------------------------------------


def test_an_unknown_agent_has_no_default_weight() -> None:
    with pytest.raises(ValueError, match="no default weight for the agent 'sac', only for ppo, d"):
        default_weight("sac")


def test_an_extractor_that_no_optimiser_holds_is_called_that() -> None:
    model = ppo(0)
    head = [*model.policy.mlp_extractor.parameters(), *model.policy.action_net.parameters()]
    model.policy.optimizer = torch.optim.Adam(head, lr=3e-4)
    joined = AuxiliaryLossCallback(ContrastiveDistillation(), memory=EpisodicMemory())
    with pytest.raises(ValueError, match=r"in no optimiser of the policy; put all") as told:
        model.learn(16, callback=joined)
    assert "features_extractor_class" not in str(told.value)
    model.policy.optimizer = torch.optim.Adam(model.policy.parameters(), lr=3e-4)
    model.learn(16, callback=joined)
