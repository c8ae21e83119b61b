"""Cells trained as tasks of a Ray cluster that is there already, one CPU each.

Every machine of the cluster must see the run's directory under the same path (a shared file
system), and have this package installed.
"""

import importlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from .jobs import Job, Outcome, carry_out_job, logged
from .local_executor import SECONDS_TO_SAVE
from .scheduler import Schedule, Told
from .signals import interrupts_noted

_SECONDS_BETWEEN_LOOKS = 0.25


def check_executor(name: str) -> None:
    """Refuse Ray where it is not installed.

    Raises:
        SettingsError: with the command that brings it.
    """
    if name == "ray":
        _ray()


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise SettingsError(
            f"--executor ray: needs Ray, which does not import here ({error}): "
            "pip install 'contrastive-distillation[ray]'"
        ) from error


def _connect(ray: Any) -> None:
    """Join the cluster that is there.

    Raises:
        SettingsError: there is none.
    """
    if ray.is_initialized():
        return
    try:
        ray.init(address="auto", log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SettingsError(
            "--executor ray: no Ray cluster is running here; start one with `ray start --head` "
            "(and `ray start --address=HOST:6379` on the other machines), or leave it out"
        ) from error


def run_jobs_on_ray(
    jobs: Sequence[Job], *, n_workers: int | None, n_retries: int = 0, told: Told
) -> int | None:
    """As `workers.run_jobs`, on a Ray cluster.

    Args:
        jobs: in the order in which they should start.
        n_workers: most tasks at once; None: as many as the cluster has CPUs.
        n_retries: how often a job that failed is tried again, from its last checkpoint.
        told: hears of everything.

    Returns:
        The number of the signal that interrupted it; None where none did.

    Raises:
        SettingsError: there is no cluster.
    """
    ray = _ray()
    _connect(ray)
    with interrupts_noted() as interrupts:
        crew = _Crew(ray, Schedule(jobs, n_retries=n_retries, told=told))
        try:
            while crew.is_busy:
                if interrupts:
                    crew.interrupt()
                    break
                crew.start_what_can(n_workers or int(ray.cluster_resources().get("CPU", 1)))
                crew.listen()
            deadline = time.monotonic() + SECONDS_TO_SAVE
            while crew.running and len(interrupts) < 2 and time.monotonic() < deadline:
                crew.listen()
        finally:
            crew.end_all()
    return interrupts[0] if interrupts else None


class Mailbox:
    """Where tasks leave word for the command, and learn whether to stop; a Ray actor."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, int | str | Outcome]] = []
        self._stopped = False

    def put(self, name: str, message: int | str | Outcome | None = None) -> bool:
        """Leave word, if any, and learn whether to stop."""
        if message is not None:
            self._messages.append((name, message))
        return self._stopped

    def take(self) -> list[tuple[str, int | str | Outcome]]:
        """All words left since the last time."""
        taken, self._messages = self._messages, []
        return taken

    def stop(self) -> None:
        """All are to stop."""
        self._stopped = True


class _Crew:
    """The tasks that run, each with its job."""

    def __init__(self, ray: Any, schedule: Schedule) -> None:
        self._ray = ray
        self._schedule = schedule
        self._mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
        # a process for each spec, as on one machine; retries are the schedule's
        self._task = ray.remote(num_cpus=1, max_calls=1, max_retries=0)(train_as_task)
        self._last_words: dict[str, Outcome] = {}
        self.running: dict[Any, Job] = {}

    @property
    def is_busy(self) -> bool:
        return bool(self._schedule.is_waiting or self.running)

    def start_what_can(self, n_workers: int) -> None:
        while len(self.running) < n_workers:
            job = self._schedule.next({job.spec.name for job in self.running.values()})
            if job is None:
                return
            moved = replace(job, directory=job.directory.absolute())
            self.running[self._task.remote(moved, self._mailbox, os.getcwd())] = job

    def listen(self) -> None:
        """Hear what the tasks say, and notice those that have ended or died."""
        if not self.running:
            return
        done, _ = self._ray.wait(list(self.running), timeout=_SECONDS_BETWEEN_LOOKS)
        by_name = {job.spec.name: job for job in self.running.values()}
        for name, message in self._ray.get(self._mailbox.take.remote()):
            if isinstance(message, Outcome):
                self._last_words[name] = message
            elif name in by_name:
                self._schedule.hear(by_name[name], message)
        for reference in done:
            job = self.running.pop(reference)
            self._schedule.end(
                job, self._outcome(reference, self._last_words.pop(job.spec.name, None))
            )

    def _outcome(self, reference: Any, last_word: Outcome | None) -> Outcome:
        """How a task ended; its process may have died before it could say."""
        try:
            outcome: Outcome = self._ray.get(reference)
            return outcome
        except self._ray.exceptions.RayError as error:
            if last_word is not None:
                return last_word
            text = str(error).strip().splitlines()
            reason = f"its Ray task died ({type(error).__name__}: {text[0] if text else ''})"
            return Outcome(status="failed", reason=reason)

    def interrupt(self) -> None:
        """Ask all tasks to save and stop; start no more."""
        self._schedule.interrupt()
        self._ray.get(self._mailbox.stop.remote())

    def end_all(self) -> None:
        """End whatever still runs, at once: what it is writing is not yet in its place."""
        for reference in self.running:
            self._ray.cancel(reference, force=True)
        self.running.clear()
        self._ray.kill(self._mailbox)


def train_as_task(job: Job, mailbox: Any, working_directory: str) -> Outcome:
    """In a process of the cluster: train one spec, and tell the command how it gets on."""
    ray = _ray()
    if Path(working_directory).is_dir():  # paths and modules of the user's are found from there
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

    with logged(job.directory):
        return carry_out_job(job, send=send, stop=stop, give_up=give_up)
