"""Encoders: feature extractors for grids, pictures and vectors, for any SB3 policy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import gymnasium as gym
import torch
import torch.nn.functional as F
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from .distinct import distinct_rows

N_CELL_VALUES = 11
"""Values of one MiniGrid cell channel: object types reach 10, colours 5, states 3."""

EMBEDDING_STD = 0.1
"""Of the initial embeddings. With 1, the value function of a fresh agent is loud noise where
rewards are rare, and PPO follows it: DoorKey-5x5 was not learnt in 150k frames; with 0.3 on 2 of 3
seeds, with 0.1 on 3 of 3 within 90k."""


class GridEncoder(BaseFeaturesExtractor):
    """Encodes MiniGrid's partial view: cell embeddings, three 2×2 convolutions, one linear layer.

    Expects a `Dict` space with `image` (H, W, 3) of (type, colour, state) identifiers,
    `direction` (1,) and, optionally, `mission` (L,) tokens with 0 as padding; the values arrive
    as float32 from Stable-Baselines3's preprocessing and are used as indices.

    A cell is the sum of the embeddings of its type, colour and state.
    Each distinct observation of a batch is encoded once (`encode_distinct`): MiniGrid's views
    repeat, so a minibatch of 1,024 holds only 12-57 % distinct ones. Outputs and gradients equal
    those of the plain path to rounding.

    Raises:
        ValueError: the space lacks `image` or `direction`, or the view is smaller than 5×5.
    """

    channel_offsets: Tensor

    def __init__(
        self,
        observation_space: gym.spaces.Dict,
        *,
        features_dim: int = 128,
        embedding_dim: int = 16,
        encode_distinct: bool = True,
    ) -> None:
        super().__init__(observation_space, features_dim)
        missing = {"image", "direction"} - set(observation_space.spaces)
        if missing:
            raise ValueError(
                f"GridEncoder needs the keys 'image' and 'direction', missing {sorted(missing)} "
                f"in {sorted(observation_space.spaces)}; for other Dict spaces use "
                "Stable-Baselines3's CombinedExtractor"
            )
        height, width, n_channels = observation_space["image"].shape  # type: ignore[misc]
        if min(height, width) < 5:
            raise ValueError(f"a grid view of {height}×{width} is too small; 5×5 is the smallest")
        self.encode_distinct = encode_distinct
        self.cells = nn.Embedding(N_CELL_VALUES * n_channels, embedding_dim)
        self.convolutions = nn.Sequential(
            nn.Conv2d(embedding_dim, 16, 2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.directions = nn.Embedding(4, embedding_dim)
        with torch.no_grad():
            view = torch.zeros(1, embedding_dim, height, width)
            n_flat = self.convolutions(view).shape[1] + embedding_dim
        self.words: nn.EmbeddingBag | None = None
        if "mission" in observation_space.spaces:
            n_words = int(observation_space["mission"].high.max()) + 1  # type: ignore[attr-defined]
            self.words = nn.EmbeddingBag(n_words, embedding_dim, mode="mean", padding_idx=0)
            n_flat += embedding_dim
        self.linear = nn.Sequential(nn.Linear(n_flat, features_dim), nn.ReLU())
        for table in (self.cells, self.directions, self.words):
            if table is not None:
                nn.init.normal_(table.weight, std=EMBEDDING_STD)
        offsets = N_CELL_VALUES * torch.arange(n_channels)
        self.register_buffer("channel_offsets", offsets, persistent=False)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Features (B, features_dim) of a batch of observations."""
        n_rows = len(observations["image"])
        parts = [observations["image"], observations["direction"]]
        if self.words is not None:
            parts.append(observations["mission"])
        codes = torch.cat([part.reshape(n_rows, -1) for part in parts], dim=1).long()
        if not self.encode_distinct or n_rows < 2:
            return self._encode(codes)
        representatives, inverse = distinct_rows(codes)
        return self._encode(codes[representatives])[inverse]

    def _encode(self, codes: Tensor) -> Tensor:
        """Features (B, features_dim) of int64 codes (B, H·W·3 + 1 [+ L])."""
        height, width, n_channels = self._observation_space["image"].shape  # type: ignore[index]
        n_rows, n_cells = len(codes), height * width
        image = codes[:, : n_cells * n_channels].reshape(-1, n_channels)
        values = self.cells.weight.new_zeros(len(image), len(self.cells.weight))
        values.scatter_(1, image + self.channel_offsets, 1.0)
        values = values.view(n_rows, height, width, -1).permute(0, 3, 1, 2)
        features = [self.convolutions[1:](self._first_convolution(values))]
        features.append(self.directions(codes[:, n_cells * n_channels]))
        if self.words is not None:
            features.append(self.words(codes[:, n_cells * n_channels + 1 :]))
        return self.linear(torch.cat(features, dim=1))  # type: ignore[no-any-return]

    def _first_convolution(self, values: Tensor) -> Tensor:
        """The convolution of the summed embeddings of (B, V, H, W) multi-hot cells.

        Both are linear, so their weights are joined first: the same to rounding, and no gradient
        has to reach single cells. Forward and backward take about half the time of an embedding
        followed by a convolution.
        """
        first = self.convolutions[0]
        assert isinstance(first, nn.Conv2d)
        weight = torch.einsum("ve,oehw->ovhw", self.cells.weight, first.weight)
        return F.conv2d(values, weight, first.bias)


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
