"""The arms of a transfer experiment, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Mode = Literal["fine_tune", "frozen_encoder", "new_head", "lower_encoder_rate"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way from the sources to a target."""

    name: str
    line: str
    """What it is, for `list` and for tables."""
    source_loss: bool | None
    """Whether the source is trained with the loss; None: there is no source."""
    target_loss: bool
    """Whether the target is trained with the loss."""
    teacher: bool = False
    """Whether the loss on the target also distils from the frozen source encoder."""
    mode: Mode = "fine_tune"
    """What becomes of the source's weights on the target."""

    @property
    def source_kind(self) -> str | None:
        """``with_loss`` or ``plain``: arms of the same kind share a source; None: no source."""
        if self.source_loss is None:
            return None
        return "with_loss" if self.source_loss else "plain"


_ALL = (
    Arm(
        name="contrastive_distillation",
        line="the loss on the source and on the target",
        source_loss=True,
        target_loss=True,
        teacher=True,
    ),
    Arm(
        name="contrastive_source_only",
        line="the loss on the source; the target is fine-tuned plainly",
        source_loss=True,
        target_loss=False,
    ),
    Arm(
        name="contrastive_target_only",
        line="a plain source; the loss on the target",
        source_loss=False,
        target_loss=True,
        teacher=True,
    ),
    Arm(
        name="fine_tune",
        line="a plain source, all of it fine-tuned on the target",
        source_loss=False,
        target_loss=False,
    ),
    Arm(
        name="frozen_encoder",
        line="a plain source, its encoder frozen, a new head",
        source_loss=False,
        target_loss=False,
        mode="frozen_encoder",
    ),
    Arm(
        name="scratch",
        line="no source: the target alone",
        source_loss=None,
        target_loss=False,
    ),
)

ARMS: Mapping[str, Arm] = MappingProxyType({arm.name: arm for arm in _ALL})
