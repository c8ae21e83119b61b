"""The negative samplers by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .nearest import NearestNegatives, ValueContrastNegatives
from .negatives import InBatchNegatives, NegativeSampler, UniformNegatives
from .prediction_error import PredictionErrorNegatives

NEGATIVES: Mapping[str, type[NegativeSampler]] = MappingProxyType(
    {
        sampler.name: sampler
        for sampler in (
            InBatchNegatives,
            UniformNegatives,
            NearestNegatives,
            ValueContrastNegatives,
            PredictionErrorNegatives,
        )
    }
)
"""Samplers by name."""


def make_negatives(sampler: str | NegativeSampler, **settings: Any) -> NegativeSampler:
    """The sampler called `sampler`, or `sampler` itself.

    Args:
        sampler: a name of `NEGATIVES`, or a sampler.
        settings: for its constructor, where that knows them; a sampler has its own.

    Raises:
        ValueError: an unknown name (with the nearest), or a setting outside its range.
    """
    if isinstance(sampler, NegativeSampler):
        return sampler
    if sampler not in NEGATIVES:
        nearest = difflib.get_close_matches(sampler, NEGATIVES, n=3, cutoff=0.0)
        raise ValueError(f"unknown negatives '{sampler}'. Nearest: {', '.join(nearest)}")
    known = inspect.signature(NEGATIVES[sampler]).parameters
    return NEGATIVES[sampler](**{key: value for key, value in settings.items() if key in known})
