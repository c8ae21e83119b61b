"""Cells trained in processes of their own, at most so many at once."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Literal

from .cells import Cell
from .durable import explain
from .runs import WORKER_LOG
from .signals import interrupts_noted

_SECONDS_TO_SAVE = 300.0  # a rollout of slow environments; a second signal cuts it short
_SECONDS_BETWEEN_LOOKS = 0.25


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one cell ended."""

    status: Literal["finished", "interrupted", "failed", "skipped"]
    reason: str = ""
    """One line, where it failed or was skipped."""
    traceback: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A cell to train."""

    cell: Cell
    directory: Path
    command: tuple[str, ...]
    resume: str = "auto"
    trust: bool = False
    information_points: int = 2


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
    on_frames: Callable[[str, int], None],
    on_end: Callable[[str, Outcome], None],
    on_say: Callable[[str, str], None],
) -> int | None:
    """Train all jobs, each as soon as what it needs is done and a worker is free.

    A job that fails takes with it those that need it; the others go on. SIGINT and SIGTERM make
    all that run finish their rollout and write a checkpoint; a second one ends them at once.

    Args:
        jobs: in the order in which they should start.
        n_workers: most processes at once.
        on_frames: called with a cell's name and its frames so far.
        on_end: called once for each job.
        on_say: called with a cell's name and a line for the user.

    Returns:
        The number of the signal that interrupted it; None where none did.
    """
    with interrupts_noted() as interrupts:
        crew = _Crew(jobs, on_frames=on_frames, on_end=on_end, on_say=on_say)
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
        on_frames: Callable[[str, int], None],
        on_end: Callable[[str, Outcome], None],
        on_say: Callable[[str, str], None],
    ) -> None:
        self._waiting = list(jobs)
        self._context: Any = context()
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
        process = self._context.Process(target=_work, args=(theirs, job), daemon=True)
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
        if outcome.status in ("failed", "skipped"):
            self._failed.add(job.cell.name)
        self._on_end(job.cell.name, outcome)

    def interrupt(self) -> None:
        """Ask all processes to save and stop; start no more."""
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


# ---------------------------------------------------------------- in the worker


def _work(parent: Any, job: Job) -> None:
    """Train one cell, and tell the parent how it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    terminated: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: terminated.append(number))
    with _logged(job.directory), contextlib.suppress(BrokenPipeError):
        parent.send(_trained(parent, job, terminated))


def _trained(parent: Any, job: Job, terminated: Sequence[int]) -> Outcome:
    def stop() -> bool:
        try:
            return bool(terminated) or bool(parent.poll() and parent.recv() == "stop")
        except (EOFError, OSError):  # the parent is gone
            return True

    def send(message: int | str) -> None:
        with contextlib.suppress(OSError):
            parent.send(message)

    def give_up(reason: str, stack: str) -> None:
        """From another thread, while the training hangs."""
        with contextlib.suppress(OSError):
            print(stack, file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            parent.send(Outcome(status="failed", reason=reason, traceback=stack))
        os._exit(1)

    try:
        from .training import train_cell
        from .watchdog import watching_steps

        with watching_steps(job.cell.env_timeout, give_up):
            status = train_cell(
                job.cell,
                job.directory,
                command=job.command,
                report=send,
                stop=stop,
                resume=job.resume,
                trust=job.trust,
                information_points=job.information_points,
                say=send,
            )
        return Outcome(status=status)
    except Exception as error:
        with contextlib.suppress(OSError):  # a full disk has no room for this either
            traceback.print_exc()  # into the worker's log
        where = f" (traceback: {job.directory / WORKER_LOG})"
        reason = one_line(error) + ("" if isinstance(error, ValueError) else where)
        return Outcome(status="failed", reason=reason, traceback=traceback.format_exc())


@contextlib.contextmanager
def _logged(directory: Path) -> Iterator[None]:
    """Send what this process prints, warnings too, to a file, where one can be written."""
    path = directory / WORKER_LOG
    with contextlib.suppress(OSError):  # what cannot be written is told by what comes next
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for number in (1, 2):
            os.dup2(file, number)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
            if path.stat().st_size == 0:
                path.unlink()


def one_line(error: BaseException) -> str:
    """An error as one line: its text, under its type's name unless the text was written for us."""
    if isinstance(error, OSError):
        return explain(error)
    from contrastive_distillation.envs import EnvironmentFailedError

    text = " ".join(str(error).split())
    if isinstance(error, (ValueError, FloatingPointError, EnvironmentFailedError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
