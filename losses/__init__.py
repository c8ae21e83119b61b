"""What regularises the agent's encoder: pure functions, and auxiliary losses made of them."""

from .atc import ATC
from .auxiliary import (
    ActsBy,
    AuxiliaryLoss,
    AveragedEncoder,
    Encoder,
    Joining,
    Learner,
    SourcePolicy,
    Teacher,
)
from .contrastive_batch import ContrastiveBatch, SourceBatch, TargetBatch
from .contrastive_distillation import ContrastiveDistillation
from .crd import CRD
from .curl import CURL
from .ewc import EWC
from .feature_matching import FeatureMatching
from .info_nce import info_nce
from .kickstarting import Kickstarting
from .l2_sp import L2SP
from .plain_info_nce import InfoNCE
from .probe import (
    InformationBound,
    LaterPairs,
    Repeated,
    as_vectors,
    draw_later_pairs,
    mutual_information,
)
from .prototype_relation import PrototypeRelation
from .qdagger import QDagger
from .registry import LOSSES, loss_class, make_loss
from .rehearsal import Rehearsal
from .settings import LossSettings
from .spr import SPR
from .value_contrast_positives import ValueContrastPositives
from .vicreg import VICReg

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
    "AveragedEncoder",
    "ContrastiveBatch",
    "ContrastiveDistillation",
    "Encoder",
    "FeatureMatching",
    "InfoNCE",
    "InformationBound",
    "Joining",
    "Kickstarting",
    "LaterPairs",
    "Learner",
    "LossSettings",
    "PrototypeRelation",
    "QDagger",
    "Rehearsal",
    "Repeated",
    "SourceBatch",
    "SourcePolicy",
    "TargetBatch",
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
