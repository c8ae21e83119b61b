"""The episodic memory, its eviction policies, and the samplers of positives and negatives."""

from .base import Memory
from .episodic import MEMORIES, EpisodicMemory, ReplayMemory
from .eviction import (
    EVICTIONS,
    EvictionPolicy,
    FinishedEpisodes,
    PerTaskEviction,
    ReservoirEviction,
    ValueStratifiedEviction,
    make_eviction,
)
from .key_table import KeyTable
from .masks import negative_mask
from .names import nearest_names
from .nearest import NearestNegatives
from .negatives import (
    InBatchNegatives,
    Insight,
    NegativeSampler,
    Pool,
    UniformNegatives,
    check_pool,
)
from .observations import Observations, concatenate, hash_observations, n_observations, take
from .packing import pack, unpack
from .positives import POSITIVES, draw_positives, draw_value_matched
from .prediction_error import PredictionErrorNegatives
from .returns import returns_to_go
from .rows import MemoryBatch, RowInfo
from .samplers import NEGATIVES, make_negatives
from .shuffled_returns import with_shuffled_returns
from .storage import replace_file
from .trajectories import RANDOM_ACTIONS, Trajectories
from .value_contrast import ValueContrastNegatives

__all__ = [
    "EVICTIONS",
    "MEMORIES",
    "NEGATIVES",
    "POSITIVES",
    "RANDOM_ACTIONS",
    "EpisodicMemory",
    "EvictionPolicy",
    "FinishedEpisodes",
    "InBatchNegatives",
    "Insight",
    "KeyTable",
    "Memory",
    "MemoryBatch",
    "NearestNegatives",
    "NegativeSampler",
    "Observations",
    "PerTaskEviction",
    "Pool",
    "PredictionErrorNegatives",
    "ReplayMemory",
    "ReservoirEviction",
    "RowInfo",
    "Trajectories",
    "UniformNegatives",
    "ValueContrastNegatives",
    "ValueStratifiedEviction",
    "check_pool",
    "concatenate",
    "draw_positives",
    "draw_value_matched",
    "hash_observations",
    "make_eviction",
    "make_negatives",
    "n_observations",
    "nearest_names",
    "negative_mask",
    "pack",
    "replace_file",
    "returns_to_go",
    "take",
    "unpack",
    "with_shuffled_returns",
]
