"""The arms of a transfer experiment, as data: to add one is to add an entry of the table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from contrastive_distillation.envs import UnknownNameError
from contrastive_distillation.losses import LOSSES, OBJECTIVES

from ..errors import SettingsError

Mode = Literal[
    "fine_tune", "frozen_encoder", "new_head", "lower_encoder_rate", "first_layers_only",
    "new_first_layers",
]  # fmt: skip
TeacherOf = Literal["source", "random"]

OWN = "own"
"""In an arm: the run's own loss, that of ``--loss``."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way from the sources to a target."""

    name: str
    line: str
    """What it is, for `list` and for tables."""
    source_kind: str | None
    """How its source is trained, as a name: arms of the same kind share a source; None: it starts
    from no source."""
    source_loss: str | None = None
    """Loss on the source: `OWN`, a name of `losses.LOSSES`, or None for none."""
    target_loss: str | None = None
    """Loss on the target, likewise."""
    teacher: TeacherOf | None = None
    """Whose encoder the loss on the target distils from, with the source's memory beside it: the
    source's, or one with random weights; None: the loss gets neither."""
    mode: Mode = "fine_tune"
    """What becomes of the source's weights on the target."""
    loss_settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the loss that differ from the run's."""
    unrelated: bool = False
    """Whether its source is the suite's unrelated environment."""
    more_epochs: bool = False
    """Whether it learns more often, so that its encoder sees as much as with the run's loss."""
    realign: Mapping[str, Any] | None = None
    """It realigns its encoder to the target's sensors before it learns, with these settings in
    place of the run's; its loss joins only where the sensors are the source's. None: it does
    not."""
    more_frames: bool = False
    """Whether it has its target's frames and, before them, those a plain source of its seed took.
    Its curve is over all of them; its area under the curve is over the last, the target's."""

    @property
    def waits_for(self) -> str | None:
        """Kind of source that must be trained before it; None: it waits for none."""
        return "plain" if self.more_frames else self.source_kind

    def loss_on(self, role: str) -> str | None:
        """`source_loss` or `target_loss`."""
        return self.source_loss if role == "source" else self.target_loss


def _acting_on_both(name: str, line: str) -> Arm:
    """A rival that needs no teacher: it acts on its own source and on the target."""
    return Arm(name=name, line=line, source_kind=name, source_loss=name, target_loss=name)


def _from_the_source(name: str, line: str, *, arm: str | None = None) -> Arm:
    """A loss that keeps what a plain source knew: it acts on the target alone.

    The arm has the loss's name, if `arm` is None.
    """
    return Arm(name=arm or name, line=line, source_kind="plain", target_loss=name, teacher="source")


def _realigned(name: str, line: str, **realign: Any) -> Arm:
    """An arm that realigns a plain source's encoder, then learns by reinforcement alone."""
    return Arm(name=name, line=line, source_kind="plain", realign=realign)


_ALL = (
    Arm(
        name="contrastive_distillation",
        line="the loss on the source and on the target",
        source_kind="with_loss",
        source_loss=OWN,
        target_loss=OWN,
        teacher="source",
    ),
    Arm(
        name="contrastive_source_only",
        line="the loss on the source; the target is fine-tuned plainly",
        source_kind="with_loss",
        source_loss=OWN,
    ),
    Arm(
        name="contrastive_target_only",
        line="a plain source; the loss on the target",
        source_kind="plain",
        target_loss=OWN,
        teacher="source",
    ),
    Arm(
        name="fine_tune",
        line="a plain source, all of it fine-tuned on the target",
        source_kind="plain",
    ),
    Arm(
        name="frozen_encoder",
        line="a plain source, its encoder frozen, a new head",
        source_kind="plain",
        mode="frozen_encoder",
    ),
    Arm(
        name="new_head",
        line="a plain source's encoder and a new head, all of it learns",
        source_kind="plain",
        mode="new_head",
    ),
    Arm(
        name="scratch",
        line="no source: the target alone",
        source_kind=None,
    ),
    Arm(
        name="scratch_source_budget",
        line="no source, but the frames of a plain one too; the last target frames count",
        source_kind=None,
        more_frames=True,
    ),
    Arm(
        name="random_encoder",
        line="no source: a frozen random encoder, a head that learns",
        source_kind=None,
        mode="frozen_encoder",
    ),
    Arm(
        name="random_teacher",
        line="as contrastive_distillation, but the teacher's weights are random",
        source_kind="with_loss",
        source_loss=OWN,
        target_loss=OWN,
        teacher="random",
    ),
    Arm(
        name="shuffled_values",
        line="as contrastive_distillation, but the loss sees returns permuted within tasks",
        source_kind="shuffled_values",
        source_loss=OWN,
        target_loss=OWN,
        teacher="source",
        loss_settings={"shuffled_values": True},
    ),
    Arm(
        name="equal_compute",
        line="no loss, but more epochs: as many samples (not seconds) as with it",
        source_kind="equal_compute",
        more_epochs=True,
    ),
    Arm(
        name="unrelated_source",
        line="a plain source of another kind of task, all of it fine-tuned",
        source_kind="unrelated",
        unrelated=True,
    ),
    _from_the_source(
        "latent_dynamics",
        "contrast through a plain source's latent dynamics while the target is learnt",
        arm="contrastive_distillation_online",
    ),
    _acting_on_both("curl", "CURL on source and target"),
    _acting_on_both("atc", "augmented temporal contrast on source and target"),
    _acting_on_both("spr", "self-predictive representations on source and target"),
    _acting_on_both("vicreg", "VICReg on source and target"),
    _acting_on_both("info_nce", "plain InfoNCE, in batch, on source and target"),
    _acting_on_both("value_contrast_positives", "value-matched pairs on source and target"),
    _from_the_source("crd", "contrastive representation distillation from a plain source"),
    _from_the_source("feature_matching", "the features of a plain source are matched"),
    _from_the_source("prototype_relation", "relations to prototypes, from a plain source"),
    _from_the_source("kickstarting", "the policy of a plain source is matched"),
    _from_the_source("qdagger", "the Q values of a plain source are matched"),
    _from_the_source("l2_sp", "weights are pulled to a plain source's"),
    _from_the_source("ewc", "elastic weight consolidation around a plain source"),
    _from_the_source("rehearsal", "episodes of a plain source are cloned from its memory"),
    _realigned(
        "contrastive_distillation_by_return",
        "as contrastive_distillation with other sensors; four finalists play, the best is kept",
        select="return",
    ),
    *(
        _realigned(f"realign_{each.name}", f"sensors realigned by {each.line}", objective=each.name)
        for each in OBJECTIVES.values()
    ),
    Arm(
        name="first_layer_fine_tune",
        line="a plain source, of which the layers that read the observation learn alone",
        source_kind="plain",
        mode="first_layers_only",
    ),
    Arm(
        name="first_layer_reinitialised",
        line="a plain source whose layers that read the observation begin at random",
        source_kind="plain",
        mode="new_first_layers",
    ),
)

WITH_OTHER_SENSORS = Arm(
    name="contrastive_distillation",
    line="a plain source, realigned without a reward where the sensors changed",
    source_kind="plain",
    target_loss=OWN,
    teacher="source",
    realign={},
)
"""What `contrastive_distillation` is in a sensor suite."""

ARMS: Mapping[str, Arm] = MappingProxyType({arm.name: arm for arm in _ALL})


def choose_arms(names: Sequence[str]) -> list[Arm]:
    """The arms by these names.

    Raises:
        ValueError: no name, an unknown one, or one twice.
    """
    if not names:
        raise SettingsError(f"--arms: name at least one of {', '.join(ARMS)}")
    for name in names:
        if name not in ARMS:
            raise UnknownNameError("arm", name, ARMS, hint=f"There are: {', '.join(ARMS)}.")
    if len(set(names)) != len(names):
        raise SettingsError(f"--arms {' '.join(names)}: the same arm twice; name each once")
    return [ARMS[name] for name in names]


def in_suite(arm: Arm, *, sensors: bool) -> Arm:
    """The arm as it is in a suite whose targets have other sensors than its sources, or have not.

    Raises:
        SettingsError: the arm makes no sense there.
    """
    if not sensors:
        if arm.realign is not None or arm.mode in ("first_layers_only", "new_first_layers"):
            raise SettingsError(
                f"--arms {arm.name}: is for targets with other sensors than their source's; choose "
                "--suite sensors, or a --target that is one of the sensor ids (see list)"
            )
        return arm
    if arm.name == WITH_OTHER_SENSORS.name:
        return WITH_OTHER_SENSORS
    taught = LOSSES.get(arm.target_loss or "")
    if taught is not None and taught.source_may_differ and arm.source_loss is None:
        return arm
    if arm.teacher is not None or arm.source_loss is not None:
        raise SettingsError(
            f"--arms {arm.name}: in a sensor suite every arm has the plain source, and a teacher "
            "that sees through the source's sensors has nothing to say of the target's "
            "observations; choose contrastive_distillation, contrastive_distillation_online, "
            "realign_…, fine_tune, scratch or the first-layer arms"
        )
    return arm


def arm_of(label: str) -> str:
    """The arm's name in a label such as ``fine_tune+n_envs=64``."""
    return label.partition("+")[0]


def is_part_of(label: str, other: str) -> bool:
    """Whether all that varies in one label varies alike in another, whatever their arms."""
    return set(label.split("+")[1:]) <= set(other.split("+")[1:])
