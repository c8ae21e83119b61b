"""The encoder of a model as one callable, from raw observations to features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector.utils import create_empty_array
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor, nn

from .module_copy import copy_module
from .policies import features_of_distinct, preprocessed

Observations = np.ndarray | dict[str, np.ndarray]
Normalise = Callable[[Any], Any]

_PLAIN_SPACES = (
    gym.spaces.Box,
    gym.spaces.Discrete,
    gym.spaces.MultiDiscrete,
    gym.spaces.MultiBinary,
)


class ObservationEncoder(nn.Module):
    """Encoder f: raw observations (numpy, as memory keeps them) to features (B, n_features).

    A chain of modules (`stages`), preceded by what Stable-Baselines3 does before its feature
    extractor (VecNormalize statistics, scaling of pictures, one-hot of discrete values).

    Args:
        stages: modules applied one after the other; the first takes preprocessed observations.
        observation_space: the space the policy was built for.
        normalize_images: as in the policy (pictures to [0, 1]).
        normalise: applied to the raw observations first (VecNormalize), or None.
        n_features: width of the features; None measures it.

    Raises:
        ValueError: the stages do not turn observations of the space into (B, n_features).
    """

    def __init__(
        self,
        *,
        stages: list[nn.Module],
        observation_space: gym.Space,  # type: ignore[type-arg]
        normalize_images: bool,
        normalise: Normalise | None = None,
        n_features: int | None = None,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.observation_space = observation_space
        self.normalize_images = normalize_images
        self.normalise = normalise
        self._one_parameter: list[nn.Parameter] = []  # in a list: it is registered already
        self.n_features = self._measured_width() if n_features is None else n_features

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        if not self._one_parameter:  # looked up once: walking through the modules takes longer
            self._one_parameter = [next(self.parameters())]
        return self._one_parameter[0].device

    def forward(self, observations: Observations) -> Tensor:
        """Features (B, n_features), float32, of B raw observations."""
        if self.normalise is not None:
            observations = self.normalise(observations)
        return self._through(self.stages, observations)

    def prepared(self, observations: Observations) -> Any:
        """Raw observations as the first stage takes them: normalised, and preprocessed."""
        if self.normalise is not None:
            observations = self.normalise(observations)
        raw: Any = obs_as_tensor(observations, self.device)
        return preprocessed(self, raw)

    def _through(self, stages: Iterable[nn.Module], observations: Observations) -> Tensor:
        """Features of observations that are normalised already."""
        first, *others = stages
        raw: Any = obs_as_tensor(observations, self.device)
        found = features_of_distinct(self, first, raw)
        if found is None:
            features = first(preprocessed(self, raw))
        else:
            features = found[0].index_select(0, found[1])
        for stage in others:
            features = stage(features)
        return features  # type: ignore[no-any-return]

    def frozen_copy(self) -> ObservationEncoder:
        """A copy that computes the same features, without gradients, see `copy_module`.

        Raises:
            ValueError: a stage cannot be copied exactly.
        """
        frozen = ObservationEncoder(
            stages=list(copy_module(self.stages)),
            observation_space=self.observation_space,
            normalize_images=self.normalize_images,
            normalise=self.normalise,
            n_features=self.n_features,
        )
        return frozen.requires_grad_(False)

    @torch.no_grad()
    def _measured_width(self) -> int:
        """Width of the features of two blank observations; nothing of the stages changes."""
        names = " → ".join(type(stage).__name__ for stage in self.stages)
        with evaluated(self.stages), forked_generators(self.device):
            try:
                features = self._through(self.stages, blank_observations(self.observation_space, 2))
            except Exception as error:
                raise ValueError(
                    f"{names} cannot be run on observations of {self.observation_space} "
                    f"({type(error).__name__}: {str(error).splitlines()[0][:120]}); name a "
                    "features extractor, or a trunk that directly follows one, as the encoder"
                ) from error
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features)
            raise ValueError(
                f"{names} turns 2 observations into {found}; an encoder gives features of shape "
                "(2, n_features): name a features extractor as the encoder"
            )
        return features.shape[1]


def blank_observations(space: gym.Space[Any], n: int) -> Observations:
    """n observations of a space, all zero: (n, ...) or a dict of such.

    Raises:
        ValueError: the space is not a Box, Discrete, MultiDiscrete, MultiBinary or a Dict of them.
    """
    parts = space.spaces.values() if isinstance(space, gym.spaces.Dict) else [space]
    if not all(isinstance(part, _PLAIN_SPACES) for part in parts):
        raise ValueError(
            f"observations of {space} cannot be remembered; expected a Box, Discrete, "
            "MultiDiscrete or MultiBinary space, or a Dict of them (not nested): flatten it with "
            "gymnasium.wrappers.FlattenObservation"
        )
    return create_empty_array(space, n, fn=np.zeros)  # type: ignore[return-value]


@contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode; at the end its attributes and buffers are as before."""
    before = [(m, dict(vars(m)), list(m.named_buffers(recurse=False))) for m in module.modules()]
    values = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        for m, _, _ in before:
            m.training = False  # eval() may be overridden, and do more
        yield
    finally:
        for m, attributes, buffers in before:
            for name in vars(m).keys() - attributes.keys():
                delattr(m, name)
            vars(m).update(attributes)
            m._buffers.update(buffers)
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)


def forked_generators(device: torch.device) -> AbstractContextManager[None]:
    """Restore torch's global generators, those of the CPU and of a GPU `device`, at the end."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
