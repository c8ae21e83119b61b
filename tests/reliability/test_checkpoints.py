"""Checkpoints: whole or not there, checked before use, the last two and the best kept."""

import json
import random
import shutil
import stat
from pathlib import Path

import pytest
import yaml

from contrastive_distillation.transfer import RunDirectoryError
from contrastive_distillation.transfer.run_directory import signing
from contrastive_distillation.transfer.training import checkpoints as files
from contrastive_distillation.transfer.training.checkpoints import CheckpointError, CheckpointStore

from .conftest import Trainer


def store(directory: Path) -> CheckpointStore:
    return CheckpointStore(directory / "checkpoints", identity="a run")


def write(into: CheckpointStore, frames: int, score: float | None = None) -> None:
    writers = {"a.bin": lambda path: path.write_bytes(b"a" * 1000)}
    into.write(writers, frames=frames, score=score, say=pytest.fail)


def names(directory: Path) -> list[int]:
    return sorted(int(path.name) for path in (directory / "checkpoints").iterdir())


def test_the_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    for frames, score in ((1, 0.1), (2, 0.9), (3, 0.2), (4, None), (5, 0.3)):
        write(store(tmp_path), frames, score)
    assert names(tmp_path) == [2, 4, 5]


def test_what_was_written_is_found_signed_and_whole(tmp_path: Path) -> None:
    write(store(tmp_path), 7)
    found = store(tmp_path).newest(pytest.fail)
    assert found is not None
    assert (found.frames, found.is_own, found.same_versions) == (7, True, True)
    assert found.read("a.bin") == b"a" * 1000
    with pytest.raises(CheckpointError, match=r"has no b\.bin"):
        found.read("b.bin")


def test_any_changed_byte_is_found(tmp_path: Path) -> None:
    """In the file and in the manifest alike, the signature included."""
    write(store(tmp_path), 7)
    directory = tmp_path / "checkpoints/000000000007"
    generator = random.Random(0)
    for name in ("a.bin", "manifest.json"):
        path = directory / name
        whole = path.read_bytes()
        for _ in range(200):
            broken = bytearray(whole)
            broken[generator.randrange(len(broken))] ^= 1 << generator.randrange(8)
            path.write_bytes(broken)
            with pytest.raises(CheckpointError):
                store(tmp_path).check(directory)
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(CheckpointError):
                store(tmp_path).check(directory)
        path.write_bytes(whole)
    assert store(tmp_path).check(directory).is_own


def test_of_another_run_or_under_another_name(tmp_path: Path) -> None:
    write(store(tmp_path), 7)
    directory = tmp_path / "checkpoints/000000000007"
    with pytest.raises(CheckpointError, match="another configuration"):
        CheckpointStore(tmp_path / "checkpoints", identity="another").check(directory)
    directory.rename(directory.with_name("000000000008"))
    with pytest.raises(CheckpointError, match="it holds 7 frames"):
        store(tmp_path).check(directory.with_name("000000000008"))


def test_of_another_version_of_the_program(
    interrupted: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost: not even set aside."""
    before = [path.name for path in interrupted.checkpoints]
    with monkeypatch.context() as patch:
        patch.setattr(files, "_READABLE", (5, 6))
        with pytest.raises(files.OtherVersionError, match=r"of version 4, .* 5 and 6: cont"):
            interrupted.run()
    assert [path.name for path in interrupted.checkpoints] == before
    assert interrupted.run(stop_at=1) == "interrupted"
    assert interrupted.said[-1].startswith("continues at frame ")


@pytest.mark.parametrize("fault", ["flipped", "truncated", "missing", "no manifest"])
def test_a_broken_one_is_reported_and_the_one_before_it_used(
    fault: str, interrupted: Trainer
) -> None:
    newest, before = interrupted.checkpoints[-1], interrupted.checkpoints[-2]
    path = newest / ("manifest.json" if fault == "no manifest" else "policy.safetensors")
    if fault == "flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif fault == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        path.unlink()
    assert interrupted.run(stop_at=1) == "interrupted"
    broken, continues = interrupted.said
    assert path.name in broken and "the checkpoint before it is used" in broken
    assert continues == f"continues at frame {int(before.name):_}"
    assert (newest.parent / f"broken-{newest.name}").is_dir()


def test_no_whole_one_is_left(interrupted: Trainer) -> None:
    for directory in interrupted.checkpoints:
        (directory / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match="--resume require: there is no whole"):
        interrupted.run(resume="require")
    assert interrupted.run(stop_at=1) == "interrupted"
    assert "it starts again from its seed" in interrupted.said[-1]


def test_resume_never_starts_from_the_seed(interrupted: Trainer) -> None:
    assert interrupted.run(stop_at=1, resume="never") == "interrupted"
    assert interrupted.said == []
    assert [int(path.name) for path in interrupted.checkpoints] == [512]


def test_what_is_whole_but_does_not_fit_is_refused_in_one_line(interrupted: Trainer) -> None:
    """A manifest that is right about files that are wrong: only a person could have made it."""
    from contrastive_distillation.transfer.run_directory import atomic_files as durable

    newest = interrupted.checkpoints[-1]
    (newest / "optimiser.pth").write_bytes(b"no optimiser")
    content, _ = files._opened(newest)
    content["files"]["optimiser.pth"] = durable.sha256_of(b"no optimiser")
    (newest / "manifest.json").write_bytes(files._sealed(content, None))
    with pytest.raises(CheckpointError, match="does not fit this training") as caught:
        interrupted.run()
    assert "\n" not in str(caught.value)


def test_the_manifest_says_when_a_run_was_continued(interrupted: Trainer) -> None:
    interrupted.run(stop_at=1)
    manifest = json.loads((interrupted.directory / "manifest.json").read_text())
    assert [entry["frames"] for entry in manifest["resumed"]] == [1536]


def test_the_key_is_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    signature = signing.sign({"a": 1})
    path = signing.key_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_bytes()) == signing.KEY_BYTES
    assert signing.is_signed({"a": 1}, signature)
    assert not signing.is_signed({"a": 2}, signature)
    assert not signing.is_signed({"a": 1}, None)
    path.chmod(0o644)
    assert not signing.is_signed({"a": 1}, signature)
    with pytest.raises(signing.KeyUnusableError, match="others may read it"):
        signing.sign({"a": 1})
    shutil.rmtree(tmp_path)
    assert not signing.is_signed({"a": 1}, signature), "another key is another user"


def test_a_run_with_edited_agent_settings_is_not_continued(interrupted: Trainer) -> None:
    path = interrupted.directory / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["agent_settings"]["learning_rate"] = 0.5
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(RunDirectoryError, match=r"agent_settings\.learning_rate is 0\.5, but the"):
        interrupted.run()
