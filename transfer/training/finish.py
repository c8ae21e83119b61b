"""What a training leaves behind when it ends: its files, and the result, which comes last."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from contrastive_distillation.agents import RecordMemory, policy_sha256
from contrastive_distillation.memory import Memory

from ..evaluation.evaluation_callback import EvaluationCallback, measures, play
from ..evaluation.evaluator import Evaluator
from ..evaluation.information import InformationProbe
from ..evaluation.schedule import (
    FINAL_INDEX,
    RETENTION_INDEX,
    episodes_at_end,
    episodes_for_retention,
)
from ..run_directory.atomic_files import write_with
from ..run_directory.directory import AUXILIARY, FINAL, INTERRUPTED, MEMORY, RESULT, write_json
from ..run_directory.logger import note_scalars
from ..settings.spec import TrainingSpec


def save_agent(
    directory: Path,
    model: BaseAlgorithm,
    auxiliary: RecordMemory,
    *,
    with_loss: bool,
    whole: bool,
) -> None:
    """Save agent, memory and loss, each file at once; `whole` where the training has ended."""
    path = directory / (FINAL if whole else INTERRUPTED)
    write_with(path, model.save)
    write_with(directory / MEMORY, auxiliary.memory.save)
    if with_loss:
        write_with(directory / AUXILIARY, auxiliary.save)
    if whole:
        (directory / INTERRUPTED).unlink(missing_ok=True)


def finish(
    spec: TrainingSpec,
    directory: Path,
    model: BaseAlgorithm,
    evaluation: EvaluationCallback,
    probe: InformationProbe,
    source_ids: Sequence[str],
) -> None:
    """Judge the agent in the reference environment, and write the result.

    Args:
        source_ids: the environments its source learnt: what is left of them is judged too.
    """
    started = time.perf_counter()
    final = evaluate_at_end(spec, model, evaluation)
    retention = evaluate_on_sources(spec, model, source_ids)
    evaluation_seconds = evaluation.seconds + time.perf_counter() - started
    apart = evaluation.seconds + evaluation.saving_seconds + probe.seconds
    learning = evaluation.whole_seconds - apart
    information = probe.measure_at_end()
    scores = {f"final/{env_id}/score": entry["score"] for env_id, entry in final.items()}
    scores |= {f"retention/{env_id}/score": e["score"] for env_id, e in retention.items()}
    note_scalars(model.logger, scores, frames=evaluation.frames)
    write_json(
        directory / RESULT,
        {
            "weights_sha256": policy_sha256(model),
            "frames": evaluation.frames,
            **({"counted_from": spec.source.extra_frames} if spec.source.extra_frames else {}),
            "frames_per_second": round(evaluation.frames / learning, 1),
            "seconds": round(learning + evaluation_seconds + evaluation.saving_seconds, 3),
            "evaluation_seconds": round(evaluation_seconds, 3),
            "checkpoint_seconds": round(evaluation.saving_seconds, 3),
            "learnt": evaluation.learnt,
            "scores": evaluation.scores,
            "final": final,
            "retention": retention,
            "information": information,
            "information_seconds": round(probe.seconds, 3),
        },
    )


def evaluate_at_end(
    spec: TrainingSpec, model: BaseAlgorithm, evaluation: EvaluationCallback
) -> dict[str, dict[str, Any]]:
    """Environment id → score and returns in the reference environment."""
    n_episodes = episodes_at_end(spec.task.frames, evaluation.outlook)
    return _judge(
        spec, model, spec.task.env_ids, n_episodes, index=FINAL_INDEX, memory=evaluation.memory
    )


def evaluate_on_sources(
    spec: TrainingSpec, model: BaseAlgorithm, source_ids: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The same for what the agent's source learnt, before which the target came; few episodes."""
    if not source_ids:
        return {}
    longest = [spec.task.suite.task(env_id).max_episode_steps for env_id in source_ids]
    n_episodes = episodes_for_retention(spec.task.frames, longest)
    return _judge(spec, model, source_ids, n_episodes, index=RETENTION_INDEX)


def _judge(
    spec: TrainingSpec,
    model: BaseAlgorithm,
    env_ids: Sequence[str],
    n_episodes: int,
    *,
    index: int,
    memory: Memory | None = None,
) -> dict[str, dict[str, Any]]:
    evaluator = Evaluator(
        env_ids=env_ids,
        backend="gymnasium",
        observation=spec.task.suite.observation,
        mission=spec.task.mission,
    )
    try:
        return {
            episodes.env_id: {
                **measures(spec.task.suite, episodes),
                "episodes": len(episodes.returns),
                "backend": episodes.backend,
            }
            for episodes in play(
                model,
                evaluator,
                n_episodes=n_episodes,
                seed=spec.seed,
                index=index,
                memory=memory,
            )
        }
    finally:
        evaluator.close()
