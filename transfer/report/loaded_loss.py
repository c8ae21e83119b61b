"""Loads the loss and the memory of a finished training."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F

from contrastive_distillation.agents import AuxiliaryLossCallback, read_weights
from contrastive_distillation.losses import ContrastiveDistillation, Learner
from contrastive_distillation.memory import Memory

from ..evaluation.trained_agent import load_agent
from ..run_directory.directory import (
    AUXILIARY,
    CONFIG,
    RunDirectoryError,
    agent_file,
    read_config,
)
from ..settings.spec import TrainingSpec
from ..training.train import join_loss, source_directory
from .labels import CANDIDATE


@dataclass(frozen=True, kw_only=True)
class LoadedLoss:
    """A loss with its heads and keys, the agent it was trained with, and the memories."""

    env_id: str
    loss: ContrastiveDistillation
    learner: Learner
    memory: Memory
    source_memory: Memory | None


def is_contrastive(directory: Path) -> bool:
    """Whether a training used contrastive distillation and saved its loss."""
    if not (directory / AUXILIARY).is_file():
        return False
    return bool(read_config(directory).get("loss") == CANDIDATE)


def load_loss(directory: Path) -> LoadedLoss:
    """Load the loss of a training with contrastive distillation, without unpickling.

    Raises:
        ValueError: the training used another loss, or a file is missing or broken.
    """
    config = read_config(directory)
    if not is_contrastive(directory):
        raise RunDirectoryError(f"{directory}: has no {AUXILIARY} of {CANDIDATE}")
    source = config["resolved"]["source"]
    is_ours = source is not None and (directory / source / CONFIG).is_file()
    spec = TrainingSpec.from_config(config, name="", arms=("",), needs=source if is_ours else None)
    agent = load_agent(directory)
    try:
        found = source_directory(spec, directory)
        weights = None
        if found is not None:
            weights = read_weights(agent_file(found, spec.source.checkpoint))
        fresh = join_loss(spec, found, agent.model, weights)
    except OSError as error:
        raise RunDirectoryError(f"{directory}: its source cannot be read: {error}") from None
    assert isinstance(fresh, AuxiliaryLossCallback)
    joined = AuxiliaryLossCallback.load(
        directory / AUXILIARY, loss=fresh.loss, weight=0.0, source_memory=fresh.source_memory
    )
    joined.init_callback(agent.model)
    loss = cast(ContrastiveDistillation, joined.loss)
    if not loss.has_target_term:
        raise RunDirectoryError(f"{directory}: its loss has no target term")
    assert joined.learner is not None
    return LoadedLoss(
        env_id=spec.task.env_ids[0],
        loss=loss,
        learner=joined.learner,
        memory=joined.memory,
        source_memory=joined.source_memory,
    )


def embed_anchors(loaded: LoadedLoss, observations: object) -> np.ndarray:
    """Embeddings of observations that the loss compares with its keys: (n, D) float32 of norm 1."""
    learner, head = loaded.learner, loaded.loss.target_head
    with torch.no_grad():
        found = F.normalize(head(learner.encoder(observations)), dim=1)  # type: ignore[arg-type]
    vectors: np.ndarray = found.cpu().numpy()
    return vectors
