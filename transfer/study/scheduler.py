"""The scheduler of a study: starts jobs on an executor and tries failed ones again."""

import contextlib
import signal
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from types import FrameType
from typing import Protocol

from ..run_directory.atomic_files import explain
from .jobs import Job, Outcome

SECONDS_TO_SAVE = 300.0
"""Time that interrupted jobs have to write a checkpoint; a second signal ends them at once."""
SECONDS_TO_POLL = 0.25
"""Longest time that `Executor.poll` waits for a message."""


class Listener(Protocol):
    """Receives the events of all jobs; each method is called with the name of a job's spec."""

    def on_start(self, name: str) -> None:
        """A training starts; called again when it is tried again."""

    def on_frames(self, name: str, frames: int) -> None:
        """A training has done this number of frames."""

    def on_message(self, name: str, text: str) -> None:
        """A training has a line of text for the user."""

    def on_end(self, name: str, outcome: Outcome) -> None:
        """A job has ended; called once for each job."""


class Executor(Protocol):
    """Trains each job in a process of its own."""

    @property
    def n_workers(self) -> int:
        """Most jobs that may run at once."""

    def start(self, job: Job) -> None:
        """Start a job."""

    def poll(self) -> Iterable[tuple[str, int | str | Outcome]]:
        """Wait a moment for messages of running jobs: (name, frames or text or outcome).

        An outcome is the last message of its job. A process that died sends one too.
        """

    def stop(self) -> None:
        """Ask all running jobs to write a checkpoint and stop."""

    def kill(self) -> None:
        """End all running jobs at once."""


def run_jobs(
    jobs: Sequence[Job], executor: Executor, listener: Listener, *, n_retries: int = 0
) -> int | None:
    """Train all jobs, each as soon as its source is trained and a worker is free.

    A job that fails is tried again, at most `n_retries` times, from its last checkpoint. If it
    still fails, the jobs that need it are skipped; the others continue. On SIGINT or SIGTERM all
    running jobs finish their rollout and write a checkpoint; a second signal ends them at once.

    Args:
        jobs: in the order in which they should start.
        executor: where they run.
        listener: receives the events of all jobs.
        n_retries: number of further attempts for a job that fails.

    Returns:
        The number of the signal that interrupted the jobs, or None.
    """
    schedule = _Schedule(jobs, listener, n_retries)
    running: dict[str, Job] = {}
    deadline = float("inf")
    with _signals_recorded() as signals:
        try:
            while schedule.is_waiting or running:
                if signals and not schedule.is_interrupted:
                    schedule.interrupt()
                    executor.stop()
                    deadline = time.monotonic() + SECONDS_TO_SAVE
                if len(signals) > 1 or time.monotonic() > deadline:
                    break
                while len(running) < executor.n_workers and (job := schedule.next(running)):
                    executor.start(job)
                    running[job.spec.name] = job
                for name, message in executor.poll():
                    if isinstance(message, Outcome):
                        schedule.end(running.pop(name), message)
                    elif isinstance(message, int):
                        listener.on_frames(name, message)
                    else:
                        listener.on_message(name, message)
        finally:
            executor.kill()
    return signals[0] if signals else None


class _Schedule:
    """The jobs that have not started, in order."""

    def __init__(self, jobs: Sequence[Job], listener: Listener, n_retries: int) -> None:
        self._waiting = {job.spec.name: job for job in jobs}
        self._retries = dict.fromkeys(self._waiting, n_retries)
        self._failed: set[str] = set()
        self._listener = listener
        self.is_interrupted = False

    @property
    def is_waiting(self) -> bool:
        """Whether there are jobs that have not started."""
        return bool(self._waiting)

    def next(self, running: Container[str]) -> Job | None:
        """Remove the next job that can start and make its directory; None if none can start now.

        Args:
            running: names of the jobs that run.
        """
        for name, job in list(self._waiting.items()):
            needs = job.spec.needs
            if needs in self._failed:
                del self._waiting[name]
                self.end(job, Outcome(status="skipped", reason=f"its source, {needs}, failed"))
            elif needs not in self._waiting and needs not in running:
                del self._waiting[name]
                try:
                    job.directory.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    self.end(job, Outcome(status="failed", reason=explain(error)))
                    continue
                self._listener.on_start(name)
                return job
        return None

    def end(self, job: Job, outcome: Outcome) -> None:
        """Record how a job ended; a failed job waits again if it has retries left."""
        name = job.spec.name
        if outcome.status == "interrupted" and not self.is_interrupted:
            outcome = Outcome(status="failed", reason="its process was told to stop, by SIGTERM")
        if outcome.status == "failed" and self._retries[name] and not self.is_interrupted:
            self._retries[name] -= 1
            self._waiting = {name: replace(job, resume="auto"), **self._waiting}
            self._listener.on_message(name, f"failed; trying again: {outcome.reason}")
            return
        if outcome.status in ("failed", "skipped"):
            self._failed.add(name)
        self._listener.on_end(name, outcome)

    def interrupt(self) -> None:
        """Start no more jobs."""
        self.is_interrupted = True
        self._waiting.clear()


@contextlib.contextmanager
def _signals_recorded() -> Iterator[list[int]]:
    """Record SIGINT and SIGTERM in the list that is yielded; neither raises in the block."""
    arrived: list[int] = []

    def record(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    try:
        before = {each: signal.signal(each, record) for each in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, which has to handle signals itself
        before = {}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
