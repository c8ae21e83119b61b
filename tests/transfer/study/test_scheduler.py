"""The scheduler with an executor that only records what it is asked for."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contrastive_distillation.transfer.study.jobs import Job, Outcome
from contrastive_distillation.transfer.study.scheduler import run_jobs

FINISHED, FAILED = Outcome(status="finished"), Outcome(status="failed", reason="it broke")


class Recorder:
    """An executor that ends each job with the next outcome listed for it; also the listener."""

    def __init__(self, outcomes: dict[str, list[Outcome]] | None = None, n_workers: int = 2):
        self.n_workers = n_workers
        self.outcomes = outcomes or {}
        self.running: list[str] = []
        self.most_running = 0
        self.resumes: list[tuple[str, str]] = []
        self.events: list[tuple[str, ...]] = []
        self.ends: dict[str, Outcome] = {}
        self.signals: list[int] = []
        self.is_stopped = self.is_killed = False

    def start(self, job: Job) -> None:
        self.running.append(job.spec.name)
        self.most_running = max(self.most_running, len(self.running))
        self.resumes.append((job.spec.name, job.resume))

    def poll(self) -> Iterator[tuple[str, int | str | Outcome]]:
        for number in self.signals:
            os.kill(os.getpid(), number)
        self.signals = []
        name = self.running.pop(0)
        yield name, 10
        yield name, "a line"
        if self.is_stopped:
            yield name, Outcome(status="interrupted")
        else:
            left = self.outcomes.get(name, [])
            yield name, left.pop(0) if left else FINISHED

    def stop(self) -> None:
        self.is_stopped = True

    def kill(self) -> None:
        self.is_killed = True

    def on_start(self, name: str) -> None:
        self.events.append(("start", name))

    def on_frames(self, name: str, frames: int) -> None:
        assert frames == 10

    def on_message(self, name: str, text: str) -> None:
        if text != "a line":
            self.events.append(("message", name, text))

    def on_end(self, name: str, outcome: Outcome) -> None:
        assert name not in self.ends
        self.ends[name] = outcome
        self.events.append(("end", name, outcome.status))


def job(path: Path, name: str, needs: str | None = None) -> Job:
    spec: Any = SimpleNamespace(name=name, needs=needs)
    return Job(spec=spec, directory=path / name, command=(), resume="require")


def test_jobs_start_in_order_and_after_their_source(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "target", "source"), job(tmp_path, "source"), job(tmp_path, "other")]
    recorder = Recorder()
    assert run_jobs(jobs, recorder, recorder) is None
    starts = [event[1] for event in recorder.events if event[0] == "start"]
    assert starts == ["source", "other", "target"]
    assert recorder.most_running == 2 and recorder.is_killed
    assert set(recorder.ends.values()) == {FINISHED}
    assert all((tmp_path / name).is_dir() for name in starts)


def test_a_failed_job_is_tried_again_first_and_then_skips_what_needs_it(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "source"), job(tmp_path, "target", "source"), job(tmp_path, "other")]
    recorder = Recorder({"source": [FAILED, FAILED, FAILED]}, n_workers=1)
    run_jobs(jobs, recorder, recorder, n_retries=2)
    assert recorder.resumes == [
        ("source", "require"), ("source", "auto"), ("source", "auto"), ("other", "require"),
    ]  # fmt: skip
    assert recorder.events.count(("message", "source", "failed; trying again: it broke")) == 2
    assert recorder.ends["source"] == FAILED
    assert recorder.ends["target"].status == "skipped"
    assert recorder.ends["target"].reason == "its source, source, failed"
    assert recorder.ends["other"] == FINISHED


def test_a_directory_that_cannot_be_made_fails_its_job(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    recorder = Recorder()
    run_jobs([job(tmp_path / "file", "a"), job(tmp_path, "b")], recorder, recorder, n_retries=1)
    assert recorder.ends["a"].status == "failed" and recorder.ends["b"] == FINISHED


def test_a_process_that_was_told_to_stop_has_failed(tmp_path: Path) -> None:
    recorder = Recorder({"a": [Outcome(status="interrupted")]})
    run_jobs([job(tmp_path, "a")], recorder, recorder)
    assert recorder.ends["a"].reason == "its process was told to stop, by SIGTERM"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_what_runs_and_starts_no_more(
    tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    recorder = Recorder()
    recorder.signals = [number]
    jobs = [job(tmp_path, name) for name in "abcd"]
    assert run_jobs(jobs, recorder, recorder, n_retries=1) == number
    assert {name: end.status for name, end in recorder.ends.items()} == {
        "a": "finished", "b": "interrupted",
    }  # fmt: skip
    assert recorder.is_stopped and recorder.is_killed
    assert signal.getsignal(number) is before


def test_a_second_signal_waits_no_longer(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.signals = [signal.SIGTERM, signal.SIGTERM]
    assert run_jobs([job(tmp_path, name) for name in "ab"], recorder, recorder) == signal.SIGTERM
    assert "b" not in recorder.ends and recorder.is_killed
