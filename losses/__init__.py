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
from .info_nce import info_nce
from .kickstarting import Kickstarting
from .probe import InformationBound, LaterPairs, as_vectors, draw_later_pairs, mutual_information
from .registry import LOSSES, make_loss
from .settings import LossSettings

__all__ = [
    "ATC",
    "LOSSES",
    "ActsBy",
    "AuxiliaryLoss",
    "AveragedEncoder",
    "ContrastiveBatch",
    "ContrastiveDistillation",
    "Encoder",
    "InformationBound",
    "Joining",
    "Kickstarting",
    "LaterPairs",
    "Learner",
    "LossSettings",
    "SourceBatch",
    "SourcePolicy",
    "TargetBatch",
    "Teacher",
    "as_vectors",
    "draw_later_pairs",
    "info_nce",
    "make_loss",
    "mutual_information",
]
