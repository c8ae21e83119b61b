"""Files of strangers: nothing in them runs."""

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.numpy import save

from contrastive_distillation.agents import AuxiliaryLossCallback, read_weights
from contrastive_distillation.memory import EpisodicMemory
from contrastive_distillation.run_agent import main
from contrastive_distillation.transfer.run_directory import atomic_files as durable
from contrastive_distillation.transfer.run_directory import signing
from contrastive_distillation.transfer.run_directory.directory import read_config, start_directory
from contrastive_distillation.transfer.training import checkpoints as checkpoint_files
from contrastive_distillation.transfer.training.checkpoint_callback import ENVIRONMENTS

from .conftest import GRID, Trainer


class Payload:
    """Leaves a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def payload(tmp_path: Path) -> bytes:
    """A pickle that makes `marker`; it works, as the first thing done with it shows."""
    content = pickle.dumps(Payload(tmp_path / "marker"))
    pickle.loads(content)
    (tmp_path / "marker").unlink()
    return content


def forge(directory: Path, name: str, content: bytes) -> None:
    """Put a file into a checkpoint as a stranger would: all is right but the signature."""
    (directory / name).write_bytes(content)
    manifest, _ = checkpoint_files._opened(directory)
    manifest["files"][name] = durable.sha256_of(content)
    (directory / "manifest.json").write_bytes(checkpoint_files._sealed(manifest, "0" * 64))


def test_a_strangers_environments_are_not_unpickled(
    interrupted: Trainer, payload: bytes, tmp_path: Path
) -> None:
    forge(interrupted.checkpoints[-1], ENVIRONMENTS, payload)
    assert interrupted.run(stop_at=1) == "interrupted"
    (said,) = interrupted.said
    assert "start new episodes with a new seed" in said and "--trust" in said
    assert not (tmp_path / "marker").exists()


def test_they_are_with_trust(interrupted: Trainer, payload: bytes, tmp_path: Path) -> None:
    forge(interrupted.checkpoints[-1], ENVIRONMENTS, payload)
    interrupted.run(stop_at=1, trust=True)
    assert (tmp_path / "marker").exists(), "the payload of the other tests is a real one"


def test_another_user_goes_on_with_new_episodes(
    interrupted: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another"))
    assert interrupted.run(stop_at=1) == "interrupted"
    assert "not signed by you" in interrupted.said[0]
    trusting = interrupted.at(interrupted.directory)
    (own, *_) = reversed(interrupted.checkpoints)
    assert int(own.name) > 1536, "what this user has written since is signed"
    trusting.run(stop_at=1)
    assert trusting.said == [f"continues at frame {int(own.name):_}"]


def test_without_a_key_checkpoints_are_written_unsigned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no directory").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "no directory"))
    with pytest.raises(signing.KeyUnusableError):
        signing.sign({})
    trainer = Trainer(tmp_path / "run")
    assert trainer.run(stop_at=600) == "interrupted"
    assert "are not signed" in trainer.said[0]
    assert trainer.run(stop_at=1) == "interrupted"
    assert "start new episodes with a new seed" in trainer.said[1]


@pytest.mark.parametrize("name", ["optimiser.pth", "policy.safetensors", "auxiliary.safetensors"])
def test_a_pickle_in_place_of_numbers_is_refused(
    name: str, interrupted: Trainer, payload: bytes, tmp_path: Path
) -> None:
    forge(interrupted.checkpoints[-1], name, payload)
    with pytest.raises(ValueError):
        interrupted.run(stop_at=1, trust=True)
    assert not (tmp_path / "marker").exists()


def test_of_a_strangers_zip_only_weights_are_read(payload: bytes, tmp_path: Path) -> None:
    import base64
    import io

    weights = io.BytesIO()
    torch.save({"layer": torch.ones(2)}, weights)
    data = json.dumps({"policy_class": {":serialized:": base64.b64encode(payload).decode()}})
    for policy, readable in ((weights.getvalue(), True), (payload, False)):
        path = tmp_path / "stranger.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data", data)
            archive.writestr("policy.pth", policy)
            archive.writestr("pytorch_variables.pth", payload)
        if readable:
            assert read_weights(path)["layer"].tolist() == [1, 1]
        else:
            with pytest.raises(ValueError, match="broken or not a Stable-Baselines3 zip"):
                read_weights(path)
    assert not (tmp_path / "marker").exists()


def test_a_strangers_run_imports_no_module(
    interrupted: Trainer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its configuration may name one that lies in the directory one works in."""
    (tmp_path / "payload_env.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w').close()")
    monkeypatch.syspath_prepend(str(tmp_path))
    run, env_id = interrupted.directory, f"payload_env:{GRID}"
    own = read_config(run)
    config = {**own, "env": [env_id]}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    film = str(tmp_path / "agent.gif")
    for words in (
        ["evaluate", str(run)],
        ["watch", str(run), "--output", film],
        ["transfer", "--from", str(run), "--target", GRID],
    ):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "was not made by you" in said and f"say so: --env {env_id}" in said
    assert not (tmp_path / "marker").exists()
    start_directory(run, config, command=())  # made, and signed, by this user
    assert main(["evaluate", str(run), "--episodes", "1"]) == 0
    assert (tmp_path / "marker").exists()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another"))
    assert main(["evaluate", str(run), "--episodes", "1"]) == 2
    assert main(["evaluate", str(run), "--episodes", "1", "--env", env_id]) == 0


def test_trust_is_typed_and_not_read_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("trust: true\n")
    assert main(["train", "--config", str(path)]) == 2
    assert "trust cannot be set in a file; type --trust" in capsys.readouterr().err


def lying_files(payload: bytes) -> dict[str, bytes]:
    """Safetensors files that are none, or lie about what is in them."""

    def header(entries: dict[str, Any], body: bytes = b"\0" * 8) -> bytes:
        text = json.dumps(entries).encode()
        return struct.pack("<Q", len(text)) + text + body

    beyond = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 40]}}
    mismatch = {"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 8]}}
    return {
        "pickle": payload,
        "huge header": struct.pack("<Q", 1 << 60) + b"{}",
        "beyond the end": header(beyond),
        "shape and size differ": header(mismatch),
        "pickle as metadata": header(
            {"__metadata__": {"auxiliary": payload.decode("latin1")}}, b""
        ),
        "no tensors": save({}),
    }


def test_a_malicious_safetensors_runs_nothing(payload: bytes, tmp_path: Path) -> None:
    path = tmp_path / "stranger.safetensors"
    for content in lying_files(payload).values():
        path.write_bytes(content)
        with pytest.raises(ValueError):
            AuxiliaryLossCallback.load(path)
        with pytest.raises(ValueError):
            EpisodicMemory.load(path)
    assert not (tmp_path / "marker").exists()
