"""Trains jobs in processes on this machine."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import connection
from multiprocessing.context import BaseContext
from typing import Any

from .jobs import Job, Outcome, redirected_output, run_job
from .scheduler import SECONDS_TO_POLL


def context() -> BaseContext:
    """Start method of workers: forked from a server that has already imported everything."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["contrastive_distillation.transfer.study.preload"])
    return forkserver


def warm_up() -> None:
    """Start the server that workers are forked from, so that it imports while we plan."""
    if context().get_start_method() != "forkserver":
        return
    from multiprocessing import forkserver

    if threading.current_thread() is not threading.main_thread():
        forkserver.ensure_running()
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server inherits this
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


class LocalExecutor:
    """An `Executor` that starts one process for each job."""

    def __init__(self, n_workers: int | None) -> None:
        """
        Args:
            n_workers: most processes at once; None: one.
        """
        self.n_workers = n_workers or 1
        self._context: Any = context()
        self._processes: dict[Any, tuple[str, Any]] = {}
        """Our end of the pipe to a process → (name of the job, process)."""

    def start(self, job: Job) -> None:
        """Start a job."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs, job), daemon=True)
        process.start()
        theirs.close()
        self._processes[ours] = (job.spec.name, process)

    def poll(self) -> Iterator[tuple[str, int | str | Outcome]]:
        """Receive one message from each process that has sent any, or has died."""
        ready: list[Any] = connection.wait(list(self._processes), timeout=SECONDS_TO_POLL)
        for ours in ready:
            name, process = self._processes[ours]
            try:
                message = ours.recv()
            except (EOFError, OSError):
                process.join()
                message = Outcome(status="failed", reason=_death(process.exitcode))
            if isinstance(message, Outcome):
                del self._processes[ours]
                process.join()
            yield name, message

    def stop(self) -> None:
        """Ask all processes to write a checkpoint and stop."""
        for ours in self._processes:
            with contextlib.suppress(OSError):
                ours.send("stop")

    def kill(self) -> None:
        """End all processes at once; files that they are writing are not yet in place."""
        for _, process in self._processes.values():
            process.kill()
        for _, process in self._processes.values():
            process.join(5)
        self._processes.clear()


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended without a word (exit code {exit_code})"


def work(parent: Any, job: Job) -> None:
    """Train one spec in this process and send its messages to the parent.

    Args:
        parent: connection to the parent.
        job: the training.
    """
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

    with redirected_output(job.directory), contextlib.suppress(BrokenPipeError):
        parent.send(run_job(job, send=send, stop=stop, give_up=give_up))
