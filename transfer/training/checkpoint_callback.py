"""The callback that writes checkpoints, and resumes a training from one."""

import functools
import time
from collections.abc import Callable
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from contrastive_distillation.agents import AuxiliaryLossCallback, RecordMemory
from contrastive_distillation.envs import StateUnavailableError, TaskVecEnv, episode_seed

from ..console import Say
from ..evaluation.evaluation_callback import EvaluationCallback
from ..evaluation.information import InformationProbe
from ..run_directory.atomic_files import write_bytes
from ..run_directory.directory import BEST
from ..run_directory.logger import PROGRESS
from ..settings.spec import TrainingSpec
from . import state as training_state
from .checkpoints import Checkpoint, CheckpointStore, Write, fit_required

ENVIRONMENTS = "environments.pickle"
AUXILIARY = "auxiliary.safetensors"
BEST_SO_FAR = "best.zip"


def load_auxiliary(checkpoint: Checkpoint, fresh: RecordMemory) -> RecordMemory:
    """Load the saved callback; its loss and source memory are those of a fresh one.

    Args:
        checkpoint: the checkpoint.
        fresh: a callback with the same settings.

    Raises:
        CheckpointError: the saved callback does not fit the settings.
    """
    path = checkpoint.directory / AUXILIARY
    checkpoint.read(AUXILIARY)  # checks that the manifest lists it, and its hash
    with fit_required(checkpoint):
        if isinstance(fresh, AuxiliaryLossCallback):
            loaded: RecordMemory = AuxiliaryLossCallback.load(
                path, loss=fresh.loss, weight=fresh.weight, source_memory=fresh.source_memory
            )
        else:
            loaded = RecordMemory.load(path)
        kinds = {(type(each.memory), each.memory.capacity) for each in (loaded, fresh)}
        if len(kinds) > 1:
            raise ValueError("it holds a memory of another kind or capacity")
    return loaded


class CheckpointCallback(BaseCallback):
    """Writes a checkpoint every `spec.checkpoint_every` frames, and when the training is stopped.

    It writes at a rollout's start, the only moment at which no rollout or update is half done.
    It must be the last of the callbacks, so that the others have changed what it saves already;
    for the same reason it restores the random generators when a training is resumed.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        directory: Path,
        *,
        store: CheckpointStore,
        env: TaskVecEnv,
        auxiliary: RecordMemory,
        evaluation: EvaluationCallback,
        information: InformationProbe,
        say: Say,
    ) -> None:
        """Args: env, auxiliary, evaluation, information: saved beside the model."""
        super().__init__()
        self._spec = spec
        self._directory = directory
        self._store = store
        self._env = env
        self._auxiliary = auxiliary
        self._evaluation = evaluation
        self._information = information
        self._say = say
        self._restore_random: Callable[[], None] | None = None
        self._saved_at = 0
        self._warned = False

    def restore(self, checkpoint: Checkpoint, model: BaseAlgorithm, *, trust: bool) -> None:
        """Restore everything that `_write` saves, the callback of the auxiliary loss apart.

        Call it before `learn`, with the model's logger in place.

        Args:
            checkpoint: the checkpoint.
            model: a fresh model.
            trust: unpickle environments that this user has not signed.
        """
        state = training_state.read_numbers(checkpoint)
        arrays = training_state.restore_model(model, checkpoint, state)
        reason = self._restore_environments(checkpoint, trust=trust)
        if reason is None:
            self._auxiliary.continue_episodes()
            self._say(f"continues at frame {checkpoint.frames:_}")
        else:
            stream = checkpoint.frames * 1000 + self._spec.stream
            self._env.seed(episode_seed(self._spec.seed, "train", stream))
            model._last_obs = None
            training_state.cut_replayed_episodes(model)
            self._say(f"continues at frame {checkpoint.frames:_}; {self._reseeded}: {reason}")
        self._evaluation.restore(state["judged"])
        # what lies there may be of later frames, which are trained again
        write_bytes(self._directory / BEST, checkpoint.read(BEST_SO_FAR))
        if state.get("information") is not None:
            self._information.restore(state["information"])
        self._restore_random = functools.partial(
            training_state.restore_random, model, arrays, state
        )

    def _restore_environments(self, checkpoint: Checkpoint, *, trust: bool) -> str | None:
        """Restore the environments in their episodes; else return the reason why they cannot be."""
        if ENVIRONMENTS not in checkpoint.files:
            return "they could not give their state"
        if not (checkpoint.is_own or trust):
            return (
                "the checkpoint is not signed by you, so nothing of it is unpickled "
                "(--trust, for files that you know to be yours)"
            )
        if not checkpoint.same_versions:
            return "the checkpoint was written with other versions of Python or its packages"
        try:
            self._env.load_state(checkpoint.read(ENVIRONMENTS))
        except StateUnavailableError as error:
            return str(error)
        return None

    def _on_training_start(self) -> None:
        self._saved_at = self.num_timesteps
        if self._restore_random is not None:
            self._restore_random()

    def _on_rollout_start(self) -> None:
        every = self._spec.runtime.checkpoint_every
        due = self.num_timesteps // every > self._saved_at // every
        if (due or self._evaluation.stopped) and self.num_timesteps > self._saved_at:
            self._saved_at = self.num_timesteps
            self._write()

    def _on_step(self) -> bool:
        return True

    def _write(self) -> None:
        started = time.perf_counter()
        model = self.model
        others = {"judged": self._evaluation.state(), "information": self._information.state()}
        writers: dict[str, Write] = {
            training_state.POLICY: functools.partial(training_state.save_policy, model),
            training_state.OPTIMISER: functools.partial(training_state.save_optimiser, model),
            training_state.ARRAYS: functools.partial(training_state.save_arrays, model),
            training_state.NUMBERS: functools.partial(training_state.save_numbers, model, others),
            AUXILIARY: self._auxiliary.save,
        }
        progress = (self._directory / PROGRESS).read_bytes()
        writers[PROGRESS] = lambda path: path.write_bytes(progress)
        best = (self._directory / BEST).read_bytes()
        writers[BEST_SO_FAR] = lambda path: path.write_bytes(best)
        try:
            state = self._env.save_state()
            writers[ENVIRONMENTS] = lambda path: path.write_bytes(state)
        except StateUnavailableError as error:
            if not self._warned and "envpool" not in self._env.backend:  # EnvPool never can
                self._say(f"{self._reseeded} when this training is continued: {error}")
            self._warned = True
        score = self._evaluation.mean_score
        self._store.write(writers, frames=self.num_timesteps, score=score, say=self._say)
        self._evaluation.saving_seconds += time.perf_counter() - started

    @property
    def _reseeded(self) -> str:
        env_ids = ", ".join(self._env.env_ids)
        return f"the environments ({env_ids}) start new episodes with a new seed"
