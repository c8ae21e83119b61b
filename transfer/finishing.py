"""What a training leaves behind when it ends: its files, and the result, which comes last."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from contrastive_distillation.agents import AuxiliaryLossCallback, FrozenTeacher, policy_sha256

from .cells import Cell
from .checkpoints import Checkpoints, measures, play
from .durable import write_with
from .evaluation import Evaluator
from .information import measure_information
from .protocol import FINAL_INDEX, episodes_at_end
from .runs import AUXILIARY, FINAL, INTERRUPTED, MEMORY, RESULT, write_json

Weights = Mapping[str, torch.Tensor]


def save_agent(
    directory: Path,
    model: BaseAlgorithm,
    joined: AuxiliaryLossCallback,
    *,
    with_loss: bool,
    whole: bool,
) -> None:
    """Save agent, memory and loss, each file at once; `whole` where the training has ended."""
    path = directory / (FINAL if whole else INTERRUPTED)
    write_with(path, model.save)
    write_with(directory / MEMORY, joined.memory.save)
    if with_loss:
        write_with(directory / AUXILIARY, joined.save)
    if whole:
        (directory / INTERRUPTED).unlink(missing_ok=True)


def finish(
    cell: Cell,
    directory: Path,
    model: BaseAlgorithm,
    joined: AuxiliaryLossCallback,
    checkpoints: Checkpoints,
    weights: Weights | None,
) -> None:
    """Judge the agent in the reference environment, and write the result."""
    started = time.perf_counter()
    final = evaluate_at_end(cell, model)
    evaluation = checkpoints.seconds + time.perf_counter() - started
    learning = checkpoints.whole_seconds - checkpoints.seconds - checkpoints.saving_seconds
    started = time.perf_counter()
    source = None if weights is None else FrozenTeacher.from_weights(weights, like=model)
    information = measure_information(joined, source, seed=cell.seed)
    write_json(
        directory / RESULT,
        {
            "weights_sha256": policy_sha256(model),
            "frames": checkpoints.frames,
            **({"counted_from": cell.extra_frames} if cell.extra_frames else {}),
            "frames_per_second": round(checkpoints.frames / learning, 1),
            "seconds": round(learning + evaluation + checkpoints.saving_seconds, 3),
            "evaluation_seconds": round(evaluation, 3),
            "checkpoint_seconds": round(checkpoints.saving_seconds, 3),
            "learnt": checkpoints.learnt,
            "scores": checkpoints.scores,
            "final": final,
            "information": information,
            "information_seconds": round(time.perf_counter() - started, 3),
        },
    )


def evaluate_at_end(cell: Cell, model: BaseAlgorithm) -> dict[str, dict[str, Any]]:
    """Environment id → score and returns in the reference environment."""
    longest = [cell.suite.task(env_id).max_episode_steps for env_id in cell.env_ids]
    evaluator = Evaluator(
        env_ids=cell.env_ids,
        n_episodes=episodes_at_end(cell.frames, longest),
        backend="gymnasium",
        observation=cell.suite.observation,
        mission=cell.mission,
    )
    try:
        return {
            episodes.env_id: {
                **measures(cell.suite, episodes),
                "episodes": len(episodes.returns),
                "backend": episodes.backend,
            }
            for episodes in play(model, evaluator, seed=cell.seed, index=FINAL_INDEX)
        }
    finally:
        evaluator.close()
