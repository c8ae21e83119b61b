"""Cells trained in processes of their own, at most so many at once."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing import connection
from multiprocessing.context import BaseContext
from typing import Any

from .durable import explain
from .jobs import Job, Outcome, carry_out_job, logged
from .signals import interrupts_noted

_SECONDS_TO_SAVE = 300.0  # a rollout of slow environments; a second signal cuts it short
_SECONDS_BETWEEN_LOOKS = 0.25


def context() -> BaseContext:
    """How processes are started: forked from a server that has imported everything once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload(["contrastive_distillation.transfer.preload"])
    return chosen


def warm_up() -> None:
    """Start the server that workers are forked from, so that it imports while we plan."""
    if context().get_start_method() != "forkserver":
        return
    from multiprocessing import forkserver

    if threading.current_thread() is not threading.main_thread():
        forkserver.ensure_running()
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what the server inherits
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def run_jobs(
    jobs: Sequence[Job],
    *,
    n_workers: int,
    n_retries: int = 0,
    on_start: Callable[[str], None],
    on_frames: Callable[[str, int], None],
    on_end: Callable[[str, Outcome], None],
    on_say: Callable[[str, str], None],
) -> int | None:
    """Train all jobs, each as soon as what it needs is done and a worker is free.

    A job that fails, though tried again as often as asked, takes with it those that need it; the
    others go on. SIGINT and SIGTERM make
    all that run finish their rollout and write a checkpoint; a second one ends them at once.

    Args:
        jobs: in the order in which they should start.
        n_workers: most processes at once.
        n_retries: how often a job that failed is tried again, from its last checkpoint.
        on_start: called with a cell's name when its process starts.
        on_frames: called with a cell's name and its frames so far.
        on_end: called once for each job.
        on_say: called with a cell's name and a line for the user.

    Returns:
        The number of the signal that interrupted it; None where none did.
    """
    with interrupts_noted() as interrupts:
        crew = _Crew(
            jobs,
            n_retries=n_retries,
            on_start=on_start,
            on_frames=on_frames,
            on_end=on_end,
            on_say=on_say,
        )
        try:
            while crew.is_busy:
                if interrupts:
                    crew.interrupt()
                    break
                crew.start_what_can(n_workers)
                crew.listen()
            deadline = time.monotonic() + _SECONDS_TO_SAVE
            while crew.running and len(interrupts) < 2 and time.monotonic() < deadline:
                crew.listen()
        finally:
            crew.end_all()
    return interrupts[0] if interrupts else None


class _Crew:
    """The jobs that wait, and the processes that run."""

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        n_retries: int,
        on_start: Callable[[str], None],
        on_frames: Callable[[str, int], None],
        on_end: Callable[[str, Outcome], None],
        on_say: Callable[[str, str], None],
    ) -> None:
        self._waiting = list(jobs)
        self._context: Any = context()
        self._retries = dict.fromkeys((job.cell.name for job in jobs), n_retries)
        self._interrupted = False
        self._on_start = on_start
        self._on_frames = on_frames
        self._on_end = on_end
        self._on_say = on_say
        self._failed: set[str] = set()
        self.running: dict[Any, tuple[Job, Any]] = {}

    @property
    def is_busy(self) -> bool:
        return bool(self._waiting or self.running)

    def start_what_can(self, n_workers: int) -> None:
        unfinished = {job.cell.name for job in self._waiting}
        unfinished |= {job.cell.name for job, _ in self.running.values()}
        for job in list(self._waiting):
            if job.cell.needs in self._failed:
                self._waiting.remove(job)
                reason = f"its source, {job.cell.needs}, failed"
                self._end(job, Outcome(status="skipped", reason=reason))
            elif len(self.running) < n_workers and job.cell.needs not in unfinished:
                self._waiting.remove(job)
                self._start(job)

    def _start(self, job: Job) -> None:
        try:
            job.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._end(job, Outcome(status="failed", reason=explain(error)))
            return
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs, job), daemon=True)
        process.start()
        theirs.close()
        self.running[ours] = (job, process)
        self._on_start(job.cell.name)

    def listen(self) -> None:
        """Hear what the processes say, and notice those that have died."""
        ready: list[Any] = connection.wait(list(self.running), timeout=_SECONDS_BETWEEN_LOOKS)
        for ours in ready:
            job, process = self.running[ours]
            try:
                message = ours.recv()
            except (EOFError, OSError):
                process.join()
                message = Outcome(status="failed", reason=_death(process.exitcode))
            if isinstance(message, int):
                self._on_frames(job.cell.name, message)
                continue
            if isinstance(message, str):
                self._on_say(job.cell.name, message)
                continue
            del self.running[ours]
            process.join()
            self._end(job, message)

    def _end(self, job: Job, outcome: Outcome) -> None:
        name = job.cell.name
        if outcome.status == "interrupted" and not self._interrupted:
            outcome = Outcome(status="failed", reason="its process was told to stop, by SIGTERM")
        if outcome.status == "failed" and self._retries[name] and not self._interrupted:
            self._retries[name] -= 1
            self._waiting.insert(0, replace(job, resume="auto"))
            self._on_say(name, f"failed, and is tried again: {outcome.reason}")
            return
        if outcome.status in ("failed", "skipped"):
            self._failed.add(job.cell.name)
        self._on_end(job.cell.name, outcome)

    def interrupt(self) -> None:
        """Ask all processes to save and stop; start no more."""
        self._interrupted = True
        self._waiting.clear()
        for ours in self.running:
            with contextlib.suppress(OSError):
                ours.send("stop")

    def end_all(self) -> None:
        """End whatever still runs, at once: what it is writing is not yet in its place."""
        for _, process in self.running.values():
            process.kill()
        for _, process in self.running.values():
            process.join(5)
        self.running.clear()


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended without a word (exit code {exit_code})"


def work(parent: Any, job: Job) -> None:
    """In a process of its own: train one cell, and tell the parent how it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    terminated: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: terminated.append(number))

    def stop() -> bool:
        try:
            return bool(terminated) or bool(parent.poll() and parent.recv() == "stop")
        except (EOFError, OSError):  # the parent is gone
            return True

    def send(message: int | str) -> None:
        with contextlib.suppress(OSError):
            parent.send(message)

    def give_up(outcome: Outcome) -> None:
        with contextlib.suppress(OSError):
            parent.send(outcome)
        os._exit(1)

    with logged(job.directory), contextlib.suppress(BrokenPipeError):
        parent.send(carry_out_job(job, send=send, stop=stop, give_up=give_up))
