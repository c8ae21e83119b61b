"""A change of a model that is whole, or did not happen."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from stable_baselines3.common.base_class import BaseAlgorithm

_OF_NORMALISATION = ("training", "obs_rms", "ret_rms", "returns")


@contextmanager
def all_or_nothing(model: BaseAlgorithm) -> Iterator[None]:
    """Leave a model's weights and VecNormalize's statistics as they were if the block raises.

    Whatever happens, the next `learn()` resets the environments, which have moved on.
    """
    weights = {name: value.clone() for name, value in model.policy.state_dict().items()}
    normalised = model.get_vec_normalize_env()
    statistics = {
        name: copy.deepcopy(getattr(normalised, name))
        for name in _OF_NORMALISATION
        if hasattr(normalised, name)
    }
    try:
        yield
    except BaseException:
        model.policy.load_state_dict(weights)
        for name, value in statistics.items():
            setattr(normalised, name, value)
        raise
    finally:
        model._last_obs = None
