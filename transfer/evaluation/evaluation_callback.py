"""The callback that evaluates an agent at fixed frames while it learns."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from contrastive_distillation.envs import Suite, Task
from contrastive_distillation.memory import EpisodicMemory, Memory

from ..run_directory.atomic_files import write_with
from ..run_directory.directory import BEST, CURVES
from ..run_directory.logger import note_scalars
from ..settings.spec import TrainingSpec
from .curves import CurvePoint, write_points
from .evaluator import Episodes, Evaluator, own_randomness
from .policies import policy_of
from .schedule import Outlook, episodes_during_training, evaluation_frames

Report = Callable[[int], None]
"""Receives the number of frames done so far."""
Stop = Callable[[], bool]
"""Returns whether the training should stop now."""

_SECONDS_BETWEEN_REPORTS = 0.25


@dataclass(frozen=True)
class BestEvaluation:
    """The evaluation with the highest mean score during training; the later of equal ones."""

    frames: int
    score: float


class EvaluationCallback(BaseCallback):
    """Plays evaluation episodes at fixed frames and writes ``curves.csv``.

    An evaluation takes place at the start of the first rollout at or after each due frame, and at
    the end of the training; it leaves the training's random generators unchanged. When `stop`
    returns True, the current rollout is finished and learnt from before the training ends. With
    ``until_learnt``, the training ends when the score of every environment reaches the suite's
    threshold, in one evaluation and in a second one with other episodes.

    The agent of the best evaluation so far is saved as ``checkpoints/best.zip``. The same episodes
    chose it, so its score there is too high on average: `finish` plays others to report one.
    """

    def __init__(
        self, spec: TrainingSpec, directory: Path, *, memory: Memory, report: Report, stop: Stop
    ) -> None:
        """Args: memory: the agent's memory, which is only read."""
        super().__init__()
        self._spec = spec
        self.memory = memory
        self._path = directory / CURVES
        self._best_path = directory / BEST
        self._report = report
        self._stop = stop
        longest = [spec.task.suite.task(env_id).max_episode_steps for env_id in spec.task.env_ids]
        self._due = evaluation_frames(spec.task.frames, longest, extra=spec.source.extra_frames)
        self.outlook = Outlook.at_first(longest, trained=spec.source.directory is not None)
        """The expected length and success of the next round of episodes."""
        self._n_rounds = 0
        self._last_report = -np.inf
        self._started = time.perf_counter()
        self._evaluator = Evaluator(
            env_ids=spec.task.env_ids,
            backend=spec.task.backend,
            observation=spec.task.suite.observation,
            mission=spec.task.mission,
        )
        self.points: list[CurvePoint] = []
        """The learning curve so far, also in the run's ``curves.csv``."""
        self.best: BestEvaluation | None = None
        """The evaluation whose agent is saved as best; None before the first one."""
        self.seconds = 0.0
        """Time spent on evaluation."""
        self.saving_seconds = 0.0
        """Time spent on writing checkpoints, which counts as neither learning nor evaluation."""
        self.stopped = False
        """Whether `stop` ended the training; its last rollout is then finished."""
        self._asked_to_stop = False
        self.learnt: dict[str, bool | None] = dict.fromkeys(spec.task.env_ids, False)
        """Environment id → whether its score reached the threshold in the last evaluation; None
        if there is no threshold."""
        self._ends_early = False
        self._elapsed = 0.0

    def close(self) -> None:
        """Close the environments of the evaluation."""
        self._evaluator.close()

    @property
    def frames(self) -> int:
        """Frames done at the last evaluation."""
        return self.points[-1].frames if self.points else 0

    @property
    def whole_seconds(self) -> float:
        """Time since the training started, without interruptions."""
        return time.perf_counter() - self._started

    @property
    def mean_score(self) -> float | None:
        """Mean score of the last evaluation; None before the first one."""
        scores = self.scores.values()
        return sum(scores) / len(scores) if scores else None

    @property
    def ends(self) -> bool:
        """Whether the training ends here: `stop` returned True, or everything is learnt."""
        return self.stopped or self._ends_early

    def state(self) -> dict[str, Any]:
        """The state that a checkpoint keeps, as plain values; there was an evaluation."""
        assert self.best is not None
        return {
            "due": self._due,
            "n_rounds": self._n_rounds,
            "outlook": asdict(self.outlook),
            "points": [asdict(point) for point in self.points],
            "seconds": self.seconds,
            "saving_seconds": self.saving_seconds,
            "elapsed": self.whole_seconds,
            "learnt": self.learnt,
            "best": asdict(self.best),
            "ends_early": self._ends_early,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned, after a way through JSON."""
        self._due = state["due"]
        self._n_rounds = state["n_rounds"]
        outlook = state["outlook"]
        self.outlook = Outlook(lengths=tuple(outlook["lengths"]), scored=outlook["scored"])
        self.points = [CurvePoint(**point) for point in state["points"]]
        self.seconds = state["seconds"]
        self.saving_seconds = state["saving_seconds"]
        self._elapsed = state["elapsed"]
        self.learnt = state["learnt"]
        self.best = BestEvaluation(**state["best"])
        self._ends_early = state["ends_early"]
        write_points(self._path, CurvePoint, self.points)

    @property
    def scores(self) -> dict[str, float]:
        """Environment id → its score in the last evaluation."""
        return {point.env_id: point.score for point in self.points[-len(self._spec.task.env_ids) :]}

    @classmethod
    def score_before(
        cls, spec: TrainingSpec, directory: Path, model: BaseAlgorithm
    ) -> list[CurvePoint]:
        """One evaluation of a model before anything else happens to it."""
        memory = EpisodicMemory(capacity=1)
        callback = cls(spec, directory, memory=memory, report=lambda _: None, stop=lambda: False)
        with contextlib.closing(callback):
            callback.model = model
            return callback._play()

    def begin_realigned(self, carried: list[CurvePoint], *, frames: int) -> None:
        """Begin the curve of an agent that was realigned before it learns.

        Its score stays that of the carried agent until the frames of gathering are over: a step.

        Args:
            carried: the evaluation of the agent as it was carried over.
            frames: of gathering.
        """
        self._n_rounds = 1
        self.points = list(carried)
        if frames > 1:
            self.points += [replace(point, frames=frames - 1) for point in carried]

    def evaluate_untrained(self, model: BaseAlgorithm) -> None:
        """Evaluate an agent that will not learn."""
        self.init_callback(model)
        self.num_timesteps = model.num_timesteps
        self._started = time.perf_counter()
        self._evaluate()

    def _on_training_start(self) -> None:
        self._started = time.perf_counter() - self._elapsed

    def _on_rollout_start(self) -> None:
        self.stopped = self._asked_to_stop
        if self.stopped:  # the resumed training evaluates what is due
            return
        if self._due and self.num_timesteps >= self._due[0]:
            self._due = [frames for frames in self._due if frames > self.num_timesteps]
            if not self._ends_early:
                self._evaluate()

    def _on_step(self) -> bool:
        now = time.perf_counter()
        if now - self._last_report >= _SECONDS_BETWEEN_REPORTS:
            self._last_report = now
            self._report(self.num_timesteps)
            self._asked_to_stop = self._asked_to_stop or self._stop()
        return not self.ends

    def _on_training_end(self) -> None:
        if not self.ends and self.frames < self.num_timesteps:
            self._evaluate()

    def _evaluate(self) -> None:
        started = time.perf_counter()
        points = self._play()
        self.points += points
        self.learnt = self._reaches_threshold(points)
        self._keep_if_best()
        if self._spec.task.until_learnt and self.num_timesteps > 0 and all(self.learnt.values()):
            self.learnt = self._reaches_threshold(self._play())
            self._ends_early = all(self.learnt.values())
        write_points(self._path, CurvePoint, self.points)
        scalars = {
            f"evaluation/{point.env_id}/{name}": getattr(point, name)
            for point in points
            for name in ("score", "return_mean", "success_rate")
            if getattr(point, name) is not None
        }
        note_scalars(self.logger, scalars, frames=self.num_timesteps)
        self.seconds += time.perf_counter() - started

    def _keep_if_best(self) -> None:
        score = self.mean_score
        assert score is not None
        if self.best is None or score >= self.best.score:
            write_with(self._best_path, self.model.save)
            self.best = BestEvaluation(self.num_timesteps, score)

    def _play(self) -> list[CurvePoint]:
        """Play one round of episodes; no two rounds play the same ones."""
        spec = self._spec
        played = play(
            self.model,
            self._evaluator,
            memory=self.memory,
            n_episodes=episodes_during_training(spec.task.frames, self.outlook),
            seed=spec.seed,
            index=self._n_rounds,
        )
        self._n_rounds += 1
        seconds = round(self.whole_seconds, 3)
        points = [
            CurvePoint.of(
                spec,
                env_id=episodes.env_id,
                frames=self.num_timesteps,
                wall_seconds=seconds,
                **measures(spec.task.suite, episodes),
            )
            for episodes in played
        ]
        self.outlook = Outlook(
            lengths=tuple(float(episodes.lengths.mean()) for episodes in played),
            scored=any(
                point.score > 0 or self._task(point).return_range is None for point in points
            ),
        )
        return points

    def _reaches_threshold(self, points: list[CurvePoint]) -> dict[str, bool | None]:
        threshold = self._spec.task.suite.learnt_score
        return {p.env_id: self._task(p).is_learnt(p.score, threshold) for p in points}

    def _task(self, point: CurvePoint) -> Task:
        return self._spec.task.suite.task(point.env_id)


def play(
    model: BaseAlgorithm,
    evaluator: Evaluator,
    *,
    n_episodes: int,
    seed: int,
    index: int,
    memory: Memory | None = None,
) -> list[Episodes]:
    """Play one round of episodes; the global random generators are left unchanged."""
    with own_randomness(seed * 1_000_003 + index, model.device) as own_seed:
        act = policy_of(model, seed=own_seed, memory=memory)
        return evaluator.play(act, n_episodes=n_episodes, seed=seed, index=index)


def play_once(
    model: BaseAlgorithm,
    suite: Suite,
    env_ids: Sequence[str],
    *,
    backend: str,
    mission: bool,
    n_episodes: int,
    seed: int,
    index: int,
    memory: Memory | None = None,
) -> list[Episodes]:
    """Play one round of episodes in environments that are closed afterwards."""
    evaluator = Evaluator(
        env_ids=env_ids, backend=backend, observation=suite.observation, mission=mission
    )
    with contextlib.closing(evaluator):
        return play(model, evaluator, n_episodes=n_episodes, seed=seed, index=index, memory=memory)


def measures(suite: Suite, episodes: Episodes) -> dict[str, Any]:
    """Score, mean and standard deviation of the returns, success rate, number of episodes.

    The success rate is None if the return of a success is unknown.
    """
    task = suite.task(episodes.env_id)
    return {
        "score": float(np.mean(task.score(episodes.returns))),
        "return_mean": float(np.mean(episodes.returns)),
        "return_std": float(np.std(episodes.returns)),
        "success_rate": None
        if task.success_return is None
        else float(np.mean(episodes.returns >= task.success_return)),
        "episodes": len(episodes.returns),
    }
