"""The suite that a command's settings name, and what observations of its environments hold."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from contrastive_distillation.agents import AGENTS
from contrastive_distillation.envs import (
    Pictures,
    Suite,
    get_suite,
    load_suite,
    mission_varies,
    sensor_of,
)

from ..errors import SettingsError
from .commands import AblateSettings, TrainSettings, TransferSettings

DEFAULT_SUITE = "doorkey"
DEFAULT_TRANSFER = "codes"
"""The suite of `transfer` without arguments."""
DEFAULT_FRAMES = 200_000
"""Frames on environments of the user's own, for which no suite gives a number."""


def suite_of_settings(settings: TrainSettings | TransferSettings) -> Suite:
    """The suite of a command without ``--from``.

    Raises:
        ValueError: an unknown suite or environment, or sources without targets.
    """
    if isinstance(settings, TrainSettings):
        return choose_suite(settings.suite, settings.env, ())
    if settings.source and not settings.target and settings.suite is None:
        raise SettingsError("--source: say --target ID… as well, or name a --suite")
    if settings.target and not settings.source and settings.suite is None:
        raise SettingsError("--target: say --source ID… or --from RUN as well, or name a --suite")
    named = settings.suite or settings.source or settings.target
    if not named and not isinstance(settings, AblateSettings):
        return choose_suite(DEFAULT_TRANSFER, (), ())
    return choose_suite(settings.suite, settings.source, settings.target)


def name_as_given(settings: TrainSettings | TransferSettings, suite: Suite) -> str | None:
    """What names the suite again; None where the user named environments instead."""
    if settings.suite is not None:
        return settings.suite
    if isinstance(settings, TrainSettings):
        return None if settings.env else suite.name
    return None if settings.target or settings.from_ else suite.name


def choose_suite(name: str | None, sources: tuple[str, ...], targets: tuple[str, ...]) -> Suite:
    """The suite by this name, with other environments where the user named some.

    With a target that is one of our sensor ids it is a sensor suite.
    """
    if name is None and sources:
        suite = Suite(
            name="custom",
            summary="environments of the command line",
            sources=sources,
            targets=targets or sources,
            source_frames=DEFAULT_FRAMES,
            target_frames=DEFAULT_FRAMES,
            agents=tuple(AGENTS),
            observation=_observation_of(targets),
        )
    else:
        suite = _with_others(_named_suite(name or DEFAULT_SUITE), sources, targets)
    if any(sensor_of(env_id) for env_id in targets):
        suite = replace(suite, sensors=True)
    for env_id in (*suite.sources, *suite.targets):
        suite.task(env_id)
    return suite


def in_range(suite: Suite, return_range: tuple[float, float]) -> Suite:
    """The suite with this range of returns in every environment."""
    env_ids = (*suite.sources, *suite.targets)
    return replace(suite, return_ranges=dict.fromkeys(env_ids, return_range))


def raw_returns(env_ids: Sequence[str]) -> str:
    """Says which environments have raw returns for scores, and how to change that."""
    whose = "its scores are" if len(env_ids) == 1 else "their scores are"
    return (
        f"The range of returns of {' and '.join(env_ids)} is unknown: {whose} raw returns. Give "
        "one with --return-range LOW HIGH, or as return_ranges of a suite."
    )


def _with_others(suite: Suite, sources: tuple[str, ...], targets: tuple[str, ...]) -> Suite:
    """The suite with other sources or targets, under a name that says so."""
    sources, targets = sources or suite.sources, targets or suite.targets
    if (sources, targets) == (suite.sources, suite.targets):
        return suite
    ranges = {k: v for k, v in suite.return_ranges.items() if k in (*sources, *targets)}
    name = f"{suite.name}-custom"
    return replace(suite, name=name, sources=sources, targets=targets, return_ranges=ranges)


def _observation_of(targets: tuple[str, ...]) -> str:
    """Pictures, where the sensors of a target change pictures."""
    changed = [sensor_of(env_id) for env_id in targets]
    sensors = [each.sensor for each in changed if each is not None]
    changes = any(each.reads == "picture" and not isinstance(each, Pictures) for each in sensors)
    return "picture" if changes else "auto"


def _named_suite(name: str) -> Suite:
    is_file = name.endswith((".yaml", ".yml")) or os.sep in name
    return load_suite(name) if is_file else get_suite(name)


def needs_mission(env_ids: Iterable[str], observation: str) -> bool:
    """Whether observations of these environments must hold the mission."""
    return observation != "picture" and mission_varies(list(env_ids))
