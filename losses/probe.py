"""How much features tell about something else: a lower bound on mutual information, in nats.

InfoNCE is a bound only for uniform negatives, unmasked and unweighted, and a critic not fitted
on the rows it is judged by. The training losses break all of that, so the probe fits its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_distillation.memory import Memory, Observations, draw_positives

from .info_nce import info_nce

_HIDDEN = 128
_EMBEDDING = 64
_BATCH = 256
_LEARNING_RATE = 1e-3
_CHECK_EVERY = 25  # updates between two looks at the validation rows
_MIN_ROWS = 8  # per split; a task with fewer is left out
_N_SYMBOLS = 16  # integers below this are taken as symbols


@dataclass(frozen=True)
class InformationBound:
    """`I(x; y) >= nats`, as far as a critic could be fitted; never above `cap`."""

    nats: float
    """Mean of log(K + 1) - L over held-out rows. Below 0 for a critic worse than chance."""
    cap: float
    """log(K + 1): no bound from K negatives can say more."""
    n_rows: int
    """Held-out rows it was measured on."""


@dataclass(frozen=True)
class Repeated:
    """N vectors of which equal ones are kept, and put through a critic, once.

    Raises:
        ValueError: `inverse` is not as said below.
    """

    distinct: np.ndarray
    """(M, D)"""
    inverse: np.ndarray
    """(N,) int64 in [0, M), as `numpy.unique` returns it: vector i is ``distinct[inverse[i]]``."""

    def __post_init__(self) -> None:
        found, m = np.asarray(self.inverse), len(self.distinct)
        if found.ndim != 1 or found.dtype != np.int64:
            raise ValueError(f"inverse is of {found.dtype} {found.shape}; it must be int64 of (N,)")
        if len(found) and not 0 <= found.min() <= found.max() < m:
            raise ValueError(f"inverse is of {found.min()} to {found.max()}; M is {m}")

    def __len__(self) -> int:
        return len(self.inverse)


def mutual_information(
    features: np.ndarray | Repeated,
    partner: np.ndarray | Repeated,
    episodes: np.ndarray,
    tasks: np.ndarray,
    *,
    n_negatives: int = 127,
    seed: int = 0,
    n_updates: int = 500,
) -> dict[int, InformationBound]:
    """`I(x; y) >= log(K + 1) - E[ -log( e^c(x,y) / (e^c(x,y) + Σ_k e^c(x,y_k)) ) ]`, per task.

    The critic `c(x, y) = g(x) · h(y)`, g and h MLPs of one hidden layer, is fitted afresh for
    each task on half of its episodes, stopped where it does best on a quarter, and measured on
    the rest. Negatives are uniform over the rows of the task and split. Oord et al. 2018,
    https://arxiv.org/abs/1807.03748; bound: Poole et al. 2019, https://arxiv.org/abs/1905.06922.

    Args:
        features: (N, D), x. `Repeated` gives the same but for rounding (which the fit of a
            critic can magnify), sooner where vectors repeat.
        partner: (N, E), y; likewise.
        episodes: (N,) int; rows of one episode fall into one split.
        tasks: (N,) int.
        n_negatives: K >= 1.
        seed: of all chance here; the global random states are neither read nor moved.
        n_updates: of the critic, at most; each on up to 256 rows.

    Returns:
        A bound for each task that has at least 8 rows in each split; for others none.

    Raises:
        ValueError: lengths differ, a number is not finite, or K or n_updates is below 1.
    """
    features, partner = _repeated(features), _repeated(partner)
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


@dataclass(frozen=True)
class LaterPairs:
    """N rows of a memory, each with a later row of the same episode."""

    rows: np.ndarray
    """(N,) int64"""
    later_rows: np.ndarray
    """(N,) int64"""
    episodes: np.ndarray
    """(N,) int64"""
    tasks: np.ndarray
    """(N,) int64, indexes into the memory's `tasks`"""


def draw_later_pairs(
    memory: Memory, n: int, generator: np.random.Generator, *, mean_offset: float = 5.0
) -> LaterPairs:
    """Up to n rows with their futures, for `mutual_information` about what comes.

    Offsets are geometric with `mean_offset` steps. Pairs are taken as they fall, also where both
    show the same observation: leaving such out would bias the measurement. With x the features
    of `rows`, let y be `as_vectors(memory.observations(later_rows))` for the future, or the source
    encoder's features of `rows` for what is shared with the source.
    """
    rows = memory.rows()
    rows = rows[memory.remaining(rows) >= 1]
    rows = generator.choice(rows, size=min(n, len(rows)), replace=False, shuffle=False)
    later, valid = draw_positives(memory, rows, generator, mean_offset=mean_offset, distinct=False)
    assert valid.all()
    return LaterPairs(rows, later, memory.episodes(rows), memory.task_ids(rows))


def as_vectors(observations: Observations) -> np.ndarray:
    """Observations as vectors (N, E) float32: symbols one-hot, other numbers as they are.

    An array of integers none of which is negative or above 15 counts as symbols (MiniGrid's
    grids do, pictures do not). The keys of a dict are joined in sorted order.
    """
    if isinstance(observations, dict):
        return np.concatenate(
            [as_vectors(observations[key]) for key in sorted(observations)], axis=1
        )
    array = observations.reshape(len(observations), -1)
    if array.dtype.kind in "biu" and array.size and array.min() >= 0 and array.max() < _N_SYMBOLS:
        one_hot = array.astype(np.uint8)[:, :, None] == np.arange(_N_SYMBOLS, dtype=np.uint8)
        array = one_hot.reshape(len(array), -1)
    vectors: np.ndarray = array.astype(np.float32)
    return vectors


def _repeated(vectors: np.ndarray | Repeated) -> Repeated:
    """An array's vectors as if all were distinct."""
    if isinstance(vectors, Repeated):
        return vectors
    return Repeated(vectors, np.arange(len(vectors)))


def _check(
    features: Repeated,
    partner: Repeated,
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
    """Rows of half, a quarter and a quarter of the episodes."""
    names = generator.permutation(np.unique(episodes))
    half, quarter = len(names) // 2, len(names) - len(names) // 4
    parts = names[:half], names[half:quarter], names[quarter:]
    fit, validate, measure = (rows[np.isin(episodes, part)] for part in parts)
    return fit, validate, measure


@dataclass(frozen=True)
class _Vectors:
    """`Repeated`, as a critic takes it."""

    distinct: Tensor
    inverse: Tensor
    repeat: bool
    """Whether it pays to look for equal ones."""

    def of(self, rows: np.ndarray) -> _Vectors:
        return replace(self, inverse=self.inverse[torch.as_tensor(rows)])

    def __len__(self) -> int:
        return len(self.inverse)


def _standardised(vectors: Repeated, fit_rows: np.ndarray) -> _Vectors:
    """Float32, with mean 0 and deviation 1 over `fit_rows`; columns constant there go."""
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
    """Weights of g and h. Plain tensors: making an nn.Linear would draw from the global state.

    g's last layer starts at 0, so that an unfitted critic knows nothing and its bound is 0.
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
    """(len(rows), 64), or of all; where many are equal, each distinct one is embedded once."""
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
    """The critic that did best on the validation rows, of those met while fitting."""
    critic = _new_critic(x.distinct.shape[1], y.distinct.shape[1], generator)
    optimizer = torch.optim.Adam(critic.values(), lr=_LEARNING_RATE, fused=True)
    check_seed = int(torch.randint(2**62, (), generator=generator))
    best, best_loss = critic, math.inf
    for update in range(n_updates + 1):
        if update % _CHECK_EVERY == 0 or update == n_updates:
            same_negatives = torch.Generator().manual_seed(check_seed)
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
    """InfoNCE of every row against negatives of its own, uniform over all rows: (N,)."""
    queries, keys = _embed(critic, "x", x), _embed(critic, "y", y)
    losses = []
    for begin in range(0, len(x), _BATCH):
        chunk = slice(begin, begin + _BATCH)
        logits = queries[chunk] @ keys.T
        drawn = torch.randint(len(x), (len(logits), n_negatives), generator=generator)
        losses.append(info_nce(logits.diagonal(begin), logits.gather(1, drawn)))
    return torch.cat(losses)
