"""Auxiliary losses on the agent's encoder, and the pure functions that they use."""

from .auxiliary import (
    ActsBy,
    AuxiliaryLoss,
    Encoder,
    Joining,
    Learner,
    Teacher,
)
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
from .info_nce import info_nce
from .information import Deduplicated, mutual_information
from .later_pairs import as_vectors, draw_later_pairs
from .registry import LOSSES, loss_class, make_loss

__all__ = [
    "ATC",
    "CRD",
    "CURL",
    "EWC",
    "L2SP",
    "LOSSES",
    "SPR",
    "ActsBy",
    "AuxiliaryLoss",
    "ContrastiveDistillation",
    "Deduplicated",
    "Encoder",
    "FeatureMatching",
    "InfoNCE",
    "Joining",
    "Kickstarting",
    "Learner",
    "PrototypeRelation",
    "QDagger",
    "Rehearsal",
    "Teacher",
    "VICReg",
    "ValueContrastPositives",
    "as_vectors",
    "draw_later_pairs",
    "info_nce",
    "loss_class",
    "make_loss",
    "mutual_information",
]
