"""The student of a realignment: what moves, where restarts begin, and its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from contrastive_distillation.memory import Observations

from ..observation_encoder import ObservationEncoder
from .input_layers import input_layers, parameters_to_move

Restarts = dict[str, Tensor]
"""Values of what moves, by name, (R, ...): one for each of R restarts."""


class Student(Protocol):
    """An encoder of which a part moves, in several restarts at once."""

    def restarts(self, n: int, generator: np.random.Generator) -> Restarts:
        """Where n restarts begin; the first one leaves all as it is."""

    def features(self, restarts: Restarts, observations: Observations) -> Tensor:
        """(R, m, D) of m raw observations, with gradient."""


class MovedLayers:
    """An encoder with layers that move.

    Restart 0 begins with the values that are there. In others, of the layers that read the
    observation, the rows of embeddings and the columns of linear layers are permuted; of
    convolutions input channels are permuted and turned round (x to 1 − x), all of them in
    restart 1.

    Args:
        encoder: of the student; it stays as it is.
        layers: "first" | "encoder" | names, see `parameters_to_move`.
        example: two observations or more, to find the layers with.
        n_frames: frames in a stack; each gets the same permutation.
    """

    def __init__(
        self,
        encoder: ObservationEncoder,
        *,
        layers: str | Sequence[str],
        example: Observations,
        n_frames: int = 1,
    ) -> None:
        self._encoder = encoder.frozen_copy().eval()
        self._stages = nn.Sequential(*self._encoder.stages)
        self._n_frames = n_frames
        prepared = self._encoder.prepared(example)
        self.names = parameters_to_move(self._stages, lambda: self._stages(prepared), layers)
        shuffled = getattr(self._stages[0], "restart_layers", None)
        if shuffled is None:
            shuffled = input_layers(self._stages, lambda: self._stages(prepared))
        else:
            shuffled = [f"0.{name}" for name in shuffled]
        self._shuffled = set(shuffled)
        self._start = dict(self._stages.named_parameters())
        self._at_once = bool(getattr(self._stages[0], "restart_layers", None))

    def restarts(self, n: int, generator: np.random.Generator) -> Restarts:
        starts = [{name: self._start[name].detach().clone() for name in self.names}]
        for r in range(1, n):
            moved = {name: self._start[name].detach().clone() for name in self.names}
            for path in dict.fromkeys(name.rpartition(".")[0] for name in self.names):
                if path in self._shuffled:
                    self._shuffle(path, moved, generator, negate_all=r == 1)
            starts.append(moved)
        return {name: torch.stack([start[name] for start in starts]) for name in self.names}

    def _shuffle(
        self, path: str, moved: Restarts, generator: np.random.Generator, *, negate_all: bool
    ) -> None:
        """Let a layer take its inputs for each other, and convolutions for their opposites."""
        module = self._stages.get_submodule(path)
        if f"{path}.weight" not in moved:
            return
        weight = moved[f"{path}.weight"]
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            moved[f"{path}.weight"] = weight[torch.as_tensor(generator.permutation(len(weight)))]
            return
        if not isinstance(module, nn.Conv2d | nn.Linear):
            return
        n_inputs = weight.shape[1] // self._n_frames
        order, negated = generator.permutation(n_inputs), generator.random(n_inputs) < 0.5
        if isinstance(module, nn.Linear):
            negated[:] = False
        elif negate_all:
            order, negated = np.arange(n_inputs), np.ones(n_inputs, np.bool_)
        places = np.concatenate([order + n_inputs * i for i in range(self._n_frames)])
        turned = torch.as_tensor(np.tile(negated, self._n_frames))
        weight = weight[:, torch.as_tensor(places)].clone()
        bias = moved.get(f"{path}.bias")
        if bias is not None:  # w (1 − x) + b = −w x + (b + w)
            moved[f"{path}.bias"] = bias + weight[:, turned].flatten(1).sum(dim=1)
        weight[:, turned] *= -1.0
        moved[f"{path}.weight"] = weight

    def features(self, restarts: Restarts, observations: Observations) -> Tensor:
        prepared = self._encoder.prepared(observations)

        def run(values: Restarts) -> Tensor:
            features: Tensor = functional_call(self._stages, values, (prepared,))
            return features

        if self._at_once:
            return vmap(run)(restarts)
        n = len(next(iter(restarts.values())))
        each = [{name: values[r] for name, values in restarts.items()} for r in range(n)]
        return torch.stack([run(values) for values in each])


class WhitenedInput(nn.Module):
    """Vectors as their latent: centred and whitened by what the source sees usually.

    The source's features say little of what random behaviour hardly moves (CartPole's position),
    so a map that confuses it has no higher loss. Whitened, each direction has the same variance.
    The features are a function of it.

    Args:
        encoder: of the source.
        usual: (N, ...) raw observations of the source, as often as it sees them.
        n_frames: frames in a stack.
    """

    def __init__(
        self, encoder: ObservationEncoder, usual: Observations, *, n_frames: int = 1
    ) -> None:
        super().__init__()
        self.encoder = encoder.frozen_copy().eval()
        self.n_frames = n_frames
        rows = self.framed(flat(self.encoder.prepared(usual))[0]).flatten(0, 1)
        self.centre, self.root = _moments(rows, 0.5)
        self.inverse_root = _moments(rows, -0.5)[1]

    def framed(self, rows: Tensor) -> Tensor:
        """(N, n_frames, d) of rows (N, n_frames · d)."""
        return rows.view(len(rows), self.n_frames, -1)

    def forward(self, observations: Observations) -> Tensor:
        """(N, n_frames · d) of raw observations of the source."""
        rows, _ = flat(self.encoder.prepared(observations))
        return ((self.framed(rows) - self.centre) @ self.inverse_root).flatten(1)


class InputMap:
    """A linear map of vectors in front of the source's frozen policy.

    `o ↦ m_s + S_s^½ ( Q S_t^−½ (o − m_t) + c )`: means and covariances of what both sides see
    under random actions. Q starts as a random rotation, since behaviour is alike, and c at 0;
    restart 0 begins as the identity, where the widths agree.

    Args:
        teacher: the source's whitened input.
        target: reads the target's observations.
        seen_in_target: raw observations in the target, as often as they are seen.
    """

    def __init__(
        self,
        teacher: WhitenedInput,
        *,
        target: ObservationEncoder,
        seen_in_target: Observations,
    ) -> None:
        self._teacher, self._target = teacher, target
        there, _ = flat(target.prepared(seen_in_target))
        self._m_s, self._root_s = teacher.centre, teacher.root
        self._m_t, self._inverse_root_t = _moments(teacher.framed(there).flatten(0, 1), -0.5)

    def restarts(self, n: int, generator: np.random.Generator) -> Restarts:
        d_s, d_t = len(self._m_s), len(self._m_t)
        larger = max(d_s, d_t)
        drawn = [np.linalg.qr(generator.normal(size=(larger, larger)))[0] for _ in range(n)]
        turns = torch.as_tensor(np.stack(drawn)[:, :d_s, :d_t]).to(self._m_s)
        offsets = torch.zeros(n, d_s).to(self._m_s)
        if d_s == d_t:
            inverse_s = torch.linalg.pinv(self._root_s)
            turns[0] = inverse_s @ torch.linalg.pinv(self._inverse_root_t)
            offsets[0] = inverse_s @ (self._m_t - self._m_s)
        return {"turn": turns, "offset": offsets}

    def features(self, restarts: Restarts, observations: Observations) -> Tensor:
        rows = self._teacher.framed(flat(self._target.prepared(observations))[0])
        whitened = (rows - self._m_t) @ self._inverse_root_t
        turned = torch.einsum("mfi,rji->rmfj", whitened, restarts["turn"])
        turned = turned + restarts["offset"][:, None, None]
        return turned.flatten(2)

    def linear(self, restart: Restarts) -> tuple[Tensor, Tensor]:
        """`o ↦ M o + b` of one restart: M (d_s, d_t) and b (d_s,), for one frame."""
        matrix = self._root_s @ restart["turn"] @ self._inverse_root_t
        offset = self._m_s + self._root_s @ restart["offset"] - matrix @ self._m_t
        return matrix, offset


def flat(observations: Tensor | dict[str, Tensor]):  # type: ignore[no-untyped-def]
    """Observations as rows (N, d), a Dict's parts in order of their keys; and the way back."""
    if isinstance(observations, Tensor):
        shape = observations.shape[1:]
        return observations.flatten(1), lambda rows: rows.view(len(rows), *shape)
    keys = sorted(observations)
    shapes = {key: observations[key].shape[1:] for key in keys}
    widths = [observations[key].flatten(1).shape[1] for key in keys]

    def back(rows: Tensor) -> dict[str, Tensor]:
        parts = dict(zip(keys, torch.split(rows, widths, dim=1), strict=True))
        return {key: part.view(len(rows), *shapes[key]) for key, part in parts.items()}

    return torch.cat([observations[key].flatten(1) for key in keys], dim=1), back


def _moments(rows: Tensor, power: float) -> tuple[Tensor, Tensor]:
    """Mean (d,) and a power of the covariance (d, d); directions that never change count as 0."""
    mean = rows.double().mean(dim=0)
    values, vectors = torch.linalg.eigh((rows.double() - mean).T.cov().reshape(2 * [len(mean)]))
    varies = values > 1e-9 * values.max().clamp(min=1e-30)
    powers = torch.where(varies, values.clamp(min=1e-30).pow(power), torch.zeros_like(values))
    return mean.to(rows), ((vectors * powers) @ vectors.T).to(rows)
