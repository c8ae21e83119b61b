"""Load a trained agent, for the commands `evaluate` and `watch`."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from stable_baselines3.common.base_class import BaseAlgorithm

from contrastive_distillation.agents import build_agent, read_weights
from contrastive_distillation.envs import Suite, make_vec

from ..console import plain_table, say, show
from ..run_directory.atomic_files import write_json
from ..run_directory.directory import FINAL, INTERRUPTED, Chosen, RunDirectoryError, agent_file
from ..settings.commands import EvaluateSettings
from ..settings.source_run import read_spec
from ..settings.spaces import compare_all
from ..settings.suite import raw_returns
from .evaluation_callback import measures, play_once
from .schedule import EVALUATE_INDEX

EVALUATION = "evaluation.json"


@dataclass(frozen=True, kw_only=True)
class TrainedAgent:
    """The agent of a run, with the settings of its environments."""

    model: BaseAlgorithm
    suite: Suite
    env_ids: tuple[str, ...]
    mission: bool
    file: Path
    """The zip of its weights, in the run directory."""

    @property
    def is_whole(self) -> bool:
        """False for the last agent of a run that was interrupted."""
        return self.file.name != Path(INTERRUPTED).name


def load_agent(
    directory: Path, env_ids: tuple[str, ...] = (), *, checkpoint: Chosen = "final"
) -> TrainedAgent:
    """Rebuild a run's agent from its settings and its weights; nothing is unpickled.

    Args:
        directory: the directory of a run with one agent.
        env_ids: environments for the agent; by default those of the run.
        checkpoint: "final", of an interrupted run the last one; or "best", the one with the highest
            score during training.

    Raises:
        ValueError: the run or the checkpoint does not exist, its weights are broken or do not fit
            its settings, the agent does not fit the environments, or another user's run names a
            module to import.
    """
    spec = read_spec(directory, typed=env_ids)
    path = directory / INTERRUPTED
    if checkpoint == "best" or not path.is_file() or (directory / FINAL).is_file():
        path = agent_file(directory, checkpoint)
    own_ids, suite, mission = spec.task.env_ids, spec.task.suite, spec.task.mission
    for env_id in env_ids:
        suite.task(env_id)
    compare_all(suite, own_ids[0], env_ids, mission)
    env = make_vec(own_ids[:1], 1, 0, "gymnasium", observation=suite.observation, mission=mission)
    gamma: dict[str, Any] = {} if spec.agent.gamma is None else {"gamma": spec.agent.gamma}
    model = build_agent(spec.agent.name, env, seed=spec.seed, **gamma)
    weights = read_weights(path)
    try:
        model.policy.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise RunDirectoryError(f"{path}: does not fit its own settings: {error}") from None
    return TrainedAgent(
        model=model,
        suite=suite,
        env_ids=env_ids or own_ids,
        mission=mission,
        file=path,
    )


def evaluate(agent: TrainedAgent, settings: EvaluateSettings, console: Console) -> None:
    """Play complete episodes, print their returns, and add them to ``evaluation.json``."""
    played = play_once(
        agent.model,
        agent.suite,
        agent.env_ids,
        backend=settings.backend,
        mission=agent.mission,
        n_episodes=settings.episodes,
        seed=settings.seed,
        index=EVALUATE_INDEX,
    )
    rows: dict[str, Mapping[str, Any]] = {
        episodes.env_id: {
            **measures(agent.suite, episodes),
            "length_mean": float(episodes.lengths.mean()),
            "backend": episodes.backend,
        }
        for episodes in played
    }
    path = Path(settings.run) / EVALUATION
    file = agent.file.name
    _append(path, {"seed": settings.seed, "checkpoint": file, "environments": rows})
    say(console, f"Agent: {agent.file}")
    if not agent.is_whole:
        say(console, "This run was interrupted: the agent has not finished its training.")
    tasks = [agent.suite.task(env_id) for env_id in rows]
    unknown = [task.env_id for task in tasks if task.return_range is None]
    show(console, _table(rows, without_score=unknown))
    if unknown:
        say(console, raw_returns(unknown))
    say(console, str(path), style="bold")


def _append(path: Path, evaluation: Mapping[str, Any]) -> None:
    """Append an evaluation to the file; one that cannot be read is replaced."""
    earlier = []
    if path.is_file():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            earlier = json.loads(path.read_text(encoding="utf-8"))["evaluations"]
    write_json(path, {"evaluations": [*earlier, evaluation]})


def _table(rows: Mapping[str, Mapping[str, Any]], *, without_score: Sequence[str]) -> Table:
    table = plain_table()
    table.add_column("environment", overflow="fold", min_width=30)
    for heading in ("score", "return", "successes", "length", "episodes"):
        table.add_column(heading, justify="right")
    for env_id, row in rows.items():
        table.add_row(
            env_id,
            "–" if env_id in without_score else f"{row['score']:.2f}",
            f"{row['return_mean']:.2f} ± {row['return_std']:.2f}",
            "–" if row["success_rate"] is None else f"{100 * row['success_rate']:.0f} %",
            f"{row['length_mean']:.0f}",
            str(row["episodes"]),
        )
    return table
