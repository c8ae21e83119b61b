"""Diagnostics of an encoder and its policy, logged on a schedule."""

from __future__ import annotations

import logging

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from contrastive_distillation.losses import AuxiliaryLoss
from contrastive_distillation.memory import Memory

from .action_logits import seen_by
from .encoder_lookup import find_encoder
from .observation_encoder import ObservationEncoder, Observations

_log = logging.getLogger(__name__)


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


class EncoderDiagnostics(BaseCallback):
    """Logs the effective rank of an encoder's features, policy entropy and key drift.

    They are measured on `n_rows` random rows of a memory that another callback writes. The model
    is not changed, and the global generators are not used.

    Args:
        memory: the memory; nothing is logged while it is empty.
        encoder: which encoder, see `find_encoder`.
        frames: frames between two measurements; the first is made after as many.
        n_rows: rows for each measurement, drawn with a generator of the callback's own.
        loss: the auxiliary loss beside it. If it has keys (`key_age` among its metrics), it logs
            their drift itself.

    Logged, in the model's own logger: aux/effective_rank; aux/entropy of the action distribution,
    nats, mean over rows (for q-networks: of the histogram of greedy actions); memory/key_drift:
    1 − cosine between the features of this measurement's encoder and those of the last one's.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        encoder: str = "auto",
        frames: int = 16_384,
        n_rows: int = 256,
        loss: AuxiliaryLoss | None = None,
    ) -> None:
        super().__init__()
        self._memory = memory
        self._name = encoder
        self._frames = frames
        self._n_rows = n_rows
        self._loss = loss
        self._policy: nn.Module | None = None
        self._has_warned = False

    def _init_callback(self) -> None:
        find_encoder(self.model, self._name)  # refuses a model without one
        if self.model.policy is not self._policy:
            self._policy = self.model.policy
            self._generator = np.random.default_rng(0)
            self._before: ObservationEncoder | None = None

    def _on_training_start(self) -> None:
        self._due = self.model.num_timesteps + self._frames

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.model.num_timesteps >= self._due and len(self._memory) > 0:
            self._due = self.model.num_timesteps + self._frames
            for name, value in self._measure().items():
                self.logger.record(name, value)

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        observations = self._memory.observations(
            self._memory.sample_rows(self._n_rows, self._generator)
        )
        encoder, _ = find_encoder(self.model, self._name)
        features = encoder(observations)
        measured = {"aux/effective_rank": effective_rank(features)}
        if (entropy := self._entropy(encoder, observations)) is not None:
            measured["aux/entropy"] = entropy
        if self._loss is None or "key_age" not in self._loss.metrics:
            if self._before is not None and self._before.n_features == encoder.n_features:
                before = self._before(observations)
                cosine = nn.functional.cosine_similarity(features, before, dim=1)
                measured["memory/key_drift"] = 1.0 - float(cosine.mean())
            self._before = self._copy(encoder)
        return measured

    def _copy(self, encoder: ObservationEncoder) -> ObservationEncoder | None:
        """The encoder as it is now; None, with one warning, if it cannot be copied."""
        try:
            return encoder.frozen_copy()
        except ValueError as error:
            if not self._has_warned:
                self._has_warned = True
                _log.warning("memory/key_drift is not logged: %s", error)
            return None

    def _entropy(self, encoder: ObservationEncoder, observations: Observations) -> float | None:
        policy = self.model.policy
        if hasattr(policy, "lstm_actor"):  # needs states that memory does not keep
            return None
        tensors = seen_by(policy, observations, encoder.normalise)
        if isinstance(policy, ActorCriticPolicy):
            entropy = policy.get_distribution(tensors).entropy()
            return None if entropy is None else float(entropy.mean())
        q_net = getattr(policy, "q_net", None)
        if q_net is None:
            return None
        greedy = q_net(tensors).argmax(dim=1)
        p = torch.bincount(greedy).double() / len(greedy)
        return float(-torch.special.xlogy(p, p).sum())
