"""``--dry-run``: the trainings of a plan and a forecast of their time."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..console import say, show
from ..run_directory.directory import RESULT
from ..settings.spec import TrainingSpec
from .plan import Plan


def forecast(plan: Plan, console: Console, *, frames_per_second: float) -> int:
    """Show a plan's trainings, their frames and the hours they may take; nothing is written.

    Args:
        plan: the plan.
        console: prints the forecast.
        frames_per_second: speed of one training, evaluation included.

    Returns:
        The exit code, 0.
    """
    for note in plan.notes:
        say(console, note, style="yellow")
    groups: dict[str, list[TrainingSpec]] = {}
    for spec in plan.specs:
        groups.setdefault(spec.group, []).append(spec)
    left = [spec for spec in plan.specs if not (plan.directory_of(spec) / RESULT).is_file()]
    show(console, _table(groups, frames_per_second))
    n_done = len(plan.specs) - len(left)
    done = f", {n_done} of them finished" if n_done else ""
    say(console, f"{plan.command}: {len(plan.specs)} trainings{done}, in {plan.directory}")
    frames = sum(spec.most_frames for spec in left)
    hours = frames / frames_per_second / 3600
    amount = f"{'what is left' if n_done else 'all'} ({frames:_} frames at most)"
    if plan.workers is None:
        text = f"one at a time: {_hours(hours)} for {amount}; it will be as many as there are CPUs"
    else:
        at_once = min(plan.workers, max(len(left), 1))
        text = f"{at_once} at once: {_hours(hours / at_once)} for {amount}"
    say(console, f"At {frames_per_second:_.0f} frames/s each, {text}.")
    if any(spec.task.until_learnt for spec in left):
        say(console, "Sources stop as soon as they are learnt, so it may take less.")
    say(console, "Nothing was written: --dry-run.")
    return 0


def _table(groups: dict[str, list[TrainingSpec]], frames_per_second: float) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("trainings", overflow="fold")
    for heading in ("number", "frames each", "frames", "hours"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group, specs in groups.items():
        frames = sum(spec.most_frames for spec in specs)
        each = {spec.most_frames for spec in specs}
        table.add_row(
            group.replace("+", "\n +"),
            str(len(specs)),
            f"{min(each):_}" if len(each) == 1 else f"{min(each):_}–{max(each):_}",
            f"{frames:_}",
            _hours(frames / frames_per_second / 3600).removesuffix(" h"),
        )
    return table


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours:.2f} h"
