"""The command line: `run_agent.py train | transfer | ablate | evaluate | watch | report | list`.

Also installed as ``contrastive-distillation``. Exit codes: 0 done, 2 bad arguments, 130
and 143 interrupted by Ctrl-C and SIGTERM, 1 anything else, with a line that says why.
"""

import functools
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from contrastive_distillation.transfer import (
    DONE,
    FAILED,
    AblateSettings,
    EvaluateSettings,
    ListSettings,
    ReportSettings,
    Settings,
    TrainSettings,
    TransferSettings,
    WatchSettings,
    parse_command_line,
)

BAD_ARGUMENTS, INTERRUPTED = 2, 130

_WARNED: set[str] = set()
"""Warnings that this process has shown."""

Action = Callable[[], int | None]
"""A command with its arguments checked; returns the exit code, None for `DONE`."""


def main(words: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        words: the command line without the program's name; that of the process by default.

    Returns:
        The exit code.
    """
    words = sys.argv[1:] if words is None else list(words)
    program = Path(sys.argv[0]).name or "run_agent.py"
    debug, failure = "--debug" in words, BAD_ARGUMENTS
    try:
        settings = parse_command_line(words, program=program)
        debug = settings.debug
        act = _prepare(settings, [program, *words])
        failure = FAILED
        return act() or DONE
    except SystemExit as left:  # the parser, or the user's own module, has said why
        if failure == FAILED:
            raise
        return left.code if isinstance(left.code, int) else BAD_ARGUMENTS
    except BrokenPipeError:  # the reader has closed our output: `… list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return _complain(KeyboardInterrupt("interrupted"), INTERRUPTED, debug=False)
    except Exception as error:
        code = failure if isinstance(error, ValueError) else FAILED
        return _complain(error, code, debug=debug)


def _complain(error: BaseException, code: int, *, debug: bool) -> int:
    """Print an error on standard error; returns the exit code."""
    if debug:
        traceback.print_exception(error)
    text = str(error) or type(error).__name__
    if isinstance(error, OSError):
        from contrastive_distillation.transfer import explain

        text = explain(error)
    elif code == FAILED:  # one line; texts not written for people get their type's name
        text = " ".join(text.split())
        text = text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
    print(text if code == INTERRUPTED else f"error: {text}", file=sys.stderr)
    return code


def _prepare(settings: Settings, command: Sequence[str]) -> Action:
    """Check a command's arguments as far as is possible before it runs.

    Heavy imports happen here and below, so that `--help` and errors of typing answer at once.

    Raises:
        ValueError: an argument is wrong.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if os.getcwd() not in sys.path:  # the user's own losses and environments are there
        sys.path.append(os.getcwd())
    warnings.showwarning = _warn
    return _PREPARE[type(settings)](settings, command)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as one line, once, without the line of code it came from."""
    if issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
        return
    text = f"warning: {message}"
    if text not in _WARNED:
        _WARNED.add(text)
        print(text, file=sys.stderr)


def _prepare_training(settings: TrainSettings | TransferSettings, command: Sequence[str]) -> Action:
    from contrastive_distillation.transfer import warm_up

    dry_run = isinstance(settings, AblateSettings) and settings.dry_run
    if not dry_run:
        warm_up()
    from rich.console import Console

    from contrastive_distillation.transfer import (
        carry_out,
        check_directories,
        forecast,
        plan_train,
        plan_transfer,
    )

    plan = plan_train(settings) if isinstance(settings, TrainSettings) else plan_transfer(settings)
    check_directories(plan)
    if isinstance(settings, AblateSettings) and dry_run:
        speed = settings.frames_per_second
        return functools.partial(forecast, plan, Console(), frames_per_second=speed)
    return functools.partial(
        carry_out, plan, command=command, console=Console(), debug=settings.debug
    )


def _prepare_evaluate(settings: EvaluateSettings, command: Sequence[str]) -> Action:
    from rich.console import Console

    from contrastive_distillation.transfer import evaluate, load_agent

    agent = load_agent(Path(settings.run), settings.env, checkpoint=settings.checkpoint)
    return lambda: evaluate(agent, settings, Console())


def _prepare_watch(settings: WatchSettings, command: Sequence[str]) -> Action:
    from contrastive_distillation.transfer import check_gif, load_agent, watch

    path = Path(settings.output)
    check_gif(path)
    agent = load_agent(Path(settings.run), settings.env, checkpoint=settings.checkpoint)

    def act() -> None:
        n_frames = watch(agent, path, n_episodes=settings.episodes, seed=settings.seed)
        print(f"{path}: {n_frames} frames of {agent.file}")

    return act


def _prepare_report(settings: ReportSettings, command: Sequence[str]) -> Action:
    from contrastive_distillation.transfer import check_output, make_report, read_experiments

    paths = [Path(each) for each in settings.directory]
    experiment = read_experiments(paths)
    output = paths[0] / "report" if len(paths) == 1 and paths[0].is_dir() else Path("report")
    output = output if settings.output is None else Path(settings.output)
    check_output(experiment.directory, output)
    return lambda: print(make_report(experiment, output))


def _prepare_list(settings: ListSettings, command: Sequence[str]) -> Action:
    from contrastive_distillation.transfer import listing

    return lambda: print(listing())


_PREPARE: dict[type[Settings], Callable[[Any, Sequence[str]], Action]] = {
    TrainSettings: _prepare_training,
    TransferSettings: _prepare_training,
    AblateSettings: _prepare_training,
    EvaluateSettings: _prepare_evaluate,
    WatchSettings: _prepare_watch,
    ReportSettings: _prepare_report,
    ListSettings: _prepare_list,
}


if __name__ == "__main__":
    sys.exit(main())
