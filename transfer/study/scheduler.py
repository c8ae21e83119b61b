"""Which of a run's jobs comes next, and what becomes of those that fail."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..run_directory.atomic_files import explain
from .jobs import Job, Outcome


@dataclass(frozen=True, kw_only=True)
class Told:
    """Who hears of the jobs; each is called with a spec's name."""

    on_start: Callable[[str], None]
    """Its training begins, perhaps once more."""
    on_frames: Callable[[str, int], None]
    """So many frames are done."""
    on_end: Callable[[str, Outcome], None]
    """It has ended; called once for each job."""
    on_say: Callable[[str, str], None]
    """A line for the user."""


class Schedule:
    """The jobs that wait, in their order, each until what it needs is done.

    A job that fails is tried again as often as asked; then it takes with it those that need it.
    """

    def __init__(self, jobs: Sequence[Job], *, n_retries: int, told: Told) -> None:
        self._waiting = {job.spec.name: job for job in jobs}
        self._retries = dict.fromkeys(self._waiting, n_retries)
        self._failed: set[str] = set()
        self._interrupted = False
        self._told = told

    @property
    def is_waiting(self) -> bool:
        """Whether there are jobs that have not begun."""
        return bool(self._waiting)

    def next(self, running: set[str]) -> Job | None:
        """The next job that can begin, its directory made; None where none can now.

        Args:
            running: names of the specs at work.
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
                self._told.on_start(name)
                return job
        return None

    def hear(self, job: Job, message: int | str | Outcome) -> bool:
        """Pass on what a job says while it works; whether it was its last word."""
        if isinstance(message, int):
            self._told.on_frames(job.spec.name, message)
        elif isinstance(message, str):
            self._told.on_say(job.spec.name, message)
        return isinstance(message, Outcome)

    def end(self, job: Job, outcome: Outcome) -> None:
        """A job has ended so: pass it on, unless it is tried again."""
        name = job.spec.name
        if outcome.status == "interrupted" and not self._interrupted:
            outcome = Outcome(status="failed", reason="its process was told to stop, by SIGTERM")
        if outcome.status == "failed" and self._retries[name] and not self._interrupted:
            self._retries[name] -= 1
            self._waiting = {name: replace(job, resume="auto"), **self._waiting}
            self._told.on_say(name, f"failed, and is tried again: {outcome.reason}")
            return
        if outcome.status in ("failed", "skipped"):
            self._failed.add(name)
        self._told.on_end(name, outcome)

    def interrupt(self) -> None:
        """Begin no more."""
        self._interrupted = True
        self._waiting.clear()
