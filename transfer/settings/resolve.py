"""What a person named, found: the suite, the arms, the loss, the spaces that must fit."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from contrastive_distillation.agents import (
    AGENTS,
    default_every,
    default_n_envs,
    default_weight,
    observation_kind,
)
from contrastive_distillation.envs import (
    Suite,
    UnknownNameError,
    get_suite,
    load_suite,
    mission_varies,
)
from contrastive_distillation.losses import LOSSES, AuxiliaryLoss, Joining, make_loss
from contrastive_distillation.memory import KEEPS, MEMORIES, NEGATIVES, POSITIVES

from ..errors import SettingsError
from .arms import ARMS, OWN, Arm
from .commands import TrainSettings, TransferSettings
from .loss_settings import read_loss_settings
from .spaces import spaces_of
from .spec import LossSpec

DEFAULT_SUITE = "doorkey"
DEFAULT_BALANCE = "norm"
DEFAULT_FRAMES = 200_000
"""Frames on environments of one's own, for which no suite says how many."""


def choose_suite(name: str | None, sources: tuple[str, ...], targets: tuple[str, ...]) -> Suite:
    """The suite asked for, with other environments where those were asked for."""
    if name is None and sources:
        suite = Suite(
            name="custom",
            summary="environments of the command line",
            sources=sources,
            targets=targets or sources,
            source_frames=DEFAULT_FRAMES,
            target_frames=DEFAULT_FRAMES,
            agents=tuple(AGENTS),
        )
    else:
        suite = _with_others(_named_suite(name or DEFAULT_SUITE), sources, targets)
    for env_id in (*suite.sources, *suite.targets):
        suite.task(env_id)
    return suite


def _with_others(suite: Suite, sources: tuple[str, ...], targets: tuple[str, ...]) -> Suite:
    """The suite with other sources or targets, under a name that says so."""
    sources, targets = sources or suite.sources, targets or suite.targets
    if (sources, targets) == (suite.sources, suite.targets):
        return suite
    ranges = {k: v for k, v in suite.return_ranges.items() if k in (*sources, *targets)}
    name = f"{suite.name}-custom"
    return replace(suite, name=name, sources=sources, targets=targets, return_ranges=ranges)


def _named_suite(name: str) -> Suite:
    is_file = name.endswith((".yaml", ".yml")) or os.sep in name
    return load_suite(name) if is_file else get_suite(name)


def choose_arms(names: Sequence[str]) -> list[Arm]:
    """The arms by these names."""
    if not names:
        raise SettingsError(f"--arms: name at least one of {', '.join(ARMS)}")
    for name in names:
        if name not in ARMS:
            raise UnknownNameError("arm", name, ARMS, hint=f"There are: {', '.join(ARMS)}.")
    if len(set(names)) != len(names):
        raise SettingsError(f"--arms {' '.join(names)}: the same arm twice")
    return [ARMS[name] for name in names]


def choose_loss(settings: TrainSettings | TransferSettings, agent: str) -> LossSpec:
    """The loss, tried out: an unknown name or setting shows here."""
    if settings.memory not in MEMORIES:
        raise UnknownNameError("memory", settings.memory, MEMORIES)
    if settings.keep not in KEEPS:
        raise UnknownNameError("keep", settings.keep, KEEPS)
    if settings.keep != "fifo" and not MEMORIES[settings.memory].keeps_episodes_whole:
        raise SettingsError(
            f"--keep {settings.keep}: chooses among whole episodes, which --memory "
            f"{settings.memory} does not keep; use --memory episodic, or --keep fifo"
        )
    if settings.negatives is not None and settings.negatives not in NEGATIVES:
        raise UnknownNameError("negatives", settings.negatives, NEGATIVES)
    if settings.positives is not None and settings.positives not in POSITIVES:
        raise UnknownNameError("positives", settings.positives, POSITIVES)
    keywords = read_loss_settings(vars(settings))
    loss = _tried_loss(settings.loss, keywords)
    joining = _joining(settings, agent, loss)
    choice = LossSpec(
        name=settings.loss,
        settings=keywords,
        weight=joining.weight,
        balance=joining.balance,
        every=joining.every,
        memory=settings.memory,
        keep=settings.keep,
        memory_capacity=settings.memory_capacity,
    )
    if loss is None:
        return without_loss(choice)
    check_agent(loss, agent)
    if isinstance(settings, TrainSettings):
        check_has_source(loss, None)
    else:
        for arm in choose_arms(settings.arms):
            check_has_source(loss, arm)
    return choice


def _tried_loss(name: str, keywords: dict[str, Any]) -> AuxiliaryLoss | None:
    """The loss by this name, without a source; None for `none`."""
    if name == "none":
        return None
    if ":" not in name and name not in LOSSES:
        hint = "A loss of your own is package.module:Class; no loss at all is none."
        raise UnknownNameError("loss", name, [*LOSSES, "none"], hint=hint)
    return make_loss(name, **keywords)


def _joining(
    settings: TrainSettings | TransferSettings, agent: str, loss: AuxiliaryLoss | None
) -> Joining:
    """Weight, balance and frequency: as given, the defaults, or those of the loss's paper."""
    given: dict[str, Any] = {
        name: value
        for name in ("weight", "balance", "every")
        if (value := getattr(settings, name)) is not None
    }
    if not settings.as_published:
        ours = Joining(
            weight=default_weight(agent),
            balance=DEFAULT_BALANCE,
            every=default_every(AGENTS[agent]),
        )
        return replace(ours, **given)
    if given:
        flags = ", ".join(f"--{name} {value}" for name, value in given.items())
        raise SettingsError(
            f"--as-published: stands for --weight, --balance and --every; leave out {flags}"
        )
    if loss is None or loss.published is None:
        known = ", ".join(name for name, kind in LOSSES.items() if kind.published is not None)
        raise SettingsError(
            f"--as-published: no paper gives a weight for --loss {settings.loss}; leave it out, or "
            f"choose one of {known}"
        )
    return loss.published


def check_agent(loss: AuxiliaryLoss, agent: str) -> None:
    """Refuse a loss that is for other agents."""
    if loss.agents is not None and agent not in loss.agents:
        others = [n for n, kind in LOSSES.items() if kind.agents and agent in kind.agents]
        near = f", or --loss {' or '.join(others)} with {agent}" if others else ""
        raise SettingsError(
            f"--loss {loss.name}: is for --agent {' or '.join(loss.agents)}, not {agent}; use it "
            f"with that{near}"
        )


def check_has_source(loss: AuxiliaryLoss, arm: Arm | None) -> None:
    """Refuse a loss that is nothing without a source, where there is none.

    Args:
        loss: what is to be trained with.
        arm: whose trainings these are; None: one training without a source.
    """
    if not loss.needs_source:
        return
    if arm is None:
        raise SettingsError(
            f"--loss {loss.name}: needs a source agent, which train has not; use transfer, with "
            f"--arms {' '.join(_with_source())}"
        )
    on_source = arm.source_loss in (OWN, loss.name)
    if on_source or (arm.target_loss in (OWN, loss.name) and arm.teacher is None):
        where = "the source itself" if on_source else "a target without a source"
        raise SettingsError(
            f"--loss {loss.name}: needs a source agent, but the arm {arm.name} trains {where} with "
            f"the loss; choose --arms {' '.join(_with_source())}"
        )


def _with_source() -> list[str]:
    """Arms that use the run's loss where there is a source alone, and what to hold them against."""
    own = [arm.name for arm in ARMS.values() if arm.target_loss == OWN and not arm.source_loss]
    return [*own, "fine_tune", "scratch"]


def choose_n_envs(given: int | None, agent: str, n_tasks: int, suite: Suite, mission: bool) -> int:
    """As given, or the agent's default, rounded up to equal shares for the tasks."""
    if given is None:
        kind = observation_kind(spaces_of(suite.sources[0], suite, mission)[0])
        return -(-default_n_envs(agent, kind) // n_tasks) * n_tasks
    if given % n_tasks:
        lower = given // n_tasks * n_tasks
        near = f"{lower} or {lower + n_tasks}" if lower else str(n_tasks)
        raise SettingsError(
            f"--n-envs {given}: must be a multiple of the number of environments trained "
            f"together, {n_tasks}; use {near}"
        )
    return given


def choose_workers(given: int | None) -> int:
    """As given, or as many as there are cores, two at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return given or max(1, min(2, cores or 1))


def without_loss(loss: LossSpec) -> LossSpec:
    """The same memory, without a loss: a later transfer wants the source's observations."""
    return replace(loss, name="none", settings={}, weight=0.0)


def needs_mission(env_ids: Iterable[str], observation: str) -> bool:
    """Whether observations of these environments must hold the mission."""
    return observation != "picture" and mission_varies(list(env_ids))
