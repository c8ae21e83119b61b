"""A plan carried out: its specs trained, their results gathered, tabled and kept."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..console import say, show
from ..report.tables import NOT_LEARNT, train_table, transfer_tables
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
from .jobs import Job, Outcome
from .local_executor import run_jobs
from .plan import Plan
from .progress import make_display
from .ray_executor import run_jobs_on_ray
from .results import Tables, gather, summary_rows
from .scheduler import Told
from .tally import Tally

DONE, FAILED, SIGNALLED = 0, 1, 128
"""Exit codes; the number of the signal is added to the last: 130 for Ctrl-C, 143 for SIGTERM."""


def check_directories(plan: Plan) -> None:
    """Refuse a directory of something else, before anything is spent.

    Raises:
        RunDirectoryError: the run's directory, or that of one of its specs, is another's; or
            nothing is there that is required to be.
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
    information_points: int = 2,
) -> int:
    """Train what is not trained yet, and show what came of it.

    Args:
        plan: what to do.
        command: the command line, for manifests.
        console: where to show it.
        debug: show the traceback of a spec that failed.
        information_points: how often each training measures the information of its features.

    Returns:
        The exit code: 0 done, 1 something failed, 130 or 143 interrupted.

    Raises:
        LockedError: another process works in the run's directory.
    """
    for note in plan.notes:
        say(console, note, style="yellow")
    with locked(plan.directory, RUN_LOCK):
        return _carry_out(
            plan,
            command=command,
            console=console,
            debug=debug,
            information_points=information_points,
        )


def _carry_out(
    plan: Plan,
    *,
    command: Sequence[str],
    console: Console,
    debug: bool,
    information_points: int,
) -> int:
    """The same, alone in the run's directory."""
    state = open_directory(plan.directory, plan.config)
    todo = _todo(plan)
    if state == "finished" and not todo:
        say(console, f"{plan.directory} is finished already; this is its result.")
        _show(plan, console)
        return DONE
    if len(todo) < len(plan.specs):
        n_done = len(plan.specs) - len(todo)
        say(console, f"{n_done} of {len(plan.specs)} trainings are finished already.")
    say(console, _outlook(plan, todo))
    (plan.directory / RESULT).unlink(missing_ok=True)  # of a grid that has grown
    if not plan.is_one_training or not (plan.directory / MANIFEST).exists():
        start_directory(plan.directory, plan.config, command=command)
    outcomes, signal_number = _train(
        plan, todo, command=command, console=console, information_points=information_points
    )
    failed = {name: o for name, o in outcomes.items() if o.status in ("failed", "skipped")}
    gather(plan, whole=not failed and signal_number is None)
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
    """What is about to happen, in one line."""
    trainings = "one training" if len(todo) == 1 else f"{len(todo)} trainings"
    at_once = min(plan.workers or 1, len(todo))
    together = f", {at_once} at once" if at_once > 1 else ""
    if plan.executor == "ray" and plan.workers is None:
        together = ", as many at once as the cluster has CPUs"
    frames = sum(spec.most_frames for spec in todo)
    return f"{plan.command}: {trainings}{together}, {frames:_} frames at most, in {plan.directory}"


def _todo(plan: Plan) -> list[TrainingSpec]:
    """The specs that are not finished."""
    return [
        spec
        for spec in plan.specs
        if open_directory(plan.directory_of(spec), spec.config()) != "finished"
    ]


def _train(
    plan: Plan,
    todo: Sequence[TrainingSpec],
    *,
    command: Sequence[str],
    console: Console,
    information_points: int,
) -> tuple[dict[str, Outcome], int | None]:
    """Train the specs; returns how each ended, and the signal that interrupted it, if any."""
    tally = Tally(
        {spec.name: spec.most_frames for spec in plan.specs},
        groups={spec.name: spec.group for spec in plan.specs},
    )
    waiting = {spec.name for spec in todo}
    for name in tally.names - waiting:
        tally.skip(name)
    outcomes: dict[str, Outcome] = {}
    shown: set[str] = set()
    specs = {spec.name: spec for spec in plan.specs}
    directories = {spec.name: plan.directory_of(spec) for spec in plan.specs}
    ordered = sorted(todo, key=lambda spec: (spec.seed, spec.role == "target", -spec.cost))
    jobs = [
        Job(
            spec=spec,
            directory=directories[spec.name],
            command=tuple(command),
            resume=_resume(plan, directories[spec.name]),
            trust=plan.trust,
            information_points=information_points,
        )
        for spec in ordered
    ]
    tables = Tables(plan)
    with make_display(console, of_grid=plan.command == "ablate") as display:

        def on_start(name: str) -> None:
            tally.start(name)
            display.refresh(tally)

        def on_frames(name: str, frames: int) -> None:
            tally.update(name, frames)
            display.refresh(tally)

        def on_end(name: str, outcome: Outcome) -> None:
            outcomes[name] = outcome
            result = read_result(directories[name]) if outcome.status == "finished" else None
            failed = outcome.status in ("failed", "skipped")
            tally.finish(name, None if result is None else int(result["frames"]), failed=failed)
            spec, where = specs[name], directories[name]
            is_source = plan.command != "train" and spec.role == "source"
            display.say(_line(name or str(where), outcome, result, is_source=is_source))
            if spec.mode not in shown and (lines := _carried(where)):
                shown.add(spec.mode)
                display.say(f"  {spec.mode}: {lines}; all names in its {CARRIED}")
            display.refresh(tally)
            tables.gather_now_and_then()

        def on_say(name: str, text: str) -> None:
            display.say(f"{name or directories[name]}  {text}")

        told = Told(on_start=on_start, on_frames=on_frames, on_end=on_end, on_say=on_say)
        run = run_jobs if plan.executor == "local" else run_jobs_on_ray
        signal_number = run(jobs, n_workers=plan.workers, n_retries=plan.n_retries, told=told)
    return outcomes, signal_number


def _resume(plan: Plan, directory: Path) -> str:
    """How a spec is to resume: one that never began cannot be required to."""
    begun = (directory / CONFIG).is_file()
    return "auto" if plan.resume == "require" and not begun else plan.resume


def _line(name: str, outcome: Outcome, result: dict[str, object] | None, *, is_source: bool) -> str:
    """One line on a training that has ended."""
    if result is None:
        reason = f": {outcome.reason}" if outcome.reason else ""
        return f"{name}  {outcome.status}{reason}"
    scores = result["scores"]
    assert isinstance(scores, dict)
    mean = sum(scores.values()) / len(scores)
    learnt = result["learnt"]
    assert isinstance(learnt, dict)
    missed = f"  {NOT_LEARNT} not learnt" if is_source and not all(learnt.values()) else ""
    return (
        f"{name}  score {mean:.2f} after {result['frames']:_} frames, "
        f"{result['frames_per_second']:.0f} frames/s{missed}"
    )


def _carried(directory: Path) -> str:
    """The headings of what became of the source's weights; empty without a source."""
    path = directory / CARRIED
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    return ", ".join(line for line in lines if line and not line.startswith(" "))


def _show(plan: Plan, console: Console) -> None:
    rows = summary_rows(plan)
    if rows:
        show(console, train_table(rows) if plan.command == "train" else transfer_tables(rows))
    say(console, str(plan.directory), style="bold")
    for name, line in _files(plan):
        if (plan.directory / name).exists():
            say(console, f"  {name:22}{line}")


def _files(plan: Plan) -> list[tuple[str, str]]:
    own = [
        ("curves.csv", "every point of every learning curve"),
        ("summary.csv", "what each curve came to"),
        ("information.csv", "what the features tell, against frames"),
        ("result.json", "the result, with the hash of the weights"),
        ("config.yaml", "the settings; usable as --config"),
        ("manifest.json", "versions, command, seed, machine"),
        ("progress.csv", "metrics of agent and loss; TensorBoard's too"),
        ("checkpoints", "the agent, as Stable-Baselines3 saves it"),
        ("memory.safetensors", "what it remembers of its environments"),
    ]
    if plan.command != "train":
        return [
            *own,
            ("sources", "a run's directory for each source"),
            ("targets", "… for each target"),
        ]
    return own + [(spec.name, "a run's directory") for spec in plan.specs if spec.name]
