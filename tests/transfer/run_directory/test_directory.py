"""Directories of runs: found again, never taken from another."""

import json
from pathlib import Path

import pytest

from contrastive_distillation.transfer.run_directory import directory as runs
from contrastive_distillation.transfer.run_directory.atomic_files import write_json

CONFIG = {
    "command": "train",
    "suite": "smoke",
    "agent": "ppo",
    "loss": "none",
    "seed": 0,
    "gamma": 0.9,
}


def start(directory: Path, **changes: object) -> None:
    runs.start_directory(directory, {**CONFIG, **changes}, command=["run_agent.py", "train"])


def test_states(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    assert runs.open_directory(directory, CONFIG) == "new"
    directory.mkdir()
    assert runs.open_directory(directory, CONFIG) == "new"
    start(directory)
    assert runs.open_directory(directory, CONFIG) == "unfinished"
    write_json(directory / runs.RESULT, {"frames": 1})
    assert runs.open_directory(directory, CONFIG) == "finished"


def test_another_configuration_is_refused_with_what_differs(tmp_path: Path) -> None:
    start(tmp_path / "run", gamma=0.5, extra=1)
    with pytest.raises(runs.RunDirectoryError) as caught:
        runs.open_directory(tmp_path / "run", CONFIG)
    text = str(caught.value)
    assert "gamma: 0.5 there, 0.9 now" in text
    assert "extra: 1 there, None now" in text
    assert "suite" not in text


@pytest.mark.parametrize("key", ["output", "workers", "threads", "config", "debug"])
def test_what_decides_nothing_may_differ(tmp_path: Path, key: str) -> None:
    start(tmp_path / "run", **{key: 1})
    assert runs.open_directory(tmp_path / "run", {**CONFIG, key: 2}) == "unfinished"
    assert runs.fingerprint({**CONFIG, key: 1}) == runs.fingerprint({**CONFIG, key: 2})


def test_runs_of_before_a_setting_came_are_found_again(tmp_path: Path) -> None:
    start(tmp_path / "run")
    assert runs.open_directory(tmp_path / "run", {**CONFIG, "keep": "fifo"}) == "unfinished"
    assert runs.fingerprint({**CONFIG, "keep": "fifo"}) == runs.fingerprint(CONFIG)
    with pytest.raises(runs.RunDirectoryError, match="keep: fifo there, reservoir now"):
        runs.open_directory(tmp_path / "run", {**CONFIG, "keep": "reservoir"})


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(runs.RunDirectoryError, match="is not a run's directory"):
        runs.open_directory(tmp_path, CONFIG)
    with pytest.raises(runs.RunDirectoryError, match="is a file"):
        runs.open_directory(tmp_path / "thesis.txt", CONFIG)


def test_clearing_leaves_what_is_not_the_runs(tmp_path: Path) -> None:
    start(tmp_path)
    for name in ("progress.csv", "curves.csv", "events.out.tfevents.1.x", "notes.txt"):
        (tmp_path / name).write_text("x")
    runs.clear_directory(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"config.yaml", "manifest.json", "notes.txt"}


def test_the_default_directory_is_found_again_by_the_same_configuration_alone() -> None:
    name = runs.default_directory(CONFIG, subject="smoke").name
    assert name == f"train-smoke-ppo-seed0-{runs.fingerprint(CONFIG)}"
    with_loss = {**CONFIG, "loss": "my.module:Loss"}
    assert "-ppo-Loss-seed0-" in runs.default_directory(with_loss, subject="smoke").name
    other = runs.default_directory({**CONFIG, "gamma": 0.8}, subject="smoke").name
    assert other != name
    assert "/" not in runs.default_directory(CONFIG, subject="pkg/Env-v0").name


def test_manifest_tells_of_the_machine_not_of_the_person() -> None:
    import getpass
    import socket

    manifest = runs.manifest(seed=3, command=["run_agent.py", "train"])
    assert manifest["seed"] == 3
    assert manifest["versions"]["torch"]
    assert set(manifest["machine"]) == {"platform", "cpu", "cores"}
    text = json.dumps(manifest["machine"])
    assert socket.gethostname() not in text.split()
    assert getpass.getuser() not in text.split()


def test_a_result_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / runs.RESULT
    write_json(path, {"frames": 1})

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_json(path, {"frames": 2})
    assert json.loads(path.read_text()) == {"frames": 1}


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(runs.RunDirectoryError, match=r"no readable config\.yaml in it"):
        runs.read_config(tmp_path)
    with pytest.raises(runs.RunDirectoryError, match="has not finished"):
        runs.read_result(tmp_path)
    (tmp_path / runs.RESULT).write_text("{")
    with pytest.raises(runs.RunDirectoryError, match="cannot be read"):
        runs.read_result(tmp_path)
