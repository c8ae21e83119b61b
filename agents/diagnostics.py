"""Health of an encoder and its policy, measured on a fixed sample of memory on a schedule."""

from __future__ import annotations

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from contrastive_distillation.losses import AuxiliaryLoss
from contrastive_distillation.memory import Memory

from .observation_encoder import ObservationEncoder


def effective_rank(features: Tensor) -> float:
    """exp(H(p)), p the normalised singular values of centred features (N, D); 0 if all are equal.

    Roy and Vetterli 2007, "The effective rank".
    """
    centred = features - features.mean(dim=0)
    values = torch.linalg.svdvals(centred.double())
    total = values.sum()
    if total <= 1e-12:
        return 0.0
    p = values / total
    return float(torch.exp(-torch.special.xlogy(p, p).sum()))


class Diagnostics:
    """Measures policy entropy, effective rank and key drift on up to `n_rows` rows of memory.

    The rows are drawn with a generator of its own; nothing is trained or written.
    """

    def __init__(
        self, *, encoder: ObservationEncoder, policy: nn.Module, n_rows: int = 256
    ) -> None:
        self._encoder = encoder
        self._policy = policy
        self._n_rows = n_rows
        self._generator = np.random.default_rng(0)
        self._before: ObservationEncoder | None = None

    @torch.no_grad()
    def measure(self, memory: Memory, loss: AuxiliaryLoss) -> dict[str, float]:
        """Scalars by name.

        `aux/entropy`: of the action distribution, nats, mean over rows (for value-based agents: of
        the histogram of greedy actions). `aux/effective_rank`: of the encoder's features.
        `memory/key_drift`: 1 − cosine between today's keys and those of the last measurement, of
        the encoder itself; a loss that keeps keys (`key_age` among its metrics) logs its own.
        """
        rows = memory.sample_rows(self._n_rows, self._generator)
        observations = memory.observations(rows)
        measured = {"aux/effective_rank": effective_rank(self._encoder(observations))}
        entropy = self._entropy(observations)
        if entropy is not None:
            measured["aux/entropy"] = entropy
        if "key_age" in loss.metrics:
            return measured
        keys = self._encoder
        if self._before is not None:
            cosine = nn.functional.cosine_similarity(
                keys(observations), self._before(observations), dim=1
            )
            measured["memory/key_drift"] = 1.0 - float(cosine.mean())
        self._before = keys.frozen_copy()
        return measured

    def _entropy(self, observations: np.ndarray | dict[str, np.ndarray]) -> float | None:
        normalise = self._encoder.normalise
        seen = observations if normalise is None else normalise(observations)
        tensors, _ = self._policy.obs_to_tensor(seen)  # type: ignore[operator]
        if hasattr(self._policy, "lstm_actor"):  # needs states that memory does not keep
            return None
        if isinstance(self._policy, ActorCriticPolicy):
            entropy = self._policy.get_distribution(tensors).entropy()
            return None if entropy is None else float(entropy.mean())
        q_net = getattr(self._policy, "q_net", None)
        if q_net is None:
            return None
        greedy = q_net(tensors).argmax(dim=1)
        p = torch.bincount(greedy).double() / len(greedy)
        return float(-torch.special.xlogy(p, p).sum())
