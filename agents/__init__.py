"""Who acts and learns: agents, encoders, teachers, and callbacks beside them."""

from .advantage_floor import AdvantageFloor
from .builders import (
    AGENTS,
    SUMMARIES,
    build_agent,
    default_callbacks,
    default_n_envs,
    default_weight,
    observation_kind,
    resolve_device,
)
from .callback import AuxiliaryLossCallback
from .diagnostics import EncoderDiagnostics
from .encoder_lookup import find_encoder
from .encoders import PictureEncoder, VectorEncoder
from .finite_gradients import FiniteGradients
from .first_layers import FirstLayersOnly, reinitialise_first_layers
from .frozen_policy import FrozenPolicy
from .grid_encoder import GridEncoder
from .matched_passes import MatchedPasses
from .module_copy import copy_module
from .observation_encoder import ObservationEncoder
from .realignment.gathering import gather_memory
from .realignment.realign import realign
from .realignment.report import RealignReport, RestartResult
from .realignment.source import SourceAgent, encoder_sha256, fit_dynamics
from .record_memory import RecordMemory
from .schedules import WeightSchedule
from .teachers import FrozenTeacher
from .update_frequency import default_every, default_n_anchors
from .weights import (
    TRANSFER_MODES,
    EncoderRate,
    carry_weights,
    policy_sha256,
    random_weights,
    read_weights,
)

__all__ = [
    "AGENTS",
    "SUMMARIES",
    "TRANSFER_MODES",
    "AdvantageFloor",
    "AuxiliaryLossCallback",
    "EncoderDiagnostics",
    "EncoderRate",
    "FiniteGradients",
    "FirstLayersOnly",
    "FrozenPolicy",
    "FrozenTeacher",
    "GridEncoder",
    "MatchedPasses",
    "ObservationEncoder",
    "PictureEncoder",
    "RealignReport",
    "RecordMemory",
    "RestartResult",
    "SourceAgent",
    "VectorEncoder",
    "WeightSchedule",
    "build_agent",
    "carry_weights",
    "copy_module",
    "default_callbacks",
    "default_every",
    "default_n_anchors",
    "default_n_envs",
    "default_weight",
    "encoder_sha256",
    "find_encoder",
    "fit_dynamics",
    "gather_memory",
    "observation_kind",
    "policy_sha256",
    "random_weights",
    "read_weights",
    "realign",
    "reinitialise_first_layers",
    "resolve_device",
]
