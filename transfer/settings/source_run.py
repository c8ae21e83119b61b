"""A transfer from a run that is there already: ``--from RUN``."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contrastive_distillation.agents import AGENTS
from contrastive_distillation.envs import Suite

from ..errors import SettingsError
from ..run_directory.directory import (
    AGENT_SETTINGS,
    CONFIG,
    RESOLVED,
    RESULT,
    read_config,
    read_result,
)
from ..run_directory.trust import check_modules
from .commands import TrainSettings, TransferSettings
from .fields import from_mapping
from .resolve import choose_suite, needs_mission
from .spaces import compare_all
from .spec import suite_of


@dataclass(frozen=True, kw_only=True)
class GivenSource:
    """A finished run whose agent is the source of every arm."""

    config: dict[str, Any]
    result: dict[str, Any]


def find_given_source(settings: TransferSettings) -> GivenSource | None:
    """The run that ``--from`` names, or None where it is not given.

    Raises:
        SettingsError: it is no finished run of one agent, or names modules and is not the user's.
    """
    if settings.from_ is None:
        return None
    directory = Path(settings.from_)
    config = read_agent_config(directory)
    check_modules(directory, config, typed=settings.target, trust=settings.trust)
    return GivenSource(config=config, result=read_result(directory))


def read_agent_config(directory: Path) -> dict[str, Any]:
    """The configuration of a run of one agent.

    Raises:
        SettingsError: there is none in the directory, it is none that a training could have
            written, or it is one of several agents; the text names some of them.
    """
    config = read_config(directory)
    resolved = config.get(RESOLVED)
    if isinstance(resolved, dict) and "role" in resolved and "seeds" not in config:
        _check(directory, config)
        return config
    inside = sorted(str(path.parent) for path in directory.glob(f"*/**/{RESULT}"))
    near = f" Choose one in it: {', '.join(inside[:4])}" if inside else ""
    raise SettingsError(f"{directory}: is a run of several agents.{near}")


def _check(directory: Path, config: dict[str, Any]) -> None:
    """Refuse a configuration that no training wrote."""
    path = directory / CONFIG
    left_out = ("command", RESOLVED, AGENT_SETTINGS)
    settings = {key: value for key, value in config.items() if key not in left_out}
    from_mapping(TrainSettings, settings, origin=str(path))  # types and ranges
    try:
        suite_of(config)
        whole = config["env"] and config["agent"] in AGENTS and type(config["seed"]) is int
        whole = whole and type(config[RESOLVED]["mission"]) is bool
        whole = whole and {"gamma", "loss", "memory"} <= config.keys()
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"{path}: is broken: {type(error).__name__}: {error}") from error
    if not whole:
        raise SettingsError(f"{path}: is broken: it does not say what a run's configuration says")


def around_given(
    settings: TransferSettings, given: GivenSource
) -> tuple[TransferSettings, Suite, bool]:
    """Settings with the agent's own filled in, the suite, whether observations hold the mission.

    Raises:
        SettingsError: settings that contradict the run, or, with a table, a target that the
            run's agent does not fit.
    """
    if settings.source or settings.source_frames:
        raise SettingsError("--from: the source is trained already; leave out --source…")
    for name in ("agent", "gamma"):
        asked, found = getattr(settings, name), given.config[name]
        if asked is not None and asked != found:
            raise SettingsError(f"--{name} {asked}: the agent of --from was trained with {found}")
    sources = tuple(given.config["env"])
    if settings.suite is None:
        suite = replace(suite_of(given.config), sources=sources)
        if suite.targets == suite.sources and not settings.target:
            raise SettingsError(
                f"--from {settings.from_}: trained on environments of no suite; say where to "
                "transfer to: --target ID …, or --suite NAME"
            )
        if settings.target:
            ranges = {
                k: v for k, v in suite.return_ranges.items() if k in (*sources, *settings.target)
            }
            suite = replace(suite, targets=settings.target, return_ranges=ranges)
    else:
        suite = choose_suite(settings.suite, sources, settings.target)
        suite = replace(suite, name=suite.name.removesuffix("-custom"))
    source_mission = bool(given.config[RESOLVED]["mission"])
    mission = source_mission or needs_mission((*sources, *suite.targets), suite.observation)
    compare_all(suite, sources[0], suite.targets, mission, source_mission=source_mission)
    filled = replace(settings, agent=given.config["agent"], gamma=given.config["gamma"])
    return filled, suite, mission


def note_on_given(settings: TransferSettings, given: GivenSource) -> str:
    """What the user should know of arms that all start from one run."""
    trained_with = given.config["loss"]
    kind = "without a loss" if trained_with == "none" else f"with {trained_with}"
    return f"Every arm but scratch starts from {settings.from_}, which was trained {kind}."
