"""Encoders of pictures and vectors: feature extractors for any SB3 policy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import gymnasium as gym
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn


class PictureEncoder(BaseFeaturesExtractor):
    """Encodes pictures (C, H, W) in [0, 1]: three convolutions and one linear layer.

    The layout is that of the Nature DQN network (Mnih et al. 2015) with narrower output.

    Raises:
        ValueError: the picture is smaller than 36×36.
    """

    def __init__(self, observation_space: gym.spaces.Box, *, features_dim: int = 128) -> None:
        super().__init__(observation_space, features_dim)
        n_channels, height, width = observation_space.shape
        if min(height, width) < 36:
            raise ValueError(f"a picture of {height}×{width} is too small; 36×36 is the smallest")
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

    def forward(self, observations: Tensor) -> Tensor:
        """Features (B, features_dim) of pictures (B, C, H, W), float32."""
        return self.linear(self.convolutions(observations))  # type: ignore[no-any-return]


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
