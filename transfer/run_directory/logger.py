"""What a training logs: ``progress.csv`` and TensorBoard events, which a resumed one continues."""

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
"""Off-policy, where Stable-Baselines3 itself logs by episodes."""
_FRAMES_PER_ROW = 2048


def make_logger(directory: Path, *, earlier: str = "", frames: int = 0) -> Logger:
    """Stable-Baselines3's logger, writing into a run's directory.

    Args:
        directory: of the run.
        earlier: what ``progress.csv`` held at the checkpoint that is continued.
        frames: of that checkpoint; TensorBoard forgets what came after it.
    """
    formats: list[KVWriter] = [
        _ContinuedCsv(directory / PROGRESS, earlier),
        _ContinuedEvents(directory, frames),
    ]
    return Logger(folder=str(directory), output_formats=formats)


def note_scalars(logger: Logger, values: Mapping[str, float], *, frames: int) -> None:
    """Give TensorBoard numbers that have a file of their own beside ``progress.csv``.

    Args:
        logger: of a training.
        values: tag → number.
        frames: that the agent had been trained for.
    """
    for each in logger.output_formats:
        if isinstance(each, TensorBoardOutputFormat) and each.writer is not None:
            for tag, value in values.items():
                each.writer.add_scalar(tag, value, frames)
            each.writer.flush()


class PacedLog(BaseCallback):
    """Logs a row about every `_FRAMES_PER_ROW` frames on-policy, however often one resumes.

    Stable-Baselines3 counts rollouts from the start of each `learn()`; off-policy it counts
    episodes, which a checkpoint keeps.
    """

    def _init_callback(self) -> None:
        if isinstance(self.model, OnPolicyAlgorithm):
            self._n_frames = self.model.n_steps * self.model.n_envs

    def _on_rollout_end(self) -> None:
        if isinstance(self.model, OnPolicyAlgorithm):
            iteration = self.num_timesteps // self._n_frames
            if iteration % max(1, _FRAMES_PER_ROW // self._n_frames) == 0:
                self.model.dump_logs(iteration)

    def _on_step(self) -> bool:
        return True


class _ContinuedCsv(CSVOutputFormat):
    """A CSV file that starts with the lines there were."""

    def __init__(self, path: Path, earlier: str) -> None:
        super().__init__(str(path))
        if earlier:
            self.file.write(earlier)
            self.file.flush()
            self.keys = earlier.splitlines()[0].split(",")


class _ContinuedEvents(TensorBoardOutputFormat):
    """TensorBoard events that replace those from a frame on."""

    def __init__(self, directory: Path, frames: int) -> None:
        # The parent would open a writer that cannot say which events are void.
        purge = frames if frames > 0 else None
        self.writer = SummaryWriter(log_dir=str(directory), purge_step=purge)
        self._is_closed = False
