"""The trainings of one arm: its source, and each of its targets."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from contrastive_distillation.envs import Suite, unrelated_source
from contrastive_distillation.losses import LOSSES, loss_class

from ..errors import SettingsError
from ..settings.arms import ARMS, OWN, Arm
from ..settings.commands import TransferSettings
from ..settings.fields import annotations_of
from ..settings.loss_settings import LOSS_FLAGS
from ..settings.resolve import choose_n_envs
from ..settings.settled import settled_spec
from ..settings.spaces import compare_all
from ..settings.spec import SourceSpec, TrainingSpec
from .variations import Variant


def check_arms(
    arms: Sequence[Arm], settings: TransferSettings, suite: Suite, agent: str, mission: bool
) -> None:
    """Refuse arms that there cannot be here.

    Raises:
        SettingsError: an arm's loss is not there, is for another agent, or there is none to hold
            it against; or there is no unrelated source that fits.
    """
    for arm in arms:
        for name in {arm.source_loss, arm.target_loss} - {None, OWN}:
            _check_loss(arm, str(name), agent)
        if arm.more_epochs and settings.loss == "none":
            raise SettingsError(
                f"--arms {arm.name}: matches what the loss costs, and --loss none has no loss"
            )
        has_loss = settings.loss != "none"
        if arm.teacher == "random" and has_loss and not loss_class(settings.loss).takes_teacher:
            raise SettingsError(
                f"--arms {arm.name}: --loss {settings.loss} is taught by nobody, so there is no "
                "teacher to be random"
            )
        if arm.unrelated and settings.from_ is not None:
            raise SettingsError(
                f"--arms {arm.name}: has a source of its own, but --from names one for every arm"
            )
        if arm.unrelated:
            compare_all(suite, suite.sources[0], [_unrelated(arm, suite)], mission)


def _unrelated(arm: Arm, suite: Suite) -> str:
    other = unrelated_source(suite)
    if other is None:
        raise SettingsError(
            f"--arms {arm.name}: the suite {suite.name} has no unrelated source; only grids have "
            "one by default, a suite of your own names it: unrelated: ID"
        )
    return other


def _check_loss(arm: Arm, name: str, agent: str) -> None:
    if name not in LOSSES:
        raise SettingsError(
            f"--arms {arm.name}: its loss {name} is not there; there are: {', '.join(LOSSES)}"
        )
    suits: tuple[str, ...] | None = getattr(loss_class(name), "agents", None)
    if suits and agent not in suits:
        raise SettingsError(
            f"--arms {arm.name}: its loss is for --agent {' or '.join(suits)}, not {agent}"
        )


class ArmTrainings:
    """The specs of one variant of an arm; seeds differ in nothing but the seed."""

    def __init__(self, variant: Variant, suite: Suite, mission: bool) -> None:
        """
        Raises:
            ValueError: something cannot be trained as asked.
        """
        self.variant = variant
        self._suite = suite
        self._on_target = self._settled(variant.settings, "target", mission)
        self._on_source = self._settled(variant.source_settings, "source", mission)

    def _settled(self, settings: TransferSettings, role: str, mission: bool) -> TrainingSpec:
        """A spec of one role with its loss, and with the loss it is to match."""
        arm = self.variant.arm
        try:
            plain = settled_spec(plainly(settings), self._suite, mission)
            if arm.loss_on(role) is None and not arm.more_epochs:
                return plain
            with_loss = settled_spec(settings, self._suite, mission)
        except ValueError as error:
            if self.variant.label in ARMS and not arm.loss_settings:
                raise
            raise SettingsError(f"{self.variant.label}: {error}") from error
        if arm.more_epochs:
            return replace(plain, matched_loss=with_loss.loss)
        return with_loss

    def source(self, seed: int) -> TrainingSpec | None:
        """The source it waits for, as a part of its own arm alone; None where it waits for none."""
        variant, arm, suite = self.variant, self.variant.arm, self._suite
        if variant.source is None or variant.settings.from_ is not None:
            return None
        env_ids = (_unrelated(arm, suite),) if arm.unrelated else suite.sources
        common = self._on_source
        return replace(
            common,
            name=f"sources/{variant.source}-seed{seed}",
            role="source",
            arms=() if arm.source_kind is None else (variant.label,),
            seed=seed,
            task=replace(
                common.task,
                env_ids=env_ids,
                frames=_source_frames(variant.source_settings, suite),
                until_learnt=True,
                n_envs=choose_n_envs(
                    variant.source_settings.n_envs,
                    common.agent.name,
                    len(env_ids),
                    suite,
                    common.task.mission,
                ),
            ),
        )

    def targets(self, seed: int) -> Iterator[TrainingSpec]:
        """A spec for each target."""
        for env_id in self._suite.targets:
            yield self._target(seed, env_id)

    def _target(self, seed: int, env_id: str) -> TrainingSpec:
        variant, arm, settings = self.variant, self.variant.arm, self.variant.settings
        name = f"targets/{variant.label}/{folder(env_id)}/seed{seed}"
        needs, source = None, None
        if variant.source is not None:
            needs = f"sources/{variant.source}-seed{seed}"
            source = os.path.relpath(needs, name)
            if settings.from_ is not None:
                needs, source = None, settings.from_
        return replace(
            self._on_target,
            name=name,
            arms=(variant.label,),
            needs=needs,
            seed=seed,
            task=replace(
                self._on_target.task,
                env_ids=(env_id,),
                frames=settings.frames or self._suite.target_frames,
            ),
            source=SourceSpec(
                directory=None if arm.more_frames else source,
                mode=arm.mode,
                teacher=arm.teacher is not None,
                random_teacher=arm.teacher == "random",
                adds_frames_of=source if arm.more_frames else None,
                extra_frames=_source_frames(settings, self._suite) if arm.more_frames else 0,
            ),
        )


def plainly(settings: TransferSettings) -> TransferSettings:
    """The settings without a loss: the memory is written all the same."""
    changes: dict[str, Any] = {"loss": "none", "loss_settings": ()} | dict.fromkeys(LOSS_FLAGS)
    if "as_published" in annotations_of(type(settings)):
        changes["as_published"] = False
    return replace(settings, **changes)


def _source_frames(settings: TransferSettings, suite: Suite) -> int:
    return settings.source_frames or suite.source_frames


def folder(env_id: str) -> str:
    """An environment's id as the name of a directory."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in env_id)
