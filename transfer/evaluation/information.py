"""Measure the mutual information of an agent's features with the future and with its source."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback

from contrastive_distillation.agents import FrozenTeacher, ObservationEncoder, find_encoder
from contrastive_distillation.losses import (
    Deduplicated,
    as_vectors,
    draw_later_pairs,
    mutual_information,
)
from contrastive_distillation.memory import Memory, Observations

from ..run_directory.directory import INFORMATION
from ..run_directory.logger import note_scalars
from ..settings.spec import TrainingSpec
from .curves import InformationPoint, write_points
from .evaluation_callback import EvaluationCallback

QUANTITIES = ("future", "source")
"""Partners of the features: a later observation, and the features of the source's encoder."""

_N_ROWS = 12_288  # critics fitted to 1,024 rows did not generalise to other episodes
_N_UPDATES = 300


def measure_information(
    memory: Memory,
    encoder: ObservationEncoder,
    source: FrozenTeacher | None,
    *,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Lower bounds on the mutual information of an agent's features, for every arm alike.

    The rows are those of the agent's memory, and the partners of its features are a later
    observation of the same episode (``future``) and the features of its source's encoder
    (``source``). The agent and the global random generators are left unchanged. See
    `losses.mutual_information`.

    Args:
        memory: the agent's memory.
        encoder: the agent's encoder.
        source: the source's encoder, if the agent has a source.
        seed: seeds the rows and the critics.

    Returns:
        Environment id → ``future`` and, with a source, ``source``, in nats, and ``cap``, the
        largest bound that the number of negatives allows. Environments with too few episodes are
        missing.
    """
    if len(memory) == 0:
        return {}
    pairs = draw_later_pairs(memory, _N_ROWS, np.random.default_rng(seed))
    if len(pairs.rows) == 0:
        return {}
    observations, inverse = _distinct(memory, pairs.rows)
    later, inverse_later = _distinct(memory, pairs.later_rows)
    with torch.no_grad():
        features = Deduplicated(encoder(observations).cpu().numpy(), inverse)
    partners = {"future": Deduplicated(as_vectors(later), inverse_later)}
    if source is not None:
        partners["source"] = Deduplicated(source(observations).cpu().numpy(), inverse)
    found: dict[str, dict[str, Any]] = {}
    for name, partner in partners.items():
        bounds = mutual_information(
            features, partner, pairs.episodes, pairs.tasks, seed=seed, n_updates=_N_UPDATES
        )
        for task, bound in bounds.items():
            entry = found.setdefault(memory.tasks[task], {})
            entry[name] = round(float(bound.nats), 4)
            entry["cap"] = round(float(bound.cap), 4)
    return found


def _distinct(memory: Memory, rows: np.ndarray) -> tuple[Observations, np.ndarray]:
    """The distinct observations of rows, and for each row the index of its observation."""
    _, first, inverse = np.unique(memory.hashes(rows), return_index=True, return_inverse=True)
    return memory.observations(rows[first]), inverse


class InformationProbe(BaseCallback):
    """Measures information at evenly spaced frames of a training, the last time at its end.

    It measures at the start of the first rollout at or after each due frame, and leaves the
    training unchanged. In the list of callbacks it comes after `EvaluationCallback`, which may end
    the training, and before the callback that writes checkpoints.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        directory: Path,
        *,
        evaluation: EvaluationCallback,
        weights: Mapping[str, torch.Tensor] | None,
    ) -> None:
        """Args: evaluation: whose memory is measured. weights: of the source, if any."""
        super().__init__()
        self._spec = spec
        self._path = directory / INFORMATION
        self._evaluation = evaluation
        self._weights = weights
        n_points = spec.runtime.information_points
        self._due = [spec.task.frames * i // n_points for i in range(1, n_points)]
        self._source: FrozenTeacher | None = None
        self.points: list[InformationPoint] = []
        """The measurements so far, as in the run's ``information.csv``."""
        self.seconds = 0.0
        """Time spent on measuring."""
        self._measured_at = 0

    def state(self) -> dict[str, Any]:
        """The state that a checkpoint keeps, as plain values."""
        return {
            "frames": self._measured_at,
            "points": [asdict(point) for point in self.points],
            "seconds": self.seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned, after a way through JSON."""
        self.seconds = state["seconds"]
        self.points = [InformationPoint(**point) for point in state["points"]]
        self._measured_at = state["frames"]
        self._due = [frames for frames in self._due if frames > self._measured_at]
        write_points(self._path, InformationPoint, self.points)

    def _on_rollout_start(self) -> None:
        if self._evaluation.ends:  # due measurements follow at the end, or on resume
            return
        if self._due and self.num_timesteps >= self._due[0]:
            self._due = [frames for frames in self._due if frames > self.num_timesteps]
            self._measure(self.num_timesteps)

    def _on_step(self) -> bool:
        return True

    def measure_at_end(self) -> dict[str, dict[str, Any]]:
        """Measure the finished agent; what `measure_information` returns."""
        return self._measure(self._evaluation.frames)

    def _measure(self, frames: int) -> dict[str, dict[str, Any]]:
        started = time.perf_counter()
        if self._source is None and self._weights is not None:
            self._source = FrozenTeacher.from_weights(self._weights, like=self.model)
        encoder, _ = find_encoder(self.model)
        found = measure_information(
            self._evaluation.memory, encoder, self._source, seed=self._spec.seed
        )
        self._measured_at = frames
        fresh = [
            InformationPoint.of(
                self._spec,
                env_id=env_id,
                frames=frames,
                quantity=quantity,
                nats=bounds[quantity],
                cap=bounds["cap"],
            )
            for env_id, bounds in found.items()
            for quantity in QUANTITIES
            if quantity in bounds
        ]
        self.points += fresh
        write_points(self._path, InformationPoint, self.points)
        scalars = {f"information/{point.env_id}/{point.quantity}": point.nats for point in fresh}
        note_scalars(self.logger, scalars, frames=frames)
        self.seconds += time.perf_counter() - started
        return found
