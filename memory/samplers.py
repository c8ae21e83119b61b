"""The negative samplers by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .names import nearest_names
from .nearest import NearestNegatives
from .negatives import InBatchNegatives, NegativeSampler, UniformNegatives
from .prediction_error import PredictionErrorNegatives
from .value_contrast import ValueContrastNegatives

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
        settings: for its constructor, where it is among those that know them; a sampler given as
            an object has its own.

    Raises:
        ValueError: an unknown name (with the nearest), a setting that no sampler knows, or one
            outside its range.
    """
    if isinstance(sampler, NegativeSampler):
        return sampler
    if not isinstance(sampler, str):
        raise ValueError(
            f"negatives is {sampler!r}; expected a name, or an object of a NegativeSampler class"
        )
    if sampler not in NEGATIVES:
        raise ValueError(f"unknown negatives '{sampler}'. {nearest_names(sampler, NEGATIVES)}")
    known = {name: inspect.signature(kind).parameters for name, kind in NEGATIVES.items()}
    for key in settings:
        if not any(key in parameters for parameters in known.values()):
            raise ValueError(f"no sampler of negatives has a setting '{key}'")
    own = {key: value for key, value in settings.items() if key in known[sampler]}
    return NEGATIVES[sampler](**own)
