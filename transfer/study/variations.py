"""Settings that vary, ``--vary n_negatives=8,32``, and the trainings that each of them changes."""

import dataclasses
import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from contrastive_distillation.losses import AuxiliaryLoss, ContrastiveDistillation

from ..errors import SettingsError
from ..settings.arms import OWN, Arm
from ..settings.commands import TransferSettings
from ..settings.fields import annotations_of, key_of, nearest, read
from ..settings.loss_choice import loss_named, with_published_where_known
from ..settings.loss_settings import LOSS_FLAGS, Value, format_setting, parse_value
from ..settings.spec import RealignSpec

EVERYWHERE = ("agent", "backend", "n_envs", "gamma")
"""Settings that matter in every training."""
OF_FRAMES = {"frames": "target", "source_frames": "source"}
"""Settings that matter in the trainings of one role."""
OF_MEMORY = ("memory", "keep", "memory_capacity")
"""Settings that matter where a loss draws from the memory, there or later on the target."""
OF_REALIGNING = tuple(
    f"realign_{each.name}" for each in dataclasses.fields(RealignSpec) if each.name != "select"
)
"""Settings that matter on the target of an arm that realigns."""
OF_JOINING = ("weight", "balance", "every", "as_published")
"""Settings that matter where there is a loss, whichever."""
OF_TEACHER = ("source_weight", "source_anneal")
"""Settings, of losses that take a teacher, that matter only where a source teaches."""
OF_PASSES = ("loss", "every", "as_published", "source_weight")
"""Settings that change how many samples a loss puts through the encoder."""

Variation = tuple[tuple[str, Value], ...]
"""Settings with the values they take."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """An arm under one variation of the settings, of which only those are kept that matter."""

    arm: Arm
    settings: TransferSettings
    """Of its target."""
    source_settings: TransferSettings
    """Of its source: settings that do not matter there are as they were given."""
    label: str
    """``ARM+negatives=uniform+n_negatives=8``: its name in tables, and that of its directory."""
    source: str | None
    """``KIND+n_negatives=8``, likewise; None: it waits for no source."""


def known_settings(settings: TransferSettings, arms: Sequence[Arm]) -> dict[str, Any]:
    """What may vary: name → annotation of the flag; None where only the loss knows it."""
    flags = {key_of(name): kind for name, kind in annotations_of(type(settings)).items()}
    own = [*EVERYWHERE, *OF_FRAMES, *OF_MEMORY, "loss", *OF_JOINING, *LOSS_FLAGS]
    own += OF_REALIGNING if any(arm.realign is not None for arm in arms) else ()
    known = {name: flags[name] for name in own if name in flags}
    for arm in arms:
        for role in ("source", "target"):
            kind = _loss_class(arm.loss_on(role), settings)
            known |= {name: None for name in _parameters(kind) if name not in known}
    return known


def read_axes(
    given: Sequence[str], settings: TransferSettings, arms: Sequence[Arm]
) -> dict[str, tuple[Value, ...]]:
    """Setting → its values, from ``SETTING=V1,V2,…``.

    Raises:
        SettingsError: no such setting (with the nearest), no value, one twice or one that its
            flag would refuse. What the loss alone knows is checked when the loss is made.
    """
    known = known_settings(settings, arms)
    axes: dict[str, tuple[Value, ...]] = {}
    for each in given:
        name, equals, text = each.partition("=")
        name = name.strip().replace("-", "_").lstrip("_")
        if not equals:
            raise SettingsError(f"--vary {each}: expected SETTING=VALUE,VALUE, such as every=4,1")
        if name not in known:
            raise SettingsError(
                f"--vary {each}: no setting {name!r} can vary.{nearest(name, [*known])}"
            )
        if name in axes:
            raise SettingsError(f"--vary {each}: {name} varies already; give all its values once")
        values = tuple(_value(each, name, known[name], word) for word in text.split(","))
        if len({label_of(((name, value),)) for value in values}) < len(values):
            raise SettingsError(f"--vary {each}: the same value twice")
        axes[name] = values
    return axes


def _value(given: str, name: str, annotation: Any, word: str) -> Value:
    word = word.strip()
    try:
        value = parse_value(word) if annotation is None else read(annotation, word)
    except SettingsError as error:
        raise SettingsError(f"--vary {given}: {name} {word!r}: {error}") from None
    assert isinstance(value, int | float | str)
    return value


def label_of(variation: Variation) -> str:
    """``+negatives=uniform+n_negatives=8``; empty where nothing varies."""
    return "".join(f"+{name}={_word(value)}" for name, value in variation)


def _word(value: Value) -> str:
    text = str(value).lower() if isinstance(value, bool) else f"{value}"
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)


def variants_of(
    arm: Arm, settings: TransferSettings, axes: Mapping[str, tuple[Value, ...]]
) -> Iterator[Variant]:
    """The arm under every variation that makes a difference to it, each once.

    Arms that train with the run's loss are named after contrastive distillation; with another loss,
    their labels say which.
    """
    seen: set[str] = set()
    if settings.loss != ContrastiveDistillation.name and "loss" not in axes:
        axes = {"loss": (settings.loss,), **axes}
    for values in itertools.product(*axes.values()):
        whole = tuple(zip(axes, values, strict=True))
        tried = varied(settings, whole, arm)
        on_source = tuple(v for v in whole if matters(v[0], arm, "source", tried))
        on_target = tuple(v for v in whole if v in on_source or matters(v[0], arm, "target", tried))
        label = arm.name + label_of(on_target)
        if label not in seen:
            seen.add(label)
            kind = arm.waits_for
            yield Variant(
                arm=arm,
                settings=varied(settings, on_target, arm),
                source_settings=varied(settings, on_source, arm),
                label=label,
                source=None if kind is None else kind + label_of(on_source),
            )


def check_axes_are_used(axes: Mapping[str, tuple[Value, ...]], labels: Sequence[str]) -> None:
    """Refuse a setting that makes no difference to any arm.

    Raises:
        SettingsError: naming it.
    """
    for name in axes:
        if not any(part.startswith(f"{name}=") for label in labels for part in label.split("+")):
            raise SettingsError(f"--vary {name}=…: makes no difference to any of the arms chosen")


def varied(settings: TransferSettings, variation: Variation, arm: Arm) -> TransferSettings:
    """The settings of one arm under a variation.

    Settings of the loss that were given for the run are for the run's own loss: where the arm
    names another, that has its own, but for those that vary.
    """
    flags = {name.rstrip("_") for name in annotations_of(type(settings))}
    others = [format_setting(name, value) for name, value in variation if name not in flags]
    changes: dict[str, Any] = {name: value for name, value in variation if name in flags}
    named = {arm.source_loss, arm.target_loss} - {None, OWN}
    kept = [
        each for each in settings.loss_settings if each.partition("=")[0] not in dict(variation)
    ]
    if named:
        (name,) = named
        kept = []
        changes = {**dict.fromkeys(LOSS_FLAGS), **changes, "loss": name}
    own = [format_setting(name, value) for name, value in arm.loss_settings.items()]
    changes |= {"loss_settings": (*kept, *others, *own), "arms": (arm.name,)}
    return with_published_where_known(replace(settings, **changes))


def matters(name: str, arm: Arm, role: str, settings: TransferSettings) -> bool:
    """Whether a setting makes a difference to the arm's trainings of a role."""
    if role == "source" and (arm.waits_for is None or settings.from_ is not None):
        return False
    if name in EVERYWHERE:
        return True
    if name in OF_FRAMES:
        return OF_FRAMES[name] == role
    if name in OF_REALIGNING:
        fixed = arm.realign is None or name.removeprefix("realign_") in arm.realign
        return role == "target" and not fixed
    own = arm.loss_on(role)
    if arm.more_epochs:
        own = OWN if name in OF_PASSES else None
    kind = _loss_class(own, settings)
    if role == "source" and name in OF_TEACHER and kind is not None and kind.takes_teacher:
        return False
    if name in OF_MEMORY:
        return kind is not None or (role == "source" and arm.teacher is not None)
    if name == "loss":
        return own == OWN
    if name == "as_published":
        return getattr(kind, "published", None) is not None
    return kind is not None and (name in OF_JOINING or name in _parameters(kind))


def _loss_class(loss: str | None, settings: TransferSettings) -> type[AuxiliaryLoss] | None:
    """The class of an arm's loss on a role; None without a loss, and for an unknown one."""
    name = settings.loss if loss == OWN else loss
    return None if name is None else loss_named(name)


def _parameters(kind: type[AuxiliaryLoss] | None) -> tuple[str, ...]:
    """Settings of a loss, without those that come from a source."""
    if kind is None:
        return ()
    handed_over = ("teacher", "source_policy", "dynamics")
    return tuple(name for name in inspect.signature(kind).parameters if name not in handed_over)
