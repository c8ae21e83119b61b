"""Trains jobs as tasks of a running Ray cluster, one CPU each.

All machines of the cluster must see the run's directory under the same path (a shared file system)
and have this package installed.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from .jobs import Job, Outcome, redirected_output, run_job
from .scheduler import SECONDS_TO_POLL


def import_ray() -> Any:
    """The module of Ray.

    Raises:
        SettingsError: Ray is not installed; the text gives the command to install it.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise SettingsError(
            f"--executor ray: needs Ray, which does not import here ({error}): "
            "pip install 'contrastive-distillation[ray]'"
        ) from error


class Mailbox:
    """A Ray actor that collects the messages of all tasks and tells them to stop."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, int | str | Outcome]] = []
        self._stopped = False

    def put(self, name: str, message: int | str | Outcome | None = None) -> bool:
        """Add a message, if any; returns whether the task should stop."""
        if message is not None:
            self._messages.append((name, message))
        return self._stopped

    def take(self) -> list[tuple[str, int | str | Outcome]]:
        """Remove and return all messages."""
        taken, self._messages = self._messages, []
        return taken

    def stop(self) -> None:
        """Tell all tasks to stop."""
        self._stopped = True


class RayExecutor:
    """An `Executor` that submits each job as a task to a Ray cluster."""

    def __init__(self, n_workers: int | None) -> None:
        """Connect to the cluster.

        Args:
            n_workers: most tasks at once; None: as many as the cluster has CPUs.

        Raises:
            SettingsError: no cluster is running.
        """
        self._ray = ray = import_ray()
        if not ray.is_initialized():
            try:
                ray.init(address="auto", log_to_driver=False, logging_level="error")
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise SettingsError(
                    "--executor ray: no Ray cluster is running here; start one with `ray start "
                    "--head` (and `ray start --address=HOST:6379` on the other machines), or "
                    "leave out --executor"
                ) from error
        self._n_workers = n_workers
        self._mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
        # a new process for each job, as on one machine; the scheduler counts the retries
        self._task = ray.remote(num_cpus=1, max_calls=1, max_retries=0)(train_as_task)
        self._running: dict[Any, str] = {}
        """Reference to a task → name of its job."""
        self._outcomes: dict[str, Outcome] = {}
        """Outcomes that tasks sent before they ended their own process."""

    @property
    def n_workers(self) -> int:
        """Most tasks at once; follows the size of the cluster if no number was given."""
        return self._n_workers or int(self._ray.cluster_resources().get("CPU", 1))

    def start(self, job: Job) -> None:
        """Submit a job."""
        moved = replace(job, directory=job.directory.absolute())
        self._running[self._task.remote(moved, self._mailbox, os.getcwd())] = job.spec.name

    def poll(self) -> Iterator[tuple[str, int | str | Outcome]]:
        """Receive all messages, and the outcomes of the tasks that have ended or died."""
        if not self._running:
            return
        done, _ = self._ray.wait(list(self._running), timeout=SECONDS_TO_POLL)
        for name, message in self._ray.get(self._mailbox.take.remote()):
            if isinstance(message, Outcome):
                self._outcomes[name] = message
            elif name in self._running.values():
                yield name, message
        for reference in done:
            name = self._running.pop(reference)
            yield name, self._outcome(reference, self._outcomes.pop(name, None))

    def _outcome(self, reference: Any, sent: Outcome | None) -> Outcome:
        """The outcome that a task returned or, if its process died, sent before."""
        try:
            outcome: Outcome = self._ray.get(reference)
            return outcome
        except self._ray.exceptions.RayError as error:
            if sent is not None:
                return sent
            text = str(error).strip().splitlines()
            reason = f"its Ray task died ({type(error).__name__}: {text[0] if text else ''})"
            return Outcome(status="failed", reason=reason)

    def stop(self) -> None:
        """Ask all tasks to write a checkpoint and stop."""
        self._ray.get(self._mailbox.stop.remote())

    def kill(self) -> None:
        """End all tasks at once; files that they are writing are not yet in place."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._ray.kill(self._mailbox)


def train_as_task(job: Job, mailbox: Any, working_directory: str) -> Outcome:
    """Train one spec in a process of the cluster and send its messages to the mailbox."""
    ray = import_ray()
    if Path(working_directory).is_dir():  # relative paths and the user's modules start there
        os.chdir(working_directory)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    name = job.spec.name

    def send(message: int | str) -> None:
        mailbox.put.remote(name, message)

    def stop() -> bool:
        return bool(ray.get(mailbox.put.remote(name)))

    def give_up(outcome: Outcome) -> None:
        ray.get(mailbox.put.remote(name, outcome))
        os._exit(1)

    with redirected_output(job.directory):
        return run_job(job, send=send, stop=stop, give_up=give_up)
