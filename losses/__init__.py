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
from .latent_dynamics import (
    InverseDynamics,
    LatentDynamics,
    action_vectors,
    latent_dynamics_losses,
    statistics_loss,
)
from .latent_dynamics_loss import LatentDynamicsLoss
from .later_pairs import as_vectors, draw_later_pairs
from .realignment import OBJECTIVES, Objective, WindowBatch, realignment_terms, weighted_sum
from .registry import LOSSES, loss_class, make_loss
from .source_dynamics import (
    DynamicsSettings,
    SourceDynamics,
    encode_all,
    fit_source_dynamics,
    usual_steps,
)

__all__ = [
    "ATC",
    "CRD",
    "CURL",
    "EWC",
    "L2SP",
    "LOSSES",
    "OBJECTIVES",
    "SPR",
    "ActsBy",
    "AuxiliaryLoss",
    "ContrastiveDistillation",
    "Deduplicated",
    "DynamicsSettings",
    "Encoder",
    "FeatureMatching",
    "InfoNCE",
    "InverseDynamics",
    "Joining",
    "Kickstarting",
    "LatentDynamics",
    "LatentDynamicsLoss",
    "Learner",
    "Objective",
    "PrototypeRelation",
    "QDagger",
    "Rehearsal",
    "SourceDynamics",
    "Teacher",
    "VICReg",
    "ValueContrastPositives",
    "WindowBatch",
    "action_vectors",
    "as_vectors",
    "draw_later_pairs",
    "encode_all",
    "fit_source_dynamics",
    "info_nce",
    "latent_dynamics_losses",
    "loss_class",
    "make_loss",
    "mutual_information",
    "realignment_terms",
    "statistics_loss",
    "usual_steps",
    "weighted_sum",
]
