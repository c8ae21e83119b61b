"""Heads, memory, generators and loss state in a file of their own, exact to the bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    FrozenTeacher,
    VectorEncoder,
    WeightSchedule,
    policy_sha256,
)
from contrastive_distillation.losses import AuxiliaryLoss, ContrastiveDistillation, Learner
from contrastive_distillation.memory import EpisodicMemory, MemoryBatch, unpack

KWARGS = {
    "features_extractor_class": VectorEncoder,
    "features_extractor_kwargs": {"features_dim": 16, "hidden_dims": ()},
    "net_arch": [16],
}


def model(algorithm: type[BaseAlgorithm] = PPO) -> BaseAlgorithm:
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2}
    if algorithm is DQN:
        settings = {"learning_starts": 16, "batch_size": 16}
    env = make_vec_env("CartPole-v1", n_envs=2, seed=0)
    return algorithm("MlpPolicy", env, policy_kwargs=dict(KWARGS), seed=0, **settings)


class Size(AuxiliaryLoss):
    """A loss outside the registry, with a state of its own."""

    name: ClassVar[str] = "size"
    n_seen: Tensor

    def build(self, learner: Learner) -> None:
        self.register_buffer("n_seen", torch.tensor(0))

    def forward(self, learner: Learner, batch: MemoryBatch) -> Mapping[str, Tensor]:
        self.n_seen += 1
        return {"size": learner.encoder(batch.observations).square().mean()}


def join(loss: AuxiliaryLoss | None = None, **settings: Any) -> AuxiliaryLossCallback:
    loss = loss or ContrastiveDistillation(n_negatives=16)
    memory = EpisodicMemory(capacity=500)
    defaults: dict[str, Any] = {"memory": memory, "n_anchors": 16, "every": 8}
    return AuxiliaryLossCallback(loss, **(defaults | settings))


def tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["auxiliary"])
        return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_what_is_loaded_and_saved_again_is_the_same_to_the_bit(
    algorithm: type[BaseAlgorithm], tmp_path: Path
) -> None:
    trained, joined = model(algorithm), join(weight=0.3)
    trained.learn(96, callback=joined)
    joined.save(tmp_path / "first.safetensors")
    again = AuxiliaryLossCallback.load(tmp_path / "first.safetensors")
    with pytest.raises(ValueError, match=r"pass the callback to learn\(\) first"):
        again.save(tmp_path / "second.safetensors")
    again.init_callback(trained)
    again.save(tmp_path / "second.safetensors")
    first, first_numbers = tensors(tmp_path / "first.safetensors")
    second, second_numbers = tensors(tmp_path / "second.safetensors")
    assert first.keys() == second.keys()
    assert {"loss", "heads", "memory"} == {name.split("/")[0] for name in first}
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]) and tensor.dtype == second[name].dtype, name
    assert first_numbers == second_numbers


@pytest.mark.parametrize("algorithm", [PPO, DQN])
@pytest.mark.parametrize("with_teacher", [True, False])
def test_training_continues_to_the_bit(
    algorithm: type[BaseAlgorithm], with_teacher: bool, tmp_path: Path
) -> None:
    def loss() -> ContrastiveDistillation:
        teacher = FrozenTeacher.from_model(model()) if with_teacher else None
        return ContrastiveDistillation(teacher=teacher, n_negatives=16)

    def train(reload: bool) -> str:
        seen = EpisodicMemory(capacity=500)
        if with_teacher:
            model().learn(64, callback=join(memory=seen, weight=0.0))
        given: dict[str, Any] = {"source_memory": seen} if with_teacher else {}
        own, other = loss(), loss()
        trained = model(algorithm)
        joined = join(own, weight=WeightSchedule("cosine", 0.5, 0.1), every=2, **given)
        trained.learn(96, callback=joined)
        if reload:
            path = tmp_path / "aux.safetensors"
            joined.save(path)
            if with_teacher:
                given["loss"] = other
            joined = AuxiliaryLossCallback.load(path, **given)
            joined.continue_episodes()  # a file does not know that nothing was reset
        trained.learn(96, callback=joined, reset_num_timesteps=False)
        return policy_sha256(trained)

    assert train(reload=True) == train(reload=False)


def test_a_loss_of_ones_own_is_passed_and_keeps_its_state(tmp_path: Path) -> None:
    path = tmp_path / "aux.safetensors"
    trained, joined = model(), join(Size())
    trained.learn(64, callback=joined)
    joined.save(path)
    with pytest.raises(ValueError, match=r"'size', which is not in the registry; pass it"):
        AuxiliaryLossCallback.load(path)
    with pytest.raises(ValueError, match=r"holds the loss 'size', not 'contrastive_distillation'"):
        AuxiliaryLossCallback.load(path, loss=ContrastiveDistillation())
    again = AuxiliaryLossCallback.load(path, loss=Size())
    n_seen = int(joined.loss.n_seen)  # type: ignore[arg-type]
    trained.learn(64, callback=again, reset_num_timesteps=False)
    assert n_seen == joined.n_updates > 0
    assert int(again.loss.n_seen) == again.n_updates == 2 * n_seen  # type: ignore[arg-type]


def test_a_function_is_passed_and_a_schedule_is_not(tmp_path: Path) -> None:
    path = tmp_path / "aux.safetensors"
    trained, joined = model(), join(weight=lambda remaining: 0.1 * remaining)
    trained.learn(32, callback=joined)
    joined.save(path)
    with pytest.raises(ValueError, match=r"whose weight is a function.*load\(path, weight=...\)"):
        AuxiliaryLossCallback.load(path)
    assert AuxiliaryLossCallback.load(path, weight=0.2).weight == 0.2
    joined.weight = WeightSchedule("linear", 0.4, 0.1)
    joined.save(path)
    assert AuxiliaryLossCallback.load(path).weight == WeightSchedule("linear", 0.4, 0.1)
    assert AuxiliaryLossCallback.load(path, weight=0.0).weight == 0.0


def test_a_source_memory_is_asked_for(tmp_path: Path) -> None:
    path, seen = tmp_path / "aux.safetensors", EpisodicMemory(capacity=100)
    trained, joined = model(), join(source_memory=seen)
    trained.learn(32, callback=joined)
    joined.save(path)
    with pytest.raises(ValueError, match=r"source memory.*load\(path, source_memory="):
        AuxiliaryLossCallback.load(path)
    assert AuxiliaryLossCallback.load(path, source_memory=seen).source_memory is seen


def test_nothing_is_imported_from_a_file(tmp_path: Path) -> None:
    """A file that names a module and a class gets neither imported."""
    path, witness = tmp_path / "aux.safetensors", tmp_path / "ran"
    trained, joined = model(), join()
    trained.learn(32, callback=joined)
    joined.save(path)
    found, metadata = tensors(path)
    (tmp_path / "evil_module.py").write_text(f"open({str(witness)!r}, 'w').close()")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        for field in ("loss", "memory_class"):
            changed = metadata | {field: "evil_module:Loss"}
            save_file(found, path, metadata={"auxiliary": json.dumps(changed)})
            with pytest.raises(ValueError, match="evil_module:Loss"):
                AuxiliaryLossCallback.load(path)
    assert not witness.exists()


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "aux.safetensors"
    trained, joined = model(), join()
    trained.learn(32, callback=joined)
    joined.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="missing or broken"):
        AuxiliaryLossCallback.load(path)
    with pytest.raises(ValueError, match="missing or broken"):
        AuxiliaryLossCallback.load(tmp_path / "nothing.safetensors")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a callback that has been trained with."""
    path = tmp_path_factory.mktemp("saved") / "aux.safetensors"
    joined = join(every=1, memory=EpisodicMemory(capacity=100))
    model().learn(64, callback=joined)
    joined.save(path)
    return path


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"n_steps": "many"}, "n_steps is 'many', not int"),
        ({"n_updates": True}, "n_updates is True, not int"),
        ({"n_steps": -1}, "n_steps is -1, expected ≥ 0"),
        ({"loss_settings": []}, r"loss_settings is \[\], not dict"),
        ({"reference": [0.1, "x"]}, "expected gradient norms > 0"),
        ({"reference": [float("nan")]}, "expected gradient norms > 0"),
        ({"generator": {}}, "is broken"),
        ({"memory": {}}, "is broken: this is not a memory's file"),
        ({"settings": {"every": 1, "evry": 2, "weight": 0.1}}, "is broken"),
    ],
)
def test_what_a_file_says_is_checked(
    changed: dict[str, Any], said: str, saved: Path, tmp_path: Path
) -> None:
    found, metadata = tensors(saved)
    path = tmp_path / "other.safetensors"
    save_file(found, path, metadata={"auxiliary": json.dumps(metadata | changed)})
    with pytest.raises(ValueError, match=said) as refused:
        AuxiliaryLossCallback.load(path)
    assert str(path) in str(refused.value)


def test_older_files_are_not_packed(tmp_path: Path) -> None:
    saved, joined = tmp_path / "aux.safetensors", join(memory=EpisodicMemory(capacity=2000))
    model().learn(2048, callback=joined)
    joined.save(saved)
    packed, metadata = tensors(saved)
    of_memory = {k: v.numpy() for k, v in packed.items() if k.startswith("memory/")}
    of_memory = {name.removeprefix("memory/"): array for name, array in of_memory.items()}
    plain = {k: v for k, v in packed.items() if not k.startswith("memory/")}
    plain |= {f"memory/{name}": torch.from_numpy(a) for name, a in unpack(of_memory).items()}
    assert plain.keys() == packed.keys() - {"memory/packed"} != packed.keys()
    path = tmp_path / "older.safetensors"
    save_file(plain, path, metadata={"auxiliary": json.dumps({**metadata, "version": 2})})
    older, newer = AuxiliaryLossCallback.load(path), AuxiliaryLossCallback.load(saved)
    assert older.memory.metadata() == newer.memory.metadata()
    ours, theirs = older.memory.state_tensors(), newer.memory.state_tensors()
    assert all(array.tobytes() == theirs[name].tobytes() for name, array in ours.items())
    with pytest.raises(ValueError, match=r"not an auxiliary file of version 2 or 3 \(found 1\)"):
        save_file(plain, path, metadata={"auxiliary": json.dumps({**metadata, "version": 1})})
        AuxiliaryLossCallback.load(path)


@pytest.mark.parametrize("fault", ["missing", "shape", "dtype", "length"])
@pytest.mark.parametrize("room", ["loss", "heads", "memory"])
def test_the_tensors_of_a_file_are_checked(
    room: str, fault: str, saved: Path, tmp_path: Path
) -> None:
    """Each tensor in turn: it is refused before the first frame, or it does no harm."""
    whole, metadata = tensors(saved)
    path, trained = tmp_path / "other.safetensors", model()
    names = [name for name in whole if name.startswith(f"{room}/") and whole[name].numel() > 1]
    n_refused = 0
    for name in names:
        found, tensor = dict(whole), whole[name]
        if fault == "missing":
            del found[name]
        else:
            other = {
                "shape": lambda t: t.unsqueeze(0),
                "dtype": lambda t: t.to(torch.float64 if t.is_floating_point() else torch.int16),
                "length": lambda t: t[:-1].clone(),
            }
            found[name] = other[fault](tensor)
        save_file(found, path, metadata={"auxiliary": json.dumps(metadata)})
        try:
            AuxiliaryLossCallback.load(path).init_callback(trained)
        except ValueError:
            n_refused += 1
    assert n_refused >= (len(names) if room == "heads" else 1)


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    joined = join()
    model().learn(32, callback=joined)
    with pytest.raises(ValueError, match=r"aux\.safetensors: the directory"):
        joined.save(tmp_path / "nowhere/aux.safetensors")


def test_a_file_nested_without_end_is_told(saved: Path, tmp_path: Path) -> None:
    found, _ = tensors(saved)
    path = tmp_path / "other.safetensors"
    save_file(found, path, metadata={"auxiliary": "[" * 100_000})
    with pytest.raises(ValueError, match="missing or broken"):
        AuxiliaryLossCallback.load(path)
