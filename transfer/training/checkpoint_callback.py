"""The callback that writes checkpoints, and lets a training go on from one."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from contrastive_distillation.agents import AuxiliaryLossCallback, RecordMemory
from contrastive_distillation.envs import StateUnavailableError, TaskVecEnv, episode_seed

from ..evaluation.evaluation_callback import EvaluationCallback
from ..evaluation.information import InformationProbe
from ..run_directory.logger import PROGRESS
from ..settings.spec import TrainingSpec
from . import state as training_state
from .checkpoints import Checkpoint, CheckpointError, CheckpointStore, Say, Write

ENVIRONMENTS = "environments.pickle"
AUXILIARY = "auxiliary.safetensors"


class CheckpointCallback(BaseCallback):
    """Writes a checkpoint at a rollout's start, the only moment at which nothing is half done.

    When it is due, and when the training has been asked to stop. Stands last among the callbacks,
    so that what it saves is final; for the same reason it is the one to put the generators back
    when a training goes on.
    """

    def __init__(
        self,
        *,
        store: CheckpointStore,
        every: int,
        env: TaskVecEnv,
        auxiliary: RecordMemory,
        evaluation: EvaluationCallback,
        probe: InformationProbe,
        directory: Path,
        say: Say,
        restore_random: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._store = store
        self._every = every
        self._env = env
        self._auxiliary = auxiliary
        self._evaluation = evaluation
        self._probe = probe
        self._directory = directory
        self._say = say
        self._restore_random = restore_random
        self._last = 0
        self._told = False

    def _on_training_start(self) -> None:
        self._last = self.num_timesteps
        if self._restore_random is not None:
            self._restore_random()

    def _on_rollout_start(self) -> None:
        due = self.num_timesteps // self._every > self._last // self._every
        if (due or self._evaluation.stopped) and self.num_timesteps > self._last:
            self._last = self.num_timesteps
            self._write(self._evaluation.mean_score)

    def _on_step(self) -> bool:
        return True

    def _write(self, score: float | None) -> None:
        started = time.perf_counter()
        model = self.model
        others = {"judged": self._evaluation.state(), "information": self._probe.state()}
        writers: dict[str, Write] = {
            training_state.POLICY: functools.partial(training_state.save_policy, model),
            training_state.OPTIMISER: functools.partial(training_state.save_optimiser, model),
            training_state.ARRAYS: functools.partial(training_state.save_arrays, model),
            training_state.NUMBERS: functools.partial(training_state.save_numbers, model, others),
            AUXILIARY: self._auxiliary.save,
        }
        progress = (self._directory / PROGRESS).read_bytes()
        writers[PROGRESS] = lambda path: path.write_bytes(progress)
        try:
            state = self._env.save_state()
            writers[ENVIRONMENTS] = lambda path: path.write_bytes(state)
        except StateUnavailableError as error:
            if not self._told and "envpool" not in self._env.backend:  # EnvPool never can
                self._say(f"{_reseeded(self._env)} when this training is continued: {error}")
            self._told = True
        self._store.write(writers, frames=self.num_timesteps, score=score, say=self._say)
        self._evaluation.saving_seconds += time.perf_counter() - started


def _reseeded(env: TaskVecEnv) -> str:
    return f"the environments ({', '.join(env.env_ids)}) start new episodes with a new seed"


@dataclass(frozen=True, kw_only=True)
class RestorePoint:
    """A checkpoint to go on from, read and found good."""

    checkpoint: Checkpoint
    state: dict[str, Any]
    trusted: bool
    """Whether its pickled part may be read."""

    @classmethod
    def of(cls, checkpoint: Checkpoint, *, trust: bool) -> "RestorePoint":
        """Read a checkpoint's numbers; `trust` is the user's word for one that they did not sign.

        Raises:
            CheckpointError: they are not what a training writes.
        """
        state = training_state.read_numbers(checkpoint)
        return cls(checkpoint=checkpoint, state=state, trusted=checkpoint.is_own or trust)

    @property
    def progress(self) -> str:
        """What ``progress.csv`` held."""
        return self.checkpoint.read(PROGRESS).decode()

    def restore_auxiliary(self, fresh: RecordMemory, scratch: Path) -> RecordMemory:
        """The callback as it was saved, with the loss and source memory of a fresh one.

        Args:
            fresh: made of the same settings.
            scratch: a file that may be written for a moment.

        Raises:
            CheckpointError: what was saved does not fit.
        """
        try:
            scratch.write_bytes(self.checkpoint.read(AUXILIARY))
            if isinstance(fresh, AuxiliaryLossCallback):
                loaded: RecordMemory = AuxiliaryLossCallback.load(
                    scratch, loss=fresh.loss, weight=fresh.weight, source_memory=fresh.source_memory
                )
            else:
                loaded = RecordMemory.load(scratch)
        except CheckpointError:
            raise
        except ValueError as error:
            raise CheckpointError(f"{self.checkpoint.directory}: {error}") from error
        finally:
            scratch.unlink(missing_ok=True)
        kinds = {(type(each.memory), each.memory.capacity) for each in (loaded, fresh)}
        if len(kinds) > 1:
            raise CheckpointError(f"{self.checkpoint.directory}: holds another memory")
        return loaded

    def restore(
        self,
        spec: TrainingSpec,
        env: TaskVecEnv,
        model: BaseAlgorithm,
        auxiliary: RecordMemory,
        say: Say,
    ) -> Callable[[], None]:
        """Let model and environments go on; returns what puts the generators back, for last.

        Raises:
            CheckpointError: what was saved does not fit.
        """
        arrays = training_state.restore_model(model, self.checkpoint, self.state)
        why = self._restore_environments(env)
        if why is None:
            training_state.restore_observations(model, arrays)
            auxiliary.continue_episodes()
            say(f"continues at frame {self.checkpoint.frames:_}")
        else:
            env.seed(episode_seed(spec.seed, "train", self.checkpoint.frames * 1000 + spec.stream))
            model._last_obs = None
            training_state.cut_replayed_episodes(model)
            say(f"continues at frame {self.checkpoint.frames:_}; {_reseeded(env)}: {why}")
        return functools.partial(training_state.restore_random, model, arrays, self.state)

    def _restore_environments(self, env: TaskVecEnv) -> str | None:
        """Let the environments go on where they were; else why they cannot."""
        if ENVIRONMENTS not in self.checkpoint.files:
            return "they could not give their state"
        if not self.trusted:
            return (
                "the checkpoint is not signed by you, so nothing of it is unpickled "
                "(--trust, for files that you know to be yours)"
            )
        if not self.checkpoint.same_versions:
            return "the checkpoint was written with other versions of Python or its packages"
        try:
            env.load_state(self.checkpoint.read(ENVIRONMENTS))
        except StateUnavailableError as error:
            return str(error)
        return None


def find_restore_point(
    store: CheckpointStore, *, resume: str, trust: bool, begun: bool, say: Say
) -> RestorePoint | None:
    """The newest checkpoint to go on from; None where the training is to start from its seed.

    Args:
        store: the checkpoints of the run.
        resume: ``auto``, ``never`` or ``require``.
        trust: unpickle what this user has not signed.
        begun: whether an earlier training left something.
        say: shows the user one line.

    Raises:
        CheckpointError: with ``require``, there is none.
    """
    if resume == "never":
        return None
    checkpoint = store.newest(say)
    if checkpoint is not None:
        return RestorePoint.of(checkpoint, trust=trust)
    if resume == "require":
        raise CheckpointError("--resume require: there is no whole checkpoint to continue from")
    if begun:
        say("was interrupted before it had a whole checkpoint: it starts again from its seed")
    return None
