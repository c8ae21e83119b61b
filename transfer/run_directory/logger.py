"""The logger of a training: ``progress.csv`` and TensorBoard events; a resumed one appends."""

from collections.abc import Mapping
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import (
    CSVOutputFormat,
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
)
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch.utils.tensorboard import SummaryWriter

PROGRESS = "progress.csv"

EPISODES_PER_ROW = 16
"""Rows of off-policy trainings, for which Stable-Baselines3 counts episodes."""
_FRAMES_PER_ROW = 2048


def make_logger(directory: Path, *, earlier: str = "", frames: int = 0) -> Logger:
    """Stable-Baselines3's logger, writing into a run's directory.

    Args:
        directory: the run directory.
        earlier: the content of ``progress.csv`` at the checkpoint that the training resumes from.
        frames: frames of that checkpoint; TensorBoard discards later events.
    """
    formats: list[KVWriter] = [
        _ContinuedCsv(directory / PROGRESS, earlier),
        _ContinuedEvents(directory, frames),
    ]
    return Logger(folder=str(directory), output_formats=formats)


def note_scalars(logger: Logger, values: Mapping[str, float], *, frames: int) -> None:
    """Write numbers to TensorBoard alone, because another file than ``progress.csv`` holds them.

    Args:
        logger: the training's logger.
        values: tag → number.
        frames: frames that the agent had trained for.
    """
    for each in logger.output_formats:
        if isinstance(each, TensorBoardOutputFormat) and each.writer is not None:
            for tag, value in values.items():
                each.writer.add_scalar(tag, value, frames)
            each.writer.flush()


class PacedLog(BaseCallback):
    """Logs a row about every `_FRAMES_PER_ROW` frames on-policy, independent of resumes.

    A last rollout that is shorter than the others is logged, too.

    Stable-Baselines3 counts rollouts from the start of each `learn()`; off-policy it counts
    episodes, which a checkpoint keeps.
    """

    def _init_callback(self) -> None:
        if isinstance(self.model, OnPolicyAlgorithm):
            self._n_frames = self.model.n_steps * self.model.n_envs

    def _on_rollout_end(self) -> None:
        if isinstance(self.model, OnPolicyAlgorithm):
            iteration, is_shorter = divmod(self.num_timesteps, self._n_frames)
            if is_shorter or iteration % max(1, _FRAMES_PER_ROW // self._n_frames) == 0:
                self.model.dump_logs(iteration)

    def _on_step(self) -> bool:
        return True


class _ContinuedCsv(CSVOutputFormat):
    """A CSV file that starts with the rows written before a resume."""

    def __init__(self, path: Path, earlier: str) -> None:
        super().__init__(str(path))
        if earlier:
            self.file.write(earlier)
            self.file.flush()
            self.keys = earlier.splitlines()[0].split(",")


class _ContinuedEvents(TensorBoardOutputFormat):
    """TensorBoard events that replace earlier events after a number of frames."""

    def __init__(self, directory: Path, frames: int) -> None:
        # The parent would open a writer that cannot say which events are void.
        purge = frames if frames > 0 else None
        self.writer = SummaryWriter(log_dir=str(directory), purge_step=purge)
        self._is_closed = False
