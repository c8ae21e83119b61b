"""Full disks and directories that may not be written: a clear line, nothing lost."""

import contextlib
import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contrastive_distillation.run_agent import main
from contrastive_distillation.transfer.run_directory import atomic_files as durable
from contrastive_distillation.transfer.training.checkpoints import CheckpointStore

from .conftest import GRID, VECTOR, Trainer


def mount(directory: Path, *options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a tmpfs")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1.5 MB; needs the right to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount(disk, "size=1500k")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_leaves_the_last_checkpoint_whole(small_disk: Path) -> None:
    trainer = Trainer(small_disk / "run", frames=50_000)
    with pytest.raises(OSError) as caught:
        trainer.run()
    assert caught.value.errno == errno.ENOSPC
    line = durable.explain(caught.value)
    assert "no space left on device; make room, then give the same command again" in line
    assert not list(trainer.directory.rglob("*writing*"))
    for directory in trainer.checkpoints:
        assert store(trainer).check(directory).is_own


@contextlib.contextmanager
def filled(disk: Path, once: Path) -> Iterator[None]:
    """As soon as `once` is there, another process takes every free byte of the disk."""
    ended = threading.Event()

    def fill() -> None:
        while not once.exists():
            if ended.wait(0.02):
                return
        with (disk / "others").open("wb", buffering=0) as file:
            while not ended.wait(0.001):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * 4096)

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        (disk / "others").unlink(missing_ok=True)


def test_a_disk_that_others_fill_is_named_and_the_run_goes_on_with_room(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even the worker's log can be written."""
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    run = small_disk / "run"
    words = ["train", "--env", VECTOR, "--frames", "5_000", "--n-envs", "4"]
    words += ["--backend", "gymnasium", "--memory-capacity", "500", "--checkpoint-every", "1"]
    words += ["--information-points", "1", "--output", str(run)]
    with filled(small_disk, run / "checkpoints/000000000512/manifest.json"):
        assert main(words) == 1
    said = capsys.readouterr()
    assert f"{run}  failed: {run}/" in said.out
    assert "no space left on device; make room, then give the same command again" in said.out
    errors = said.err.splitlines()
    assert errors and all(line.startswith(f"error: {run}") for line in errors)
    assert main(words) == 0
    assert f"{run}  continues at frame " in capsys.readouterr().out


def store(trainer: Trainer) -> CheckpointStore:
    from contrastive_distillation.transfer.run_directory.directory import fingerprint

    identity = fingerprint(trainer.spec.config())
    return CheckpointStore(trainer.directory / "checkpoints", identity=identity)


def test_a_write_that_fails_half_way_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    durable.write_bytes(path, b"old")

    def half(temporary: Path) -> None:
        temporary.write_bytes(b"ne")
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with pytest.raises(OSError) as caught:
        durable.write_with(path, half)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_that_cannot_be_written_stops_the_run_and_spares_the_others(
    interrupted: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [path.name for path in interrupted.checkpoints]
    whole = durable.replace_file

    def fail(path: Path, write: Callable[[Path], object]) -> None:
        if path.name.startswith("arrays"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        whole(path, write)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "replace_file", fail)
        with pytest.raises(OSError, match="No space left"):
            interrupted.run()
    assert [path.name for path in interrupted.checkpoints] == before
    assert interrupted.run() == "finished"


def test_a_directory_that_cannot_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--env", GRID, "--frames", "10", "--output", "/proc/run"]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "/proc/run" in err
    assert err.count("\n") == 1 and "Traceback" not in err


def test_a_read_only_directory_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write anywhere: where it runs the tests, the system's refusal is played."""
    run = tmp_path / "locked" / "run"
    run.parent.mkdir()
    run.parent.chmod(0o500)
    if os.geteuid() == 0:

        def refuse(self: Path, *args: object, **kwargs: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

        monkeypatch.setattr(Path, "mkdir", refuse)
    assert main(["train", "--env", GRID, "--frames", "10", "--output", str(run)]) == 1
    assert capsys.readouterr().err == (
        f"error: {run}: cannot be written: permission denied; choose another directory with "
        "--output\n"
    )
