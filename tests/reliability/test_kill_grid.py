"""A grid whose processes are killed at random moments, and the same command after it.

A quick one is in tests/transfer/study/test_whole_studies.py.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
GRID = ["--source", "CartPole-v1", "--target", "CartPole-v1", "--agent", "ppo", "--n-envs", "4"]
GRID += ["--backend", "gymnasium", "--memory-capacity", "1_000", "--workers", "2"]
WHOLE = [*GRID, "--arms", "contrastive_distillation", "fine_tune", "equal_compute", "scratch"]
WHOLE += ["--frames", "3_000", "--seeds", "2", "--vary", "n_negatives=4,8"]


class Run:
    """The command, in a session of its own."""

    def __init__(self, directory: Path, words: list[str]) -> None:
        self.directory = directory
        command = [sys.executable, str(ROOT / "run_agent.py"), "ablate", *words]
        command += ["--checkpoint-every", "1", "--output", str(directory)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def end(self, seconds: float) -> tuple[int, str]:
        """Its exit code and all it said."""
        out, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, out

    def wait_for(self, n_checkpoints: int) -> bool:
        """Until so many checkpoints are there; False where it ended before."""
        while self.process.poll() is None:
            if self._n_checkpoints() >= n_checkpoints:
                return True
            time.sleep(0.01)
        return False

    def _n_checkpoints(self) -> int:
        """How many checkpoints are written whole.

        `os.walk` skips a folder that is renamed while it looks; `Path.glob` raises there.
        """
        walk = os.walk(self.directory)
        return sum("manifest.json" in files for at, _, files in walk if "checkpoints/" in at)

    def kill_all(self) -> None:
        """End the command and its workers at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def kill_parent(self) -> None:
        """End the command alone: its workers notice that it is gone."""
        self.process.kill()
        self.process.communicate()

    def kill_worker(self, generator: random.Random) -> bool:
        """End one worker; False where none is at work just now."""
        workers = self._workers()
        if not workers:
            return False
        try:
            os.kill(generator.choice(workers), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def _workers(self) -> list[int]:
        """Processes of the session that neither are the command nor were started by it."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parent, session = int(fields[1]), int(fields[3])
            if session == self.process.pid and parent not in (session, os.getpid()):
                found.append(int(path.parent.name))
        return found


def hashes_of(directory: Path) -> dict[str, str]:
    result: Any = json.loads((directory / "result.json").read_text())
    return {name: spec["weights_sha256"] for name, spec in result["cells"].items()}


def undisturbed(directory: Path, words: list[str]) -> dict[str, str]:
    code, said = Run(directory, words).end(300)
    assert code == 0, said
    return hashes_of(directory)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("seed", [0, 1])
def test_a_grid_killed_three_times_ends_as_if_it_had_not_been(tmp_path: Path, seed: int) -> None:
    """Once with its workers, once without them, and one worker alone; in any order."""
    expected = undisturbed(tmp_path / "whole", WHOLE)
    generator = random.Random(seed)
    kinds = ["all", "parent", "worker"]
    generator.shuffle(kinds)
    n_killed, directory = 0, tmp_path / "broken"
    run = Run(directory, WHOLE)
    for i, kind in enumerate(kinds):
        if not run.wait_for(1 + 4 * i):
            break
        time.sleep(generator.uniform(0, 2))
        if kind == "worker":
            while run.process.poll() is None and not run.kill_worker(generator):
                time.sleep(0.05)
        elif kind == "all":
            run.kill_all()
        else:
            run.kill_parent()
        n_killed += 1
        if kind != "worker":
            run = Run(directory, WHOLE)
    code, said = run.end(300)
    assert code == 0, said
    assert n_killed == 3
    assert hashes_of(directory) == expected
