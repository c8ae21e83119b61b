"""The trainings of one arm: its source, and each of its targets."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from contrastive_distillation.envs import Suite, unrelated_source
from contrastive_distillation.losses import LOSSES

from ..errors import SettingsError
from ..settings.arms import ARMS, OWN, Arm, arm_of
from ..settings.commands import TransferSettings
from ..settings.loss_choice import loss_named, without_loss
from ..settings.resolve import ResolvedSettings
from ..settings.source_run import source_checkpoint
from ..settings.spaces import compare_all
from ..settings.spec import SourceSpec, TrainingSpec
from .variations import Variant


def check_arms(arms: Sequence[Arm], settings: TransferSettings, resolved: ResolvedSettings) -> None:
    """Refuse arms that these settings do not allow.

    Raises:
        SettingsError: the loss of an arm is unknown or for another agent, an arm needs a loss or
            a teacher that the settings do not have, or no unrelated source fits.
    """
    for arm in arms:
        for name in {arm.source_loss, arm.target_loss} - {None, OWN}:
            _check_loss(arm, str(name), resolved.agent.name)
        if arm.more_epochs and settings.loss == "none":
            raise SettingsError(
                f"--arms {arm.name}: matches the cost of the loss, and --loss none has no loss; "
                "name a --loss, or leave out the arm"
            )
        loss = loss_named(settings.loss)
        if arm.teacher == "random" and loss is not None and not loss.takes_teacher:
            raise SettingsError(
                f"--arms {arm.name}: --loss {settings.loss} takes no teacher that could be random; "
                "choose another loss, or leave out the arm"
            )
        if arm.source_kind is not None and arm.realign is None:
            _check_carried(arm, resolved)
        if arm.unrelated and settings.from_ is not None:
            raise SettingsError(
                f"--arms {arm.name}: has a source of its own, but --from names one for every arm; "
                "leave out one of the two"
            )
        if arm.unrelated:
            suite = resolved.suite
            compare_all(suite, suite.sources[0], [_unrelated(arm, suite)], resolved.mission)


def check_distinct(variants: Sequence["ArmTrainings"]) -> None:
    """Refuse two arms that train the same agents.

    Raises:
        SettingsError: naming both, and their loss.
    """
    known: dict[str, str] = {}
    for each in variants:
        label, same = each.variant.label, known.setdefault(each.identity(), each.variant.label)
        if same != label:
            raise SettingsError(
                f"--arms {arm_of(same)} {arm_of(label)}: {same} and {label} would train the same "
                f"agents with --loss {each.variant.settings.loss}; leave out one of the two arms, "
                "or choose another --loss"
            )


def _unrelated(arm: Arm, suite: Suite) -> str:
    other = unrelated_source(suite)
    if other is None:
        raise SettingsError(
            f"--arms {arm.name}: the suite {suite.name} has no unrelated source; only grids have "
            "one by default, a suite of your own names it: unrelated: ID"
        )
    return other


def _check_carried(arm: Arm, resolved: ResolvedSettings) -> None:
    """Refuse an arm that carries weights to a target whose observations have another shape."""
    suite = resolved.suite
    try:
        compare_all(suite, suite.sources[0], suite.targets, resolved.mission)
    except SettingsError as error:
        raise SettingsError(
            f"--arms {arm.name}: carries the source's weights to every target, but {error}\n\n"
            "Leave out the arm, or name with --target the targets that fit"
        ) from None


def _check_loss(arm: Arm, name: str, agent: str) -> None:
    kind = loss_named(name)
    if kind is None:
        raise SettingsError(
            f"--arms {arm.name}: its loss {name} is unknown; there are: {', '.join(LOSSES)}"
        )
    if kind.agents and agent not in kind.agents:
        raise SettingsError(
            f"--arms {arm.name}: its loss is for --agent {' or '.join(kind.agents)}, not {agent}; "
            "leave out the arm, or use that agent"
        )


class ArmTrainings:
    """The specs of one variant of an arm; seeds differ in nothing but the seed."""

    def __init__(self, variant: Variant, resolved: ResolvedSettings) -> None:
        """
        Raises:
            ValueError: a setting of the variant cannot be used.
        """
        self.variant = variant
        self._on_target = self._resolve(variant.settings, "target", resolved)
        self._on_source = self._resolve(variant.source_settings, "source", resolved)
        self._checkpoint = source_checkpoint(variant.settings)

    def _resolve(
        self, settings: TransferSettings, role: str, resolved: ResolvedSettings
    ) -> ResolvedSettings:
        """The settings of one role; without the loss where the arm has none there."""
        arm = self.variant.arm
        try:
            if arm.more_epochs:
                plain = resolved.varied(without_loss(settings))
                return replace(plain, matched_loss=resolved.varied(settings).loss)
            has_loss = arm.loss_on(role) is not None
            found = resolved.varied(settings if has_loss else without_loss(settings))
            if role == "source" and resolved.suite.sensors and found.loss.memory == "episodic":
                # it only records: its memory holds episodes of all of the training
                return replace(found, loss=replace(found.loss, keep="reservoir"))
            return found
        except ValueError as error:
            if self.variant.label in ARMS and not arm.loss_settings:
                raise
            raise SettingsError(f"{self.variant.label}: {error}") from error

    def identity(self) -> str:
        """The settings of its source and its first target, without their names, as text."""
        target, source = next(self.targets(0)), self.source(0)
        kind = loss_named(target.loss.name)
        taught = kind is not None and (
            kind.takes_teacher or kind.takes_source_policy or kind.needs_source
        )
        taken = target.source
        unnamed = replace(
            taken,
            directory=taken.directory and "source",
            adds_frames_of=taken.adds_frames_of and "source",
            teacher=taken.teacher and taught,
        )
        specs = [replace(target, source=unnamed), *([] if source is None else [source])]
        return json.dumps([spec.config() for spec in specs], sort_keys=True, default=str)

    def source(self, seed: int) -> TrainingSpec | None:
        """The source it waits for, as a part of its own arm alone; None where it waits for none."""
        variant, arm, resolved = self.variant, self.variant.arm, self._on_source
        if variant.source is None or variant.settings.from_ is not None:
            return None
        return resolved.training(
            (_unrelated(arm, resolved.suite),) if arm.unrelated else resolved.suite.sources,
            frames=resolved.source_frames,
            until_learnt=True,
            name=f"sources/{variant.source}-seed{seed}",
            role="source",
            arms=() if arm.source_kind is None else (variant.label,),
            seed=seed,
            random_frames=resolved.random_frames,
        )

    def targets(self, seed: int) -> Iterator[TrainingSpec]:
        """A spec for each target."""
        variant, arm, resolved = self.variant, self.variant.arm, self._on_target
        for env_id in resolved.suite.targets:
            name = f"targets/{variant.label}/{_folder(env_id)}/seed{seed}"
            needs, directory = None, None
            if variant.source is not None:
                directory = variant.settings.from_
                if directory is None:
                    needs = f"sources/{variant.source}-seed{seed}"
                    directory = os.path.relpath(needs, name)
            yield resolved.training(
                (env_id,),
                frames=resolved.target_frames,
                name=name,
                role="target",
                arms=(variant.label,),
                needs=needs,
                seed=seed,
                realign=None if arm.realign is None else replace(resolved.realign, **arm.realign),
                zero_shot=resolved.zero_shot,
                source=SourceSpec(
                    directory=None if arm.more_frames else directory,
                    checkpoint=self._checkpoint if directory and not arm.more_frames else "final",
                    mode=arm.mode,
                    teacher=arm.teacher is not None,
                    random_teacher=arm.teacher == "random",
                    adds_frames_of=directory if arm.more_frames else None,
                    extra_frames=resolved.source_frames if arm.more_frames else 0,
                ),
            )


def _folder(env_id: str) -> str:
    """An environment's id as the name of a directory."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in env_id)
