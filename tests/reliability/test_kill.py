"""Processes really killed, stopped and doubled."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contrastive_distillation.transfer.run_directory import atomic_files as durable
from contrastive_distillation.transfer.run_directory.directory import fingerprint, read_config
from contrastive_distillation.transfer.run_directory.locking import RUN_LOCK, LockedError, locked
from contrastive_distillation.transfer.study import local_executor as workers
from contrastive_distillation.transfer.study.jobs import Job
from contrastive_distillation.transfer.training.checkpoints import CheckpointStore

from . import broken_envs
from .conftest import GRID, Trainer

ROOT = Path(__file__).resolve().parents[2]


class Child:
    """One training in a process of its own, as the command line starts it."""

    def __init__(self, trainer: Trainer) -> None:
        self.said: list[str] = []
        self.outcome: Any = None
        self.frames = 0
        self._pipe, theirs = workers.context().Pipe()  # type: ignore[attr-defined]
        job = Job(spec=trainer.spec, directory=trainer.directory, command=())
        trainer.directory.mkdir(parents=True, exist_ok=True)
        context: Any = workers.context()
        self.process = context.Process(target=workers.work, args=(theirs, job))
        self.process.start()
        theirs.close()

    def listen(self, seconds: float) -> None:
        """Hear it for so long, or until it ends."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self._pipe.poll(left):
            try:
                message = self._pipe.recv()
            except EOFError:
                return
            if isinstance(message, str):
                self.said.append(message)
            elif isinstance(message, int):
                self.frames = message
            else:
                self.outcome = message

    def listen_until(self, frames: int) -> None:
        """Until it says that it has done so many frames."""
        while self.frames < frames and self.outcome is None:
            self.listen(0.005)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def test_killed_at_random_moments_and_resumed(tmp_path: Path) -> None:
    """A checkpoint after every rollout, so that it is often killed in the middle of one."""
    settings: dict[str, Any] = {"n_envs": 2, "frames": 1_500, "checkpoint_every": 1}
    whole = Trainer(tmp_path / "whole", **settings)
    assert whole.run() == "finished"
    broken = whole.at(tmp_path / "broken")
    generator = random.Random(0)
    n_resumed = 0
    for frames in (400, 900):
        child = Child(broken)
        child.listen_until(frames)
        child.listen(generator.uniform(0.0, 0.1))
        child.kill()
        n_resumed += any("continues at frame" in line for line in child.said)
    child = Child(broken)
    child.listen(240)
    child.process.join()
    if child.outcome is None or child.outcome.status != "finished":
        pytest.fail(f"{child.outcome} {child.said}")
    assert not any("broken" in line for line in child.said)
    assert n_resumed >= 1
    assert broken.result["weights_sha256"] == whole.result["weights_sha256"]


def train_until_half_of(name: str, trainer: Trainer) -> None:
    """Train, and be killed when a checkpoint's file of that name is half written."""
    whole = durable.replace_file

    def replace_file(path: Path, write: Callable[[Path], object]) -> None:
        def write_half(part: Path) -> None:
            write(part)
            if path.name.startswith(name) and ".writing-" in path.parent.name:
                part.write_bytes(part.read_bytes()[:100])
                os.kill(os.getpid(), signal.SIGKILL)

        whole(path, write_half)

    durable.replace_file = replace_file
    trainer.run()


@pytest.mark.parametrize("name", ["policy", "manifest"])
def test_killed_in_the_middle_of_a_file_of_a_checkpoint(name: str, interrupted: Trainer) -> None:
    before = [path.name for path in interrupted.checkpoints]
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=train_until_half_of, args=(name, interrupted))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (half,) = (interrupted.directory / "checkpoints").glob(".writing-*")
    assert min(path.stat().st_size for path in half.iterdir() if name in path.name) == 100
    assert [path.name for path in interrupted.checkpoints] == before
    assert interrupted.run(stop_at=1) == "interrupted"
    assert interrupted.said == [f"continues at frame {int(before[-1]):_}"]
    assert not half.exists()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "run", RUN_LOCK),
        pytest.raises(LockedError, match=f"another process works in it.*process {os.getpid()}"),
        locked(tmp_path / "run", RUN_LOCK),
    ):
        pytest.fail("two processes have the lock")
    assert list((tmp_path / "run").iterdir()) == []
    with locked(tmp_path / "run", RUN_LOCK):
        assert (tmp_path / "run" / RUN_LOCK).exists()


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from contrastive_distillation.transfer.run_directory.locking import locked\n"
        "with locked(Path(sys.argv[1]), '.lock'): print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    holder = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LockedError), locked(tmp_path, ".lock"):
        pytest.fail("two processes have the lock")
    holder.kill()
    holder.wait()
    with locked(tmp_path, ".lock"):
        pass


def start(directory: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "run_agent.py"), "train", "--env", GRID]
    command += ["--frames", "200_000", "--n-envs", "8", "--backend", "gymnasium"]
    command += ["--memory-capacity", "1_000", "--output", str(directory)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def wait_until_it_trains(process: "subprocess.Popen[str]", directory: Path) -> None:
    deadline = time.monotonic() + 120
    while not (directory / "curves.csv").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


def test_sigterm_finishes_the_rollout_and_writes_a_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(run)
    wait_until_it_trains(process, run)
    second = start(run)  # two processes on one directory
    _, err = second.communicate(timeout=120)
    assert second.returncode == 1
    assert "another process works in it" in err and "Traceback" not in err
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "Interrupted. The same command continues" in out
    assert "Traceback" not in out + err
    (checkpoint,) = [path for path in (run / "checkpoints").iterdir() if path.is_dir()][-1:]
    frames = json.loads((checkpoint / "manifest.json").read_text())["frames"]
    assert frames > 0 and frames % (64 * 8) == 0, "at a rollout's end"


def test_a_second_ctrl_c_stops_at_once_and_leaves_whole_checkpoints(tmp_path: Path) -> None:
    """In a rollout that would take two minutes to finish."""
    (tmp_path / "broken_envs.py").write_text(Path(broken_envs.__file__).read_text())
    command = [sys.executable, str(ROOT / "run_agent.py"), "train", "--frames", "200_000"]
    command += ["--env", "broken_envs:broken/slow-v0", "--n-envs", "4", "--backend", "gymnasium"]
    command += ["--memory-capacity", "500", "--checkpoint-every", "1", "--output", "run"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path)
    checkpoints = tmp_path / "run/checkpoints"
    while not (checkpoints / "000000002048").exists():
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)  # it finishes its rollout
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted. The same command continues" in out and "Traceback" not in out + err
    store = CheckpointStore(checkpoints, identity=fingerprint(read_config(tmp_path / "run")))
    newest = store.newest(pytest.fail)
    assert newest is not None and (newest.frames, newest.is_own) == (2048, True)
