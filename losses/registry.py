"""Losses by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from contrastive_distillation.memory import nearest_names

from .auxiliary import AuxiliaryLoss
from .baselines.atc import ATC
from .baselines.crd import CRD
from .baselines.curl import CURL
from .baselines.ewc import EWC
from .baselines.feature_matching import FeatureMatching
from .baselines.kickstarting import Kickstarting
from .baselines.l2_sp import L2SP
from .baselines.plain_info_nce import InfoNCE
from .baselines.prototype_relation import PrototypeRelation
from .baselines.qdagger import QDagger
from .baselines.rehearsal import Rehearsal
from .baselines.spr import SPR
from .baselines.value_contrast_positives import ValueContrastPositives
from .baselines.vicreg import VICReg
from .contrastive_distillation import ContrastiveDistillation
from .latent_dynamics_loss import LatentDynamicsLoss

_ALL: tuple[type[AuxiliaryLoss], ...] = (
    ContrastiveDistillation,
    LatentDynamicsLoss,
    CURL,
    ATC,
    SPR,
    VICReg,
    CRD,
    InfoNCE,
    FeatureMatching,
    Kickstarting,
    QDagger,
    L2SP,
    EWC,
    Rehearsal,
    ValueContrastPositives,
    PrototypeRelation,
)

LOSSES: Mapping[str, type[AuxiliaryLoss]] = MappingProxyType({loss.name: loss for loss in _ALL})
"""The losses of the package: contrastive distillation and latent dynamics first, then rivals."""


def make_loss(name: str, **settings: Any) -> AuxiliaryLoss:
    """Create a loss.

    Args:
        name: a name in `LOSSES`, or `"package.module:Class"` for a class of your own.
        settings: keyword arguments of its constructor.

    Raises:
        ValueError: the loss, module, class or setting is unknown; the text names the nearest.
    """
    loss = loss_class(name)
    known = inspect.signature(loss).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        for setting in settings:
            if setting not in known:
                raise ValueError(
                    f"loss '{name}' has no setting '{setting}'. {nearest_names(setting, known)}"
                )
    return loss(**settings)


def loss_class(name: str) -> type[AuxiliaryLoss]:
    """The class of a loss, by the name that `make_loss` takes; ValueError as there."""
    loss = _own_loss(name) if ":" in name else LOSSES.get(name)
    if loss is None:
        raise ValueError(f"unknown loss '{name}'. {nearest_names(name, LOSSES)} (or module:Class)")
    return loss


def _own_loss(path: str) -> type[AuxiliaryLoss]:
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything
        raise ValueError(f"loss '{path}': cannot import module '{module_name}': {error}") from error
    loss = getattr(module, class_name, None)
    if not (isinstance(loss, type) and issubclass(loss, AuxiliaryLoss)):
        losses = [n for n, v in vars(module).items() if isinstance(v, type)]
        raise ValueError(
            f"loss '{path}': '{class_name}' is not a subclass of AuxiliaryLoss in '{module_name}'. "
            f"{nearest_names(class_name, losses)}"
        )
    return loss
