"""A transfer from a finished run: ``--from RUN``."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contrastive_distillation.agents import AGENTS
from contrastive_distillation.envs import Suite, sensor_of

from ..errors import SettingsError
from ..run_directory.directory import (
    AGENT_SETTINGS,
    BEST,
    CONFIG,
    RESOLVED,
    RESULT,
    Chosen,
    agent_file,
    read_config,
    read_result,
)
from ..run_directory.trust import check_modules
from .commands import TrainSettings, TransferSettings
from .fields import from_mapping
from .spec import TrainingSpec
from .suite import choose_suite


@dataclass(frozen=True, kw_only=True)
class SourceRun:
    """A finished run whose agent is the source of every arm."""

    spec: TrainingSpec
    result: dict[str, Any]


def find_source_run(settings: TransferSettings) -> SourceRun | None:
    """The run that ``--from`` names; None without ``--from``.

    Raises:
        SettingsError: the directory holds no finished run of one agent, or it names modules and
            is not the user's own.
    """
    if settings.from_ is None:
        return None
    directory = Path(settings.from_)
    spec = read_spec(directory, typed=settings.target, trust=settings.trust)
    return SourceRun(spec=spec, result=read_result(directory))


def source_checkpoint(settings: TransferSettings) -> Chosen:
    """Which agent of its source every arm starts from.

    The best one by default; the final one of a ``--from`` run of an earlier version, which kept no
    other.

    Raises:
        RunDirectoryError: the run has no agent of the kind that was asked for.
    """
    if settings.from_ is None:
        return settings.checkpoint or "best"
    directory = Path(settings.from_)
    if settings.checkpoint is None:
        return "best" if (directory / BEST).is_file() else "final"
    agent_file(directory, settings.checkpoint)
    return settings.checkpoint


def read_spec(directory: Path, *, typed: Iterable[str] = (), trust: bool = False) -> TrainingSpec:
    """The spec of a run of one agent.

    Args:
        directory: the run directory.
        typed: environment ids that the user typed; their modules may be imported.
        trust: whether the user trusts the run.

    Raises:
        SettingsError: the directory holds no run, its configuration is broken, it holds a run
            of several agents (the text names some of them), or it names modules and is not the
            user's own.
    """
    config = read_config(directory)
    resolved = config.get(RESOLVED)
    if not isinstance(resolved, dict) or "role" not in resolved or "seeds" in config:
        inside = sorted(str(path.parent) for path in directory.glob(f"*/**/{RESULT}"))
        choose = (
            f"choose one in it: {', '.join(inside[:4])}" if inside else "finish one of them first"
        )
        raise SettingsError(
            f"{directory}: is a run of several agents, and one agent is expected; {choose}"
        )
    spec = _parse(directory, config)
    check_modules(directory, config, typed=typed, trust=trust)
    return spec


def _parse(directory: Path, config: dict[str, Any]) -> TrainingSpec:
    """The spec in a configuration; one that no training wrote is refused."""
    path = directory / CONFIG
    left_out = ("command", RESOLVED, AGENT_SETTINGS)
    settings = {key: value for key, value in config.items() if key not in left_out}
    from_mapping(TrainSettings, settings, origin=str(path))  # types and ranges
    advice = f"give the directory of another run, or train it again into {directory}"
    try:
        spec = TrainingSpec.from_config(config, name="", arms=(), needs=None)
        whole = spec.agent.name in AGENTS and type(spec.seed) is int
        whole = whole and bool(spec.task.env_ids) and type(config["env"]) is list
        whole = whole and type(config[RESOLVED]["mission"]) is bool
        whole = whole and {"gamma", "memory"} <= config.keys()
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(
            f"{path}: is broken: {type(error).__name__}: {error}; {advice}"
        ) from error
    if not whole:
        raise SettingsError(
            f"{path}: is broken: env, agent, seed, gamma, loss, memory and {RESOLVED}.mission are "
            f"expected in it; {advice}"
        )
    return spec


def suite_around(settings: TransferSettings, source_run: SourceRun) -> Suite:
    """The suite of a transfer from a run: its sources are the run's environments.

    Raises:
        SettingsError: a setting contradicts the run, or there are no targets.
    """
    if settings.source or settings.source_frames:
        raise SettingsError("--from: the source is trained already; leave out --source…")
    spec = source_run.spec
    for name, found in (("agent", spec.agent.name), ("gamma", spec.agent.gamma)):
        asked = getattr(settings, name)
        if asked is not None and asked != found:
            raise SettingsError(
                f"--{name} {asked}: the agent of --from was trained with {found}; leave out "
                f"--{name}"
            )
    sources = spec.task.env_ids
    if settings.suite is not None:
        suite = choose_suite(settings.suite, sources, settings.target)
        return replace(suite, name=suite.name.removesuffix("-custom"))
    suite = replace(spec.task.suite, sources=sources)
    if not settings.target:
        if suite.targets == suite.sources:
            raise SettingsError(
                f"--from {settings.from_}: trained on environments of no suite; say where to "
                "transfer to: --target ID …, or --suite NAME"
            )
        return suite
    ids = (*sources, *settings.target)
    ranges = {env_id: known for env_id, known in suite.return_ranges.items() if env_id in ids}
    sensors = any(sensor_of(env_id) for env_id in settings.target)
    return replace(
        suite, targets=settings.target, return_ranges=ranges, sensors=suite.sensors or sensors
    )


def note_on_source(settings: TransferSettings, source_run: SourceRun) -> str:
    """A line for the user: which agent every arm starts from."""
    trained_with = source_run.spec.loss.name
    kind = "without a loss" if trained_with == "none" else f"with {trained_with}"
    chosen = source_checkpoint(settings)
    best, which = source_run.result.get("best"), f"its {chosen} agent"
    if best is not None:
        frames = best["frames"] if chosen == "best" else source_run.result["frames"]
        which += f", after {frames:_} frames"
    elif settings.checkpoint is None:
        which += ", as an earlier version has kept no best one"
    return f"Every arm but scratch starts from {settings.from_}, which was trained {kind}: {which}."
