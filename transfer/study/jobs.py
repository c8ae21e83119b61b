"""One training as a job of a study, and how it ended."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..run_directory.atomic_files import explain
from ..run_directory.directory import WORKER_LOG
from ..settings.spec import TrainingSpec


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended."""

    status: Literal["finished", "interrupted", "failed", "skipped"]
    reason: str = ""
    """One line, if it failed or was skipped."""
    traceback: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A spec to train, and where."""

    spec: TrainingSpec
    directory: Path
    command: tuple[str, ...]
    resume: str = "auto"
    trust: bool = False


def run_job(
    job: Job,
    *,
    send: Callable[[int | str], None],
    stop: Callable[[], bool],
    give_up: Callable[[Outcome], None],
) -> Outcome:
    """Train a job's spec in this process; errors are returned as an outcome.

    Args:
        job: the training.
        send: receives the number of frames done, and lines of text for the user.
        stop: returns whether to stop.
        give_up: called from another thread if an environment hangs; must end this process.
    """
    try:
        from ..training.train import run_training
        from ..training.watchdog import watching_steps

        def hangs(reason: str, stack: str) -> None:
            with contextlib.suppress(OSError):
                print(stack, file=sys.stderr, flush=True)
            give_up(Outcome(status="failed", reason=reason, traceback=stack))

        with watching_steps(job.spec.runtime.env_timeout, hangs):
            status = run_training(
                job.spec,
                job.directory,
                command=job.command,
                report=send,
                stop=stop,
                resume=job.resume,
                trust=job.trust,
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
def redirected_output(directory: Path) -> Iterator[None]:
    """Redirect standard output and error of this process to the job's log file.

    The file is removed afterwards if it is empty. If it cannot be written, nothing is redirected.
    """
    path = directory / WORKER_LOG
    with contextlib.suppress(OSError):
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
    """An error as one line; its type is named unless its text was written for users."""
    if isinstance(error, OSError):
        return explain(error)
    from contrastive_distillation.envs import EnvironmentFailedError

    text = " ".join(str(error).split())
    if isinstance(error, (ValueError, FloatingPointError, EnvironmentFailedError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
