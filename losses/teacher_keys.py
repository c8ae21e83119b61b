"""The keys of positives and negatives: from moving averages, or from a frozen teacher."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastive_distillation.memory import KeyTable, Memory, Observations

from .arrays_in_state import ArraysInState
from .auxiliary import AveragedEncoder, Learner, Teacher

_N_MEAN_ROWS = 1024  # observations over which the teacher's mean feature is taken
_N_DRIFT_ROWS = 256  # observations on which drift is measured


class AveragedKeys(ArraysInState):
    """Keys q̄(f̄(o)) of length 1 from a snapshot of moving averages of encoder and head.

    The averages move with every auxiliary step. The snapshot is renewed every `refresh_frames`
    rows written to the memory (frames; the agent's own count may restart). Between two snapshots
    all keys come from the same networks, and no observation is encoded twice.
    """

    def __init__(
        self,
        learner: Learner,
        head: nn.Module,
        *,
        width: int,
        momentum: float,
        refresh_frames: int,
        refresh_drift: float,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.refresh_frames = refresh_frames
        self.refresh_drift = refresh_drift
        self.averaged_encoder = learner.moving_average(momentum)
        self.averaged_head = copy.deepcopy(head).requires_grad_(False)
        self.snapshot_encoder = learner.moving_average(momentum)
        self.snapshot_head = copy.deepcopy(head).requires_grad_(False)
        self.table = KeyTable(width=width, encode=self._encode)
        self.snapshot = 0
        """The number of snapshots so far."""
        self.drift = 0.0
        """1 - the mean cosine of old and new keys, when last measured."""
        self._taken_at = self._looked_at = -1
        self._head_pairs: tuple[nn.Module, list[Tensor], list[Tensor]] | None = None

    def renew(self, memory: Memory, generator: np.random.Generator) -> dict[str, float]:
        """Renew the snapshot if it is due; returns metrics.

        It is due `refresh_frames` after the last check, if the keys of 256 rows have drifted by at
        least `refresh_drift` since: 1 - the mean cosine of old and new keys.
        """
        frame = memory.n_written
        if self._taken_at < 0:
            self._take(frame)
            self._looked_at = frame
        if 0 <= frame - self._looked_at < self.refresh_frames:
            return {"key_age": float(frame - self._taken_at), "key_drift": self.drift}
        self._looked_at = frame
        rows = memory.sample_rows(_N_DRIFT_ROWS, generator)
        fresh = self._key(self.averaged_encoder, self.averaged_head, memory.observations(rows))
        cosines = (fresh.cpu().numpy() * self.table.keys(memory, rows)).sum(axis=1)
        self.drift = max(0.0, 1.0 - float(cosines.mean()))
        if self.drift >= self.refresh_drift:
            self._take(frame)
        return {"key_age": float(frame - self._taken_at), "key_drift": self.drift}

    def _take(self, frame: int) -> None:
        self.snapshot_encoder.copy_from(self.averaged_encoder)
        self.snapshot_head.load_state_dict(self.averaged_head.state_dict())
        self.table.clear()
        self._taken_at = frame
        self.snapshot += 1

    def keys(self, memory: Memory, rows: np.ndarray) -> np.ndarray:
        """(n, D) float32, of length 1."""
        return self.table.keys(memory, rows)

    def step(self, head: nn.Module) -> None:
        """Update both moving averages."""
        self.averaged_encoder.update()
        if self._head_pairs is None or self._head_pairs[0] is not head:
            self._head_pairs = head, list(self.averaged_head.parameters()), list(head.parameters())
        _, averaged, followed = self._head_pairs
        with torch.no_grad():
            torch._foreach_lerp_(averaged, followed, 1.0 - self.momentum)

    def _encode(self, observations: Observations) -> np.ndarray:
        keys: np.ndarray = (
            self._key(self.snapshot_encoder, self.snapshot_head, observations).cpu().numpy()
        )
        return keys

    @torch.no_grad()
    def _key(self, encoder: AveragedEncoder, head: nn.Module, observations: Observations) -> Tensor:
        keys: Tensor = head(encoder(observations))
        return F.normalize(keys, dim=1)

    def state_arrays(self) -> Mapping[str, np.ndarray]:
        times = np.array([self.snapshot, self._taken_at, self._looked_at], np.int64)
        return {**self.table.state_arrays(), "times": times, "drift": np.array([self.drift])}

    def restore_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.snapshot, taken_at, looked_at = (int(n) for n in arrays["times"])
        if getattr(self.snapshot_encoder, "normalises", False):
            return  # the file lacks its statistics: a new snapshot is taken
        self.table.restore(arrays["hashes"], arrays["keys"])
        self._taken_at, self._looked_at = taken_at, looked_at
        self.drift = float(arrays["drift"][0])


class FrozenKeys(ArraysInState):
    """Keys of a frozen teacher T: each distinct observation is encoded once, and never again.

    A key is T(o) - mean, of length 1, where the mean is T's mean feature over up to 1,024
    observations, taken once (`fix_mean`). With `normalised=False` a key is the feature T(o).
    """

    mean: Tensor
    mean_known: Tensor
    snapshot = 0

    def __init__(self, teacher: Teacher, *, normalised: bool = True) -> None:
        super().__init__()
        self._teacher = [teacher]  # in a list, so that it is not registered as our own
        self._normalised = normalised
        if normalised:
            self.register_buffer("mean", torch.zeros(teacher.n_features))
            self.register_buffer("mean_known", torch.tensor(False))
        self.table = KeyTable(width=teacher.n_features, encode=self._encode)

    def fix_mean(self, memory: Memory, generator: np.random.Generator) -> None:
        """Take the mean over this memory's observations, unless it is known already."""
        if bool(self.mean_known):
            return
        rows = memory.sample_rows(_N_MEAN_ROWS, generator)
        with torch.no_grad():
            self.mean.copy_(self._teacher[0](memory.observations(rows)).mean(dim=0))
            self.mean_known.fill_(True)

    def keys(self, memory: Memory, rows: np.ndarray) -> np.ndarray:
        """(n, D) float32."""
        return self.table.keys(memory, rows)

    @torch.no_grad()
    def _encode(self, observations: Observations) -> np.ndarray:
        features = self._teacher[0](observations)
        if self._normalised:
            features = F.normalize(features - self.mean, dim=1)
        keys: np.ndarray = features.cpu().numpy()
        return keys

    def state_arrays(self) -> Mapping[str, np.ndarray]:
        """The keys computed so far, with the hashes of their observations."""
        return self.table.state_arrays()

    def restore_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Put back what `state_arrays` gave."""
        self.table.restore(arrays["hashes"], arrays["keys"])


class LearnerInsight:
    """Keys and prediction errors of one memory's rows, for the samplers of negatives."""

    def __init__(self, memory: Memory, keys: AveragedKeys | FrozenKeys, learner: Learner) -> None:
        self._memory = memory
        self._keys = keys
        self._learner = learner

    @property
    def snapshot(self) -> int:
        """Changes when the keys do."""
        return self._keys.snapshot

    def keys(self, rows: np.ndarray) -> np.ndarray:
        """(n, D) float32, of length 1."""
        return self._keys.keys(self._memory, rows)

    def errors(self, rows: np.ndarray) -> np.ndarray:
        """(n,) float32 >= 0: see `Learner.prediction_errors`."""
        return self._learner.prediction_errors(self._memory, rows)
