"""Carries out a plan: trains its specs, collects their results and shows them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ..console import say, show
from ..errors import DONE, FAILED
from ..report.formatting import NOT_LEARNT
from ..report.realigned import realigned_sentences
from ..report.tables import train_tables, transfer_tables
from ..run_directory.directory import (
    CARRIED,
    CONFIG,
    MANIFEST,
    RESULT,
    RunDirectoryError,
    open_directory,
    read_result,
    start_directory,
)
from ..run_directory.locking import RUN_LOCK, locked
from ..settings.spec import TrainingSpec
from .display import Display, make_display
from .jobs import Job, Outcome
from .local_executor import LocalExecutor
from .plan import Plan
from .progress import RunProgress
from .ray_executor import RayExecutor
from .results import ResultsWriter, summary_rows
from .scheduler import run_jobs

SIGNALLED = 128
"""Exit code to which a signal's number is added: 130 for Ctrl-C, 143 for SIGTERM."""


def check_directories(plan: Plan) -> None:
    """Check that the plan may use its directories.

    Raises:
        RunDirectoryError: the run's directory, or that of one of its specs, belongs to another
            configuration; or it does not exist although ``--resume require`` was given.
    """
    state = open_directory(plan.directory, plan.config)
    if plan.resume == "require" and state == "new":
        raise RunDirectoryError(f"--resume require: there is no run in {plan.directory}")
    if not plan.is_one_training:
        for spec in plan.specs:
            open_directory(plan.directory_of(spec), spec.config())


def carry_out(
    plan: Plan,
    *,
    command: Sequence[str],
    console: Console,
    debug: bool,
) -> int:
    """Train the specs that are not finished, and show the results.

    Args:
        plan: the trainings.
        command: the command line, for manifests.
        console: where to show progress and results.
        debug: show the traceback of a spec that failed.

    Returns:
        The exit code: 0 done, 1 a training failed, 130 or 143 interrupted.

    Raises:
        LockedError: another process uses the run's directory.
    """
    for note in plan.notes:
        say(console, note, style="yellow")
    with locked(plan.directory, RUN_LOCK):
        state = open_directory(plan.directory, plan.config)
        todo = _unfinished(plan)
        if state == "finished" and not todo:
            say(console, f"{plan.directory} is finished already; this is its result.")
            _show(plan, console)
            return DONE
        if len(todo) < len(plan.specs):
            n_done = len(plan.specs) - len(todo)
            say(console, f"{n_done} of {len(plan.specs)} trainings are finished already.")
        say(console, _outlook(plan, todo))
        (plan.directory / RESULT).unlink(missing_ok=True)  # of a study that has grown
        if not plan.is_one_training or not (plan.directory / MANIFEST).exists():
            start_directory(plan.directory, plan.config, command=command)
        jobs = _jobs(plan, todo, command)
        results = ResultsWriter(plan)
        executor = (RayExecutor if plan.executor == "ray" else LocalExecutor)(plan.workers)
        with make_display(console, many=plan.command == "ablate") as display:
            reporter = _Reporter(plan, jobs, display, results)
            signal_number = run_jobs(jobs, executor, reporter, n_retries=plan.n_retries)
        outcomes = reporter.outcomes
        failed = {name: o for name, o in outcomes.items() if o.status in ("failed", "skipped")}
        results.write(complete=not failed and signal_number is None)
        if signal_number is not None:
            say(console, f"Interrupted. The same command continues what is in {plan.directory}")
            return SIGNALLED + signal_number
        _show(plan, console)
        for name, outcome in failed.items():
            if debug and outcome.traceback:
                print(outcome.traceback, file=sys.stderr)
            print(f"error: {name or plan.directory}: {outcome.reason}", file=sys.stderr)
        return FAILED if failed else DONE


def _outlook(plan: Plan, todo: Sequence[TrainingSpec]) -> str:
    """What will be trained, in one line."""
    trainings = "one training" if len(todo) == 1 else f"{len(todo)} trainings"
    at_once = min(plan.workers or 1, len(todo))
    together = f", {at_once} at once" if at_once > 1 else ""
    if plan.executor == "ray" and plan.workers is None:
        together = ", as many at once as the cluster has CPUs"
    frames = sum(spec.most_frames for spec in todo)
    return f"{plan.command}: {trainings}{together}, {frames:_} frames at most, in {plan.directory}"


def _unfinished(plan: Plan) -> list[TrainingSpec]:
    return [
        spec
        for spec in plan.specs
        if open_directory(plan.directory_of(spec), spec.config()) != "finished"
    ]


def _jobs(plan: Plan, specs: Sequence[TrainingSpec], command: Sequence[str]) -> list[Job]:
    """A job for each spec: of each seed the sources first, of these the longest first."""
    ordered = sorted(specs, key=lambda spec: (spec.seed, spec.role == "target", -spec.cost))
    return [
        Job(
            spec=spec,
            directory=plan.directory_of(spec),
            command=tuple(command),
            resume=_resume(plan, plan.directory_of(spec)),
            trust=plan.trust,
        )
        for spec in ordered
    ]


class _Reporter:
    """A `Listener` that shows the progress and keeps the outcomes."""

    def __init__(
        self, plan: Plan, jobs: Sequence[Job], display: Display, results: ResultsWriter
    ) -> None:
        self.outcomes: dict[str, Outcome] = {}
        """Name of a spec → how its training ended."""
        self._jobs = {job.spec.name: job for job in jobs}
        self._has_sources = plan.command != "train"
        self._display, self._results = display, results
        self._modes_shown: set[str] = set()
        self._progress = RunProgress(
            {spec.name: spec.most_frames for spec in plan.specs},
            groups={spec.name: spec.group for spec in plan.specs},
        )
        for spec in plan.specs:
            if spec.name not in self._jobs:
                self._progress.skip(spec.name)

    def on_start(self, name: str) -> None:
        self._progress.start(name)
        self._display.refresh(self._progress)

    def on_frames(self, name: str, frames: int) -> None:
        self._progress.update(name, frames)
        self._display.refresh(self._progress)

    def on_message(self, name: str, text: str) -> None:
        self._display.say(f"{name or self._jobs[name].directory}  {text}")

    def on_end(self, name: str, outcome: Outcome) -> None:
        self.outcomes[name] = outcome
        spec, directory = self._jobs[name].spec, self._jobs[name].directory
        result = read_result(directory) if outcome.status == "finished" else None
        failed = outcome.status in ("failed", "skipped")
        frames = None if result is None else int(result["frames"])
        self._progress.finish(name, frames, failed=failed)
        is_source = self._has_sources and spec.role == "source"
        self._display.say(_line(name or str(directory), outcome, result, is_source=is_source))
        if spec.source.mode not in self._modes_shown and (lines := _carried(directory)):
            self._modes_shown.add(spec.source.mode)
            self._display.say(f"  {spec.source.mode}: {lines}; all names in its {CARRIED}")
        self._display.refresh(self._progress)
        self._results.write_now_and_then()


def _resume(plan: Plan, directory: Path) -> str:
    """The resume mode of a spec; one that never started cannot be required to resume."""
    begun = (directory / CONFIG).is_file()
    return "auto" if plan.resume == "require" and not begun else plan.resume


def _line(name: str, outcome: Outcome, result: dict[str, Any] | None, *, is_source: bool) -> str:
    """One line about a training that has ended."""
    if result is None:
        reason = f": {outcome.reason}" if outcome.reason else ""
        return f"{name}  {outcome.status}{reason}"
    scores = result["scores"]
    mean = sum(scores.values()) / len(scores)
    best = result["best"]["frames"]
    best_at = ", its best" if best == result["frames"] else f", best after {best:_}"
    missed = (
        f"  {NOT_LEARNT} not learnt" if is_source and False in result["learnt"].values() else ""
    )
    measured = "return" if any(e.get("is_raw") for e in result["final"].values()) else "score"
    return (
        f"{name}  {measured} {mean:.2f} after {result['frames']:_} frames{best_at}, "
        f"{result['frames_per_second']:.0f} frames/s{missed}"
    )


def _carried(directory: Path) -> str:
    """The headings of the file on the source's weights; empty without a source."""
    path = directory / CARRIED
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    return ", ".join(line for line in lines if line and not line.startswith(" "))


def _show(plan: Plan, console: Console) -> None:
    rows = summary_rows(plan)
    if rows:
        show(console, train_tables(rows) if plan.command == "train" else transfer_tables(rows))
    for sentence in realigned_sentences(plan.specs, plan.directory_of):
        say(console, sentence)
    say(console, str(plan.directory), style="bold")
    for name, line in _files(plan):
        if (plan.directory / name).exists():
            say(console, f"  {name:22}{line}")
    if plan.command == "transfer":
        say(console, f"next: run_agent.py report {plan.directory}", style="bold")


def _files(plan: Plan) -> list[tuple[str, str]]:
    own = [
        ("curves.csv", "every point of every learning curve"),
        ("summary.csv", "one row per arm, seed and environment: scores, areas"),
        ("information.csv", "information of the features, against frames"),
        ("result.json", "the result, with the hash of the weights"),
        ("config.yaml", "the settings; usable as --config"),
        ("manifest.json", "versions, command, seed, machine"),
        ("progress.csv", "metrics of agent and loss; TensorBoard's too"),
        ("checkpoints", "final.zip and best.zip: agents, as zips of Stable-Baselines3"),
        ("memory.safetensors", "the memory: observations, actions, returns"),
    ]
    if plan.command != "train":
        return [
            *own,
            ("sources", "a run's directory for each source"),
            ("targets", "… for each target"),
        ]
    return own + [(spec.name, "a run's directory") for spec in plan.specs if spec.name]
