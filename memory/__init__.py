"""What the agent remembers: episodes, the rows a loss draws from them, and their masks."""

from .base import Memory
from .episodic import MEMORIES, EpisodicMemory, ReplayMemory
from .masks import negative_mask
from .negatives import (
    NEGATIVES,
    InBatchNegatives,
    NegativeSampler,
    Pool,
    UniformNegatives,
    make_negatives,
)
from .observations import Observations, concatenate, hash_observations, n_observations, take
from .positives import draw_positives
from .returns import returns_to_go
from .rows import MemoryBatch, RowInfo

__all__ = [
    "MEMORIES",
    "NEGATIVES",
    "EpisodicMemory",
    "InBatchNegatives",
    "Memory",
    "MemoryBatch",
    "NegativeSampler",
    "Observations",
    "Pool",
    "ReplayMemory",
    "RowInfo",
    "UniformNegatives",
    "concatenate",
    "draw_positives",
    "hash_observations",
    "make_negatives",
    "n_observations",
    "negative_mask",
    "returns_to_go",
    "take",
]
