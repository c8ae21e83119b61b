"""The loss that a command's settings name, its memory, and how it joins the agent's update."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, TypeVar

from contrastive_distillation.agents import AGENTS, default_every, default_weight
from contrastive_distillation.envs import UnknownNameError
from contrastive_distillation.losses import (
    LOSSES,
    AuxiliaryLoss,
    Joining,
    loss_class,
    make_loss,
)
from contrastive_distillation.memory import EVICTIONS, MEMORIES, NEGATIVES, POSITIVES

from ..errors import SettingsError
from .arms import ARMS, OWN, Arm, choose_arms
from .commands import TrainSettings, TransferSettings
from .loss_settings import LOSS_FLAGS, read_loss_settings
from .spec import LossSpec

DEFAULT_BALANCE = "norm"

_Settings = TypeVar("_Settings", TrainSettings, TransferSettings)


def choose_loss(settings: TrainSettings | TransferSettings, agent: str) -> LossSpec:
    """The loss that the settings name; it is constructed once, which checks its settings.

    Raises:
        ValueError: an unknown name, or a setting that the loss, the memory or the agent refuses.
    """
    _check_names(settings)
    keywords = read_loss_settings(vars(settings))
    kind = loss_named(settings.loss)
    if kind is None and settings.loss != "none":
        hint = "A loss of your own is package.module:Class; no loss at all is none."
        raise UnknownNameError("loss", settings.loss, [*LOSSES, "none"], hint=hint)
    if kind is not None:
        make_loss(settings.loss, **keywords)
        _check_agent(kind, agent)
        if isinstance(settings, TrainSettings):
            _check_has_source(kind, None)
        else:
            for arm in choose_arms(settings.arms):
                _check_has_source(kind, arm)
    joining = _joining(settings, agent, kind)
    return LossSpec(
        name=settings.loss,
        settings={} if kind is None else keywords,
        weight=0.0 if kind is None else joining.weight,
        balance=joining.balance,
        every=joining.every,
        memory=settings.memory,
        keep=settings.keep,
        memory_capacity=settings.memory_capacity,
    )


def loss_named(name: str) -> type[AuxiliaryLoss] | None:
    """The class of a loss; None for ``none`` and for an unknown name."""
    return loss_class(name) if ":" in name or name in LOSSES else None


def without_loss(settings: _Settings) -> _Settings:
    """The settings with ``--loss none``: the memory is filled all the same."""
    unset: dict[str, Any] = dict.fromkeys(LOSS_FLAGS)
    return replace(settings, loss="none", loss_settings=(), as_published=False, **unset)


def with_published_where_known(settings: TransferSettings) -> TransferSettings:
    """The settings without `as_published` where the loss has no paper that gives a weight."""
    kind = loss_named(settings.loss)
    known = kind is not None and kind.published is not None
    return replace(settings, as_published=settings.as_published and known)


def _check_names(settings: TrainSettings | TransferSettings) -> None:
    registries: dict[str, Collection[str]] = {
        "memory": MEMORIES,
        "keep": EVICTIONS,
        "negatives": NEGATIVES,
        "positives": POSITIVES,
    }
    for kind, known in registries.items():
        name = getattr(settings, kind)
        if name is not None and name not in known:
            raise UnknownNameError(kind, name, known)
    if settings.keep != "fifo" and not MEMORIES[settings.memory].keeps_episodes_whole:
        raise SettingsError(
            f"--keep {settings.keep}: chooses among whole episodes, which --memory "
            f"{settings.memory} does not keep; use --memory episodic, or --keep fifo"
        )


def _joining(
    settings: TrainSettings | TransferSettings, agent: str, kind: type[AuxiliaryLoss] | None
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
    if kind is None or kind.published is None:
        known = ", ".join(name for name, each in LOSSES.items() if each.published)
        raise SettingsError(
            f"--as-published: no paper gives a weight for --loss {settings.loss}; leave it out, or "
            f"choose one of {known}"
        )
    return kind.published


def _check_agent(kind: type[AuxiliaryLoss], agent: str) -> None:
    """Refuse a loss for other agents."""
    if kind.agents is not None and agent not in kind.agents:
        others = [name for name, each in LOSSES.items() if each.agents and agent in each.agents]
        near = f", or --loss {' or '.join(others)} with {agent}" if others else ""
        raise SettingsError(
            f"--loss {kind.name}: is for --agent {' or '.join(kind.agents)}, not {agent}; use it "
            f"with that{near}"
        )


def _check_has_source(kind: type[AuxiliaryLoss], arm: Arm | None) -> None:
    """Refuse a loss that needs a source agent where a training has none.

    Args:
        kind: the run's loss.
        arm: the arm whose trainings these are; None: one training without a source.
    """
    if not kind.needs_source:
        return
    if arm is None:
        raise SettingsError(
            f"--loss {kind.name}: needs a source agent, which train has not; use transfer, with "
            f"--arms {' '.join(_arms_with_source())}"
        )
    on_source = arm.source_loss in (OWN, kind.name)
    if on_source or (arm.target_loss in (OWN, kind.name) and arm.teacher is None):
        where = "the source itself" if on_source else "a target without a source"
        raise SettingsError(
            f"--loss {kind.name}: needs a source agent, but the arm {arm.name} trains {where} with "
            f"the loss; choose --arms {' '.join(_arms_with_source())}"
        )


def _arms_with_source() -> list[str]:
    """Arms that use the run's loss only where there is a source, and arms to compare them with."""
    own = [arm.name for arm in ARMS.values() if arm.target_loss == OWN and not arm.source_loss]
    return [*own, "fine_tune", "scratch"]
