"""The reliability benchmarks run, and judge what they see."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(name: str, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "benchmarks" / name), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_kill_loop(tmp_path: Path) -> None:
    words = ["--runs", "2", "--output", str(tmp_path)]
    first = run("kill_loop.py", *words)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "weights equal to the uninterrupted run: 2 of 2, after 6 kills" in first.stdout
    assert "corrupt checkpoints accepted: 0 of " in first.stdout
    again = run("kill_loop.py", *words)
    assert again.stdout.splitlines() == first.stdout.splitlines()[2:], "what is done is kept"


@pytest.mark.slow
def test_soak() -> None:
    flat = run("soak.py", "--frames", "60_000")
    assert "growth in the second half" in flat.stdout, flat.stderr
    small = run("soak.py", "--frames", "60_000", "--most-megabytes", "10")
    assert small.returncode == 1
