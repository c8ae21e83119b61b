"""Encoders of pictures and vectors: feature extractors for any SB3 policy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import gymnasium as gym
import torch
import torch.nn.functional as F
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from .distinct_rows import confirmed_distinct_rows

SMALLEST_PICTURE = 36
"""Rows and columns that the convolutions need."""


class PictureEncoder(BaseFeaturesExtractor):
    """Encodes pictures (C, H, W) in [0, 1]: three convolutions and one linear layer.

    The layout is that of the Nature DQN network (Mnih et al. 2015) with narrower output. With
    `encode_distinct` each distinct picture of a batch is encoded once, as pictures of grids repeat:
    outputs and gradients equal those of the plain path to rounding. Where fewer than a tenth
    repeat, the batch is encoded as it is.

    Raises:
        ValueError: the picture is smaller than 36×36.
    """

    def __init__(
        self,
        observation_space: gym.spaces.Box,
        *,
        features_dim: int = 128,
        encode_distinct: bool = True,
    ) -> None:
        super().__init__(observation_space, features_dim)
        n_channels, height, width = observation_space.shape
        if min(height, width) < SMALLEST_PICTURE:
            raise ValueError(f"a picture of {height}×{width} is too small; 36×36 is the smallest")
        self.encode_distinct = encode_distinct
        self.convolutions = nn.Sequential(
            nn.Conv2d(n_channels, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            n_flat = self.convolutions(torch.zeros(1, n_channels, height, width)).shape[1]
        self.linear = nn.Sequential(nn.Linear(n_flat, features_dim), nn.ReLU())

    def forward(self, observations: Tensor, *, distinct: bool = False) -> Tensor:
        """Features (B, features_dim) of pictures (B, C, H, W), float32.

        `distinct`: the pictures are known to differ, so the search for duplicates is skipped.
        """
        found = None
        if self.encode_distinct and not distinct and len(observations) > 1:
            found = confirmed_distinct_rows(_bits(observations))
        if found is None:
            return self._encode(observations)
        representatives, inverse = found
        return F.embedding(inverse, self._encode(observations.index_select(0, representatives)))

    def _encode(self, pictures: Tensor) -> Tensor:
        return self.linear(self.convolutions(pictures))  # type: ignore[no-any-return]


def _bits(pictures: Tensor) -> Tensor:
    """(B, W) int64: the pictures' bits, a number of at most 32 bits each for float32."""
    flat = pictures.flatten(1).contiguous()
    return flat.view(torch.int64 if flat.element_size() == 8 else torch.int32).long()


class VectorEncoder(BaseFeaturesExtractor):
    """Encodes vectors (D,), or a Dict of them one after the other, with ReLU layers."""

    def __init__(
        self,
        observation_space: gym.Space,  # type: ignore[type-arg]
        *,
        features_dim: int = 128,
        hidden_dims: Sequence[int] = (128,),
    ) -> None:
        super().__init__(observation_space, features_dim)
        widths = [gym.spaces.flatdim(observation_space), *hidden_dims, features_dim]
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in itertools.pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, observations: Tensor | dict[str, Tensor]) -> Tensor:
        """Features (B, features_dim) of vectors (B, D), float32."""
        if isinstance(observations, dict):
            parts = [observations[key].flatten(1) for key in sorted(observations)]
            observations = torch.cat(parts, dim=1)
        return self.layers(observations)  # type: ignore[no-any-return]
