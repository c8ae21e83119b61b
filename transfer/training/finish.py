"""Save the trained agent, evaluate it a last time, and write ``result.json``."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from contrastive_distillation.agents import RecordMemory, policy_sha256, read_weights
from contrastive_distillation.memory import Memory

from ..evaluation.evaluation_callback import EvaluationCallback, measures, play_once
from ..evaluation.information import InformationProbe
from ..evaluation.schedule import (
    FINAL_INDEX,
    RETENTION_INDEX,
    episodes_at_end,
    episodes_for_retention,
)
from ..run_directory.atomic_files import write_json, write_with
from ..run_directory.directory import AUXILIARY, BEST, FINAL, INTERRUPTED, MEMORY, RESULT
from ..run_directory.logger import note_scalars
from ..settings.spec import TrainingSpec


def save_agent(
    spec: TrainingSpec,
    directory: Path,
    model: BaseAlgorithm,
    auxiliary: RecordMemory,
    *,
    finished: bool,
) -> None:
    """Save agent, memory and loss; an agent that has not finished is saved as interrupted."""
    write_with(directory / (FINAL if finished else INTERRUPTED), model.save)
    write_with(directory / MEMORY, auxiliary.memory.save)
    if spec.loss.name != "none":
        write_with(directory / AUXILIARY, auxiliary.save)
    if finished:
        (directory / INTERRUPTED).unlink(missing_ok=True)


def finish(
    spec: TrainingSpec,
    directory: Path,
    model: BaseAlgorithm,
    evaluation: EvaluationCallback,
    information: InformationProbe,
    source_ids: Sequence[str],
    *,
    gathered: int = 0,
) -> None:
    """Evaluate the agent in the reference environments, and write the result.

    Args:
        spec: the training.
        directory: the run directory.
        model: the trained agent.
        evaluation: holds the learning curve.
        information: measures the features a last time.
        source_ids: the environments of its source, in which its retention is measured.
        gathered: its first frames, of which it learnt nothing from a reward.
    """
    task = spec.task

    def evaluate(
        env_ids: Sequence[str], n_episodes: int, index: int, memory: Memory | None = None
    ) -> dict[str, dict[str, Any]]:
        played = play_once(
            model,
            task.suite,
            env_ids,
            backend="gymnasium",
            mission=task.mission,
            n_episodes=n_episodes,
            seed=spec.seed,
            index=index,
            memory=memory,
        )
        return {
            episodes.env_id: {
                **measures(task.suite, episodes),
                "backend": episodes.backend,
                "is_raw": task.suite.task(episodes.env_id).return_range is None,
            }
            for episodes in played
        }

    started = time.perf_counter()
    n_episodes = episodes_at_end(task.frames, evaluation.outlook)
    final = evaluate(task.env_ids, n_episodes, FINAL_INDEX, evaluation.memory)
    assert evaluation.best is not None
    best: dict[str, Any] = {"frames": evaluation.best.frames}
    if evaluation.best.frames == evaluation.frames:
        best["final"] = final
    elif spec.role == "source":  # a target's best agent is saved, not evaluated again
        weights = model.policy.state_dict()
        weights = {name: values.clone() for name, values in weights.items()}
        model.policy.load_state_dict(read_weights(directory / BEST))
        best["final"] = evaluate(task.env_ids, n_episodes, FINAL_INDEX, evaluation.memory)
        model.policy.load_state_dict(weights)
    retention = {}
    if source_ids:
        longest = [task.suite.task(env_id).max_episode_steps for env_id in source_ids]
        n_episodes = episodes_for_retention(task.frames, longest)
        retention = evaluate(source_ids, n_episodes, RETENTION_INDEX)
    evaluation_seconds = evaluation.seconds + time.perf_counter() - started
    apart = evaluation.seconds + evaluation.saving_seconds + information.seconds
    learning = evaluation.whole_seconds - apart
    measured = information.measure_at_end()
    scores = {f"final/{env_id}/score": entry["score"] for env_id, entry in final.items()}
    scores |= {f"retention/{env_id}/score": e["score"] for env_id, e in retention.items()}
    note_scalars(model.logger, scores, frames=evaluation.frames)
    write_json(
        directory / RESULT,
        {
            "weights_sha256": policy_sha256(model),
            "frames": evaluation.frames,
            **({"counted_from": spec.source.extra_frames} if spec.source.extra_frames else {}),
            **({"gathered": gathered} if gathered else {}),
            "frames_per_second": round(evaluation.frames / max(learning, 1e-3), 1),
            "seconds": round(learning + evaluation_seconds + evaluation.saving_seconds, 3),
            "evaluation_seconds": round(evaluation_seconds, 3),
            "checkpoint_seconds": round(evaluation.saving_seconds, 3),
            "learnt": evaluation.learnt,
            "scores": evaluation.scores,
            "final": final,
            "best": best,
            "retention": retention,
            "information": measured,
            "information_seconds": round(information.seconds, 3),
        },
    )
