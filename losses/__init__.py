"""What regularises the agent's encoder: pure functions, and auxiliary losses made of them."""

from .auxiliary import AuxiliaryLoss, AveragedEncoder, Encoder, Learner, Teacher
from .contrastive_batch import ContrastiveBatch, SourceBatch, TargetBatch
from .contrastive_distillation import ContrastiveDistillation
from .info_nce import info_nce
from .probe import InformationBound, LaterPairs, as_vectors, draw_later_pairs, mutual_information
from .registry import LOSSES, loss_class, make_loss
from .settings import LossSettings

__all__ = [
    "LOSSES",
    "AuxiliaryLoss",
    "AveragedEncoder",
    "ContrastiveBatch",
    "ContrastiveDistillation",
    "Encoder",
    "InformationBound",
    "LaterPairs",
    "Learner",
    "LossSettings",
    "SourceBatch",
    "TargetBatch",
    "Teacher",
    "as_vectors",
    "draw_later_pairs",
    "info_nce",
    "loss_class",
    "make_loss",
    "mutual_information",
]
