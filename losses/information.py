"""A lower bound on the mutual information between features and another variable, in nats.

InfoNCE bounds mutual information only with uniform negatives, without masks or weights, and on
rows that the critic was not fitted on. The training losses violate all three conditions, so this
module fits critics of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .info_nce import info_nce

_HIDDEN = 128
_EMBEDDING = 64
_BATCH = 256
_LEARNING_RATE = 1e-3
_VALIDATE_EVERY = 25  # updates
_MIN_ROWS = 8  # per split; tasks with fewer rows are left out


@dataclass(frozen=True)
class InformationBound:
    """`I(x; y) >= nats`: a lower bound, which may be loose, and never exceeds `cap`."""

    nats: float
    """Mean of log(K + 1) - L over held-out rows. Negative for a critic worse than chance."""
    cap: float
    """log(K + 1): the largest bound that K negatives can give."""
    n_rows: int
    """Number of held-out rows."""


@dataclass(frozen=True)
class Deduplicated:
    """N vectors, each distinct one stored, and embedded by a critic, once.

    Raises:
        ValueError: `inverse` has another shape, type or range than given below.
    """

    distinct: np.ndarray
    """(M, D)"""
    inverse: np.ndarray
    """(N,) int64 in [0, M), as `numpy.unique` returns it: vector i is ``distinct[inverse[i]]``."""

    def __post_init__(self) -> None:
        inverse, m = np.asarray(self.inverse), len(self.distinct)
        if inverse.ndim != 1 or inverse.dtype != np.int64:
            raise ValueError(
                f"inverse has dtype {inverse.dtype} and shape {inverse.shape}; expected int64, (N,)"
            )
        if len(inverse) and not 0 <= inverse.min() <= inverse.max() < m:
            raise ValueError(
                f"inverse has values from {inverse.min()} to {inverse.max()}; expected values in "
                f"[0, {m}), as there are {m} distinct vectors"
            )

    def __len__(self) -> int:
        return len(self.inverse)


def mutual_information(
    features: np.ndarray | Deduplicated,
    partner: np.ndarray | Deduplicated,
    episodes: np.ndarray,
    tasks: np.ndarray,
    *,
    n_negatives: int = 127,
    seed: int = 0,
    n_updates: int = 500,
) -> dict[int, InformationBound]:
    """`I(x; y) >= log(K + 1) - E[ -log( e^c(x,y) / (e^c(x,y) + Σ_k e^c(x,y_k)) ) ]`, per task.

    The critic is `c(x, y) = g(x) · h(y)`, with g and h MLPs of one hidden layer. For each task, a
    new critic is fitted on half of the episodes, selected by its loss on a quarter, and evaluated
    on the rest. Negatives are uniform over the rows of the same task and split. Oord et al. 2018,
    https://arxiv.org/abs/1807.03748; bound: Poole et al. 2019, https://arxiv.org/abs/1905.06922.

    Args:
        features: (N, D), x. `Deduplicated` is faster where vectors repeat, and equal to rounding
            (which fitting a critic can magnify).
        partner: (N, E), y, of either type.
        episodes: (N,) int; the rows of an episode go to the same split.
        tasks: (N,) int.
        n_negatives: K >= 1.
        seed: the only source of randomness; the global random states are neither read nor changed.
        n_updates: updates of each critic, each on up to 256 rows.

    Returns:
        A bound for each task with at least 8 rows in each split.

    Raises:
        ValueError: lengths differ, a value is not finite, or K or n_updates is below 1.
    """
    features, partner = (
        v if isinstance(v, Deduplicated) else Deduplicated(v, np.arange(len(v)))
        for v in (features, partner)
    )
    _check(features, partner, episodes, tasks, n_negatives, n_updates)
    bounds = {}
    for task in np.unique(tasks).tolist():
        shuffler = np.random.default_rng([seed, task])
        rows = np.flatnonzero(tasks == task)
        splits = _split(rows, episodes[rows], shuffler)
        if min(map(len, splits)) < _MIN_ROWS:
            continue
        x, y = _standardised(features, splits[0]), _standardised(partner, splits[0])
        generator = torch.Generator().manual_seed(int(shuffler.integers(2**62)))
        fit, validate, measure = ((x.of(rows), y.of(rows)) for rows in splits)
        critic = _fit(*fit, validate, n_negatives, n_updates, generator)
        losses = _losses(critic, *measure, n_negatives, generator)
        cap = math.log(n_negatives + 1)
        nats = cap - max(float(losses.mean()), 0.0)
        bounds[task] = InformationBound(nats, cap, len(splits[2]))
    return bounds


def _check(
    features: Deduplicated,
    partner: Deduplicated,
    episodes: np.ndarray,
    tasks: np.ndarray,
    n_negatives: int,
    n_updates: int,
) -> None:
    n, x, y = len(features), features.distinct, partner.distinct
    if x.ndim != 2 or y.ndim != 2:
        raise ValueError(f"expected (N, D) and (N, E); got {x.shape} and {y.shape}")
    if not (len(partner) == n and episodes.shape == (n,) and tasks.shape == (n,)):
        raise ValueError(
            f"{n} features, but {len(partner)} partners, episodes {episodes.shape}, "
            f"tasks {tasks.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features and partner must be finite")
    for name, value in (("n_negatives", n_negatives), ("n_updates", n_updates)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be 1 or more")


def _split(
    rows: np.ndarray, episodes: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of half, a quarter and a quarter of the episodes."""
    shuffled = generator.permutation(np.unique(episodes))
    parts = np.split(shuffled, [len(shuffled) // 2, len(shuffled) - len(shuffled) // 4])
    fit, validate, measure = (rows[np.isin(episodes, part)] for part in parts)
    return fit, validate, measure


@dataclass(frozen=True)
class _Vectors:
    """`Deduplicated` vectors as tensors."""

    distinct: Tensor
    inverse: Tensor
    repeat: bool
    """Whether embedding each distinct vector once is faster."""

    def of(self, rows: np.ndarray) -> _Vectors:
        return replace(self, inverse=self.inverse[torch.as_tensor(rows)])

    def __len__(self) -> int:
        return len(self.inverse)


def _standardised(vectors: Deduplicated, fit_rows: np.ndarray) -> _Vectors:
    """Float32, with mean 0 and deviation 1 over `fit_rows`, without columns constant there."""
    array = vectors.distinct
    array = array.astype(np.result_type(array, np.float32), copy=False)
    shares = np.bincount(vectors.inverse[fit_rows], minlength=len(array)) / len(fit_rows)
    centred = array - np.einsum("m,md->d", shares, array).astype(array.dtype)
    deviation = np.sqrt(np.einsum("m,md,md->d", shares, centred, centred)).astype(array.dtype)
    varies = deviation > 1e-6
    if varies.any():
        distinct = (centred[:, varies] / deviation[varies]).astype(np.float32, copy=False)
    else:
        distinct = np.zeros((len(array), 1), dtype=np.float32)
    repeat = 2 * len(array) < len(vectors)
    return _Vectors(torch.as_tensor(distinct), torch.as_tensor(vectors.inverse), repeat)


_Critic = Mapping[str, Tensor]


def _new_critic(n_x: int, n_y: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights of g and h, as plain tensors: an nn.Linear would draw from the global random state.

    The last layer of g starts at 0, so the bound of an unfitted critic is 0.
    """

    def weight(n_in: int, n_out: int) -> Tensor:
        return torch.randn(n_in, n_out, generator=generator) / math.sqrt(n_in)

    critic = {}
    for side, n_in in (("x", n_x), ("y", n_y)):
        critic[f"{side}_in"] = weight(n_in, _HIDDEN)
        critic[f"{side}_bias"] = torch.zeros(_HIDDEN)
        critic[f"{side}_out"] = (
            weight(_HIDDEN, _EMBEDDING) if side == "y" else torch.zeros(_HIDDEN, _EMBEDDING)
        )
    return {name: tensor.requires_grad_() for name, tensor in critic.items()}


def _embed(critic: _Critic, side: str, vectors: _Vectors, rows: Tensor | None = None) -> Tensor:
    """Embeddings (len(rows), 64); rows=None: of all vectors."""
    used = vectors.inverse if rows is None else vectors.inverse[rows]
    inverse = None
    if vectors.repeat:
        used, inverse = torch.unique(used, return_inverse=True)
    hidden = torch.relu(vectors.distinct[used] @ critic[f"{side}_in"] + critic[f"{side}_bias"])
    embedded = hidden @ critic[f"{side}_out"]
    return embedded if inverse is None else F.embedding(inverse, embedded)


def _fit(
    x: _Vectors,
    y: _Vectors,
    validate: tuple[_Vectors, _Vectors],
    n_negatives: int,
    n_updates: int,
    generator: torch.Generator,
) -> _Critic:
    """Fit a critic; returns the one with the lowest validation loss."""
    critic = _new_critic(x.distinct.shape[1], y.distinct.shape[1], generator)
    optimizer = torch.optim.Adam(critic.values(), lr=_LEARNING_RATE, fused=True)
    validation_seed = int(torch.randint(2**62, (), generator=generator))
    best, best_loss = critic, math.inf
    for update in range(n_updates + 1):
        if update % _VALIDATE_EVERY == 0 or update == n_updates:
            same_negatives = torch.Generator().manual_seed(validation_seed)
            loss = float(_losses(critic, *validate, n_negatives, same_negatives).mean())
            if loss < best_loss:
                best_loss = loss
                best = {name: tensor.detach().clone() for name, tensor in critic.items()}
        if update == n_updates:
            break
        rows = torch.randint(len(x), (min(_BATCH, len(x)),), generator=generator)
        pool = torch.randint(len(x), (n_negatives,), generator=generator)
        queries = _embed(critic, "x", x, rows)
        keys = _embed(critic, "y", y, torch.cat([rows, pool]))
        positives, negatives = keys[: len(rows)], keys[len(rows) :]
        negative_logits = queries @ negatives.T
        optimizer.zero_grad()
        torch.autograd.backward(info_nce((queries * positives).sum(dim=1), negative_logits).mean())
        optimizer.step()
    return best


@torch.no_grad()
def _losses(
    critic: _Critic, x: _Vectors, y: _Vectors, n_negatives: int, generator: torch.Generator
) -> Tensor:
    """InfoNCE (N,) of every row, each with its own negatives, uniform over all rows."""
    queries, keys = _embed(critic, "x", x), _embed(critic, "y", y)
    losses = []
    for begin in range(0, len(x), _BATCH):
        chunk = slice(begin, begin + _BATCH)
        logits = queries[chunk] @ keys.T
        drawn = torch.randint(len(x), (len(logits), n_negatives), generator=generator)
        losses.append(info_nce(logits.diagonal(begin), logits.gather(1, drawn)))
    return torch.cat(losses)
