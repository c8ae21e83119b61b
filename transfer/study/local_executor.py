"""Cells trained in processes of their own, at most so many at once."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from multiprocessing import connection
from multiprocessing.context import BaseContext
from typing import Any

from .jobs import Job, Outcome, carry_out_job, logged
from .scheduler import Schedule, Told
from .signals import interrupts_noted

SECONDS_TO_SAVE = 300.0
"""For a rollout of slow environments; a second signal cuts it short."""
_SECONDS_BETWEEN_LOOKS = 0.25


def context() -> BaseContext:
    """How processes are started: forked from a server that has imported everything once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload(["contrastive_distillation.transfer.study.preload"])
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
    jobs: Sequence[Job], *, n_workers: int | None, n_retries: int = 0, told: Told
) -> int | None:
    """Train all jobs, each as soon as what it needs is done and a worker is free.

    A job that fails, though tried again as often as asked, takes with it those that need it; the
    others go on. SIGINT and SIGTERM make all that run finish their rollout and write a
    checkpoint; a second one ends them at once.

    Args:
        jobs: in the order in which they should start.
        n_workers: most processes at once; None: one.
        n_retries: how often a job that failed is tried again, from its last checkpoint.
        told: hears of everything.

    Returns:
        The number of the signal that interrupted it; None where none did.
    """
    with interrupts_noted() as interrupts:
        crew = _Crew(Schedule(jobs, n_retries=n_retries, told=told))
        try:
            while crew.is_busy:
                if interrupts:
                    crew.interrupt()
                    break
                crew.start_what_can(n_workers or 1)
                crew.listen()
            deadline = time.monotonic() + SECONDS_TO_SAVE
            while crew.running and len(interrupts) < 2 and time.monotonic() < deadline:
                crew.listen()
        finally:
            crew.end_all()
    return interrupts[0] if interrupts else None


class _Crew:
    """The processes that run, each with its job."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._context: Any = context()
        self.running: dict[Any, tuple[Job, Any]] = {}

    @property
    def is_busy(self) -> bool:
        return bool(self._schedule.is_waiting or self.running)

    def start_what_can(self, n_workers: int) -> None:
        while len(self.running) < n_workers:
            job = self._schedule.next({job.spec.name for job, _ in self.running.values()})
            if job is None:
                return
            self._start(job)

    def _start(self, job: Job) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs, job), daemon=True)
        process.start()
        theirs.close()
        self.running[ours] = (job, process)

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
            if not self._schedule.hear(job, message):
                continue
            del self.running[ours]
            process.join()
            self._schedule.end(job, message)

    def interrupt(self) -> None:
        """Ask all processes to save and stop; start no more."""
        self._schedule.interrupt()
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
    """In a process of its own: train one spec, and tell the parent how it went."""
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
