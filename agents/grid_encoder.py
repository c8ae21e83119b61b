"""`GridEncoder`: features of MiniGrid's views, each distinct view and 3×3 patch encoded once."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from .distinct_rows import distinct_rows

N_CELL_VALUES = 11
"""Values of one MiniGrid cell channel: object types reach 10, colours 5, states 3."""

N_CELL_CHANNELS = 3
"""Type, colour and state."""

SMALLEST_VIEW = 7
"""Rows and columns that the convolutions need. Smaller views are padded; so are even numbers, of
which the pooling would leave out the last."""

EMBEDDING_STD = 0.1
"""Of the initial embeddings. With 1, the value function of a fresh agent is loud noise where
rewards are rare, and PPO follows it: DoorKey-5x5 was not learnt in 150k frames; with 0.3 on 2 of 3
seeds, with 0.1 on 3 of 3 within 90k."""


class GridEncoder(BaseFeaturesExtractor):
    """Encodes MiniGrid's partial view: cell embeddings, three 2×2 convolutions, one linear layer.

    Expects a `Dict` space with `image` (H, W, 3) of (type, colour, state) identifiers up to 10
    and, optionally, `direction` (1,) up to 3 and `mission` (L,) tokens with 0 as padding, all of
    whole numbers; they arrive as float32 from Stable-Baselines3's preprocessing and are used as
    indices. Views are padded with 0 ("unseen") to odd numbers of rows and columns, at least 7.

    A cell is the sum of the embeddings of its type, colour and state. With `encode_distinct`
    each distinct observation of a batch is encoded once (MiniGrid's views repeat, so a minibatch
    of 1,024 holds only 10-57 % distinct ones), and in those each distinct 3×3 patch goes through
    the first convolution and its pooling once (patches of empty floor and walls repeat still
    more: about a sixth of them are distinct). Outputs and gradients equal those of the plain path
    to rounding.

    Raises:
        ValueError: the space is another one; see `why_not_a_grid`.
    """

    first_layers = ("cells", "directions", "convolutions.0")
    """The layers that read the observation, as far as a change of the sensors concerns them."""
    restart_layers = ("cells",)
    """Those of them that the restarts of a realignment permute."""

    cell_values: Tensor
    """(n_cells, 3·11) float: the multi-hot (type, colour, state) of each possible cell."""

    def __init__(
        self,
        observation_space: gym.spaces.Dict,
        *,
        features_dim: int = 128,
        embedding_dim: int = 16,
        encode_distinct: bool = True,
    ) -> None:
        super().__init__(observation_space, features_dim)
        refusal = why_not_a_grid(observation_space)
        if refusal is not None:
            raise ValueError(
                f"GridEncoder reads MiniGrid's observations, but {refusal}: make the environment "
                "with contrastive_distillation.envs.make_vec, or use Stable-Baselines3's "
                "CombinedExtractor"
            )
        rows, columns, n_channels = observation_space["image"].shape  # type: ignore[misc]
        height, width = (max(n, SMALLEST_VIEW) // 2 * 2 + 1 for n in (rows, columns))
        self._view = height, width
        self._padding = (0, width - columns, 0, height - rows)
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
        self.directions: nn.Embedding | None = None
        with torch.no_grad():
            view = torch.zeros(1, embedding_dim, height, width)
            n_flat = self.convolutions(view).shape[1]
        if "direction" in observation_space.spaces:
            self.directions = nn.Embedding(4, embedding_dim)
            n_flat += embedding_dim
        self.words: nn.EmbeddingBag | None = None
        if "mission" in observation_space.spaces:
            n_words = int(observation_space["mission"].high.max()) + 1  # type: ignore[attr-defined]
            self.words = nn.EmbeddingBag(n_words, embedding_dim, mode="mean", padding_idx=0)
            n_flat += embedding_dim
        self.linear = nn.Sequential(nn.Linear(n_flat, features_dim), nn.ReLU())
        for table in (self.cells, self.directions, self.words):
            if table is not None:
                nn.init.normal_(table.weight, std=EMBEDDING_STD)
        self.register_buffer("cell_values", _cell_values(n_channels), persistent=False)

    def forward(self, observations: dict[str, Tensor], *, distinct: bool = False) -> Tensor:
        """Features (B, features_dim) of a batch of observations.

        `distinct`: the observations are known to differ, so the search for duplicates is skipped.
        """
        image = observations["image"]
        n_rows, n_channels = len(image), image.shape[-1]
        powers = N_CELL_VALUES ** torch.arange(n_channels, device=image.device)
        cells = image @ powers.to(image.dtype)
        if any(self._padding):
            cells = F.pad(cells, self._padding)
        parts = [cells.reshape(n_rows, -1)]
        if self.directions is not None:
            parts.append(observations["direction"])
        if self.words is not None:
            parts.append(observations["mission"].reshape(n_rows, -1))
        codes = torch.cat(parts, dim=1).long()
        if distinct or not self.encode_distinct or n_rows < 2:
            return self._encode(codes)
        representatives, inverse = distinct_rows(codes)
        return F.embedding(inverse, self._encode(codes.index_select(0, representatives)))

    def _encode(self, codes: Tensor) -> Tensor:
        """Features (B, features_dim) of int64 codes (B, H·W cells [+ 1 direction] [+ L words])."""
        height, width = self._view
        n_read = height * width
        cells = codes[:, :n_read].view(-1, height, width)
        pooled = self._pooled_once(cells) if self.encode_distinct else self._pooled(cells)
        second, third = self.convolutions[3], self.convolutions[5]
        assert isinstance(second, nn.Conv2d) and isinstance(third, nn.Conv2d)
        views = F.relu(_convolved(third, F.relu(_convolved(second, pooled))))
        features = [views.permute(0, 3, 1, 2).flatten(1)]
        if self.directions is not None:
            features.append(self.directions(codes[:, n_read]))
            n_read += 1
        if self.words is not None:
            features.append(_mean_of_words(self.words, codes[:, n_read:]))
        return self.linear(torch.cat(features, dim=1))  # type: ignore[no-any-return]

    def _pooled(self, cells: Tensor) -> Tensor:
        """First convolution, ReLU and pooling of cells (B, H, W): (B, H', W', 16).

        The embedding and the convolution are both linear, so their weights are multiplied first:
        the same to rounding, and no gradient has to reach single cells. Forward and backward take
        about half the time of an embedding followed by a convolution.
        """
        first = self.convolutions[0]
        assert isinstance(first, nn.Conv2d)
        weight = torch.einsum("ve,oehw->ovhw", self.cells.weight, first.weight)
        values = F.embedding(cells, self.cell_values).permute(0, 3, 1, 2)
        views = self.convolutions[1:3](F.conv2d(values, weight, first.bias))
        return views.permute(0, 2, 3, 1)  # type: ignore[no-any-return]

    def _pooled_once(self, cells: Tensor) -> Tensor:
        """The same, each distinct patch of 3×3 cells, on which one pooled value rests, once."""
        first = self.convolutions[0]
        assert isinstance(first, nn.Conv2d)
        patches = cells.unfold(1, 3, 2).unfold(2, 3, 2)
        n_views, height, width = patches.shape[:3]
        patches = patches.reshape(-1, 9)
        representatives, inverse = distinct_rows(patches)
        embedded = F.embedding(
            patches.index_select(0, representatives), self.cell_values @ self.cells.weight
        )
        convolved = F.relu(_convolved(first, embedded.view(len(representatives), 3, 3, -1)))
        pooled = convolved.amax(dim=(1, 2))
        return F.embedding(inverse, pooled).view(n_views, height, width, -1)


def why_not_a_grid(space: gym.Space[Any]) -> str | None:
    """Why `GridEncoder` cannot read observations of a space; None if it can.

    The names of the keys are not enough: a camera and a heading may have the same ones.
    """
    if not isinstance(space, gym.spaces.Dict) or "image" not in space.spaces:
        return f"{space} is not a Dict with the key 'image'"
    others = sorted(set(space.spaces) - {"image", "direction", "mission"})
    if others:
        return f"it would not see the key {others[0]!r}"
    image, direction = space["image"], space.spaces.get("direction")
    mission = space.spaces.get("mission")
    if not (_holds_codes(image, N_CELL_VALUES) and len(image.shape or ()) == 3):
        return f"'image' is {image}, expected whole numbers (H, W, 3) from 0 to 10"
    assert image.shape is not None
    if image.shape[2] != N_CELL_CHANNELS:
        return f"'image' has {image.shape[2]} channels, expected {N_CELL_CHANNELS}"
    if direction is not None and not (_holds_codes(direction, 4) and direction.shape == (1,)):
        return f"'direction' is {direction}, expected one whole number from 0 to 3"
    if mission is not None and not (_holds_codes(mission, 2**16) and len(mission.shape or ()) == 1):
        return f"'mission' is {mission}, expected a row of whole numbers from 0 on"
    return None


def _holds_codes(space: gym.Space[Any], n_values: int) -> bool:
    """Whether a space is a Box of whole numbers from 0 to below `n_values`."""
    if not isinstance(space, gym.spaces.Box) or not np.issubdtype(space.dtype, np.integer):
        return False
    return bool(space.low.min() >= 0 and space.high.max() < n_values)


def _cell_values(n_channels: int) -> Tensor:
    """(11^n_channels, n_channels·11): row `Σ_k 11^k v_k` has a 1 at each `11·k + v_k`."""
    numbers = torch.arange(N_CELL_VALUES**n_channels)
    values = torch.zeros(len(numbers), n_channels * N_CELL_VALUES)
    for k in range(n_channels):
        value = numbers // N_CELL_VALUES**k % N_CELL_VALUES
        values[numbers, N_CELL_VALUES * k + value] = 1.0
    return values


def _convolved(convolution: nn.Conv2d, images: Tensor) -> Tensor:
    """A 2×2 convolution of (B, H, W, C) as one matrix product: (B, H − 1, W − 1, C').

    For images of a few cells a call of `conv2d` costs more than the work in it.
    """
    n, height, width, n_channels = images.shape
    corners = [images[:, :-1, :-1], images[:, :-1, 1:], images[:, 1:, :-1], images[:, 1:, 1:]]
    windows = torch.cat(corners, dim=-1).view(-1, 4 * n_channels)
    weight = convolution.weight.permute(0, 2, 3, 1).reshape(-1, 4 * n_channels)
    return F.linear(windows, weight, convolution.bias).view(n, height - 1, width - 1, -1)


def _mean_of_words(words: nn.EmbeddingBag, tokens: Tensor) -> Tensor:
    """`words` of tokens (B, L), by counting tokens first: its own backward pass sorts them all."""
    counts = words.weight.new_zeros(len(tokens), words.num_embeddings)
    counts.scatter_add_(1, tokens, words.weight.new_ones(1).expand(tokens.shape))
    counts[:, 0] = 0.0  # padding
    return (counts / counts.sum(dim=1, keepdim=True).clamp(min=1.0)) @ words.weight
