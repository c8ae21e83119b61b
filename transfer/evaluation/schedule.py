"""The schedule of evaluations: when they take place, and how many episodes each one plays.

Evaluations take about a tenth of a training's time. Long episodes cost more, and an agent that
fails plays all of them to the end. The frames of evaluations depend only on the training's length
and on the longest episode. The number of episodes in a round depends on the round before it: on
the length of its episodes, and on whether any of them scored. It is fixed before the round begins,
and every episode is finished and counted, so a round is an unbiased sample.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

FEWEST_INTERVALS, MOST_INTERVALS = 4, 6
"""Number of evenly spaced evaluations before the end, from frame 0 on; long trainings have more."""
LONGEST_INTERVAL = 50_000
"""Most frames between two evaluations, roughly, unless episodes are long."""

FINAL_INDEX = 1_000_000
"""Round of episodes of the final evaluation. Evaluations during training play the first ones."""
EVALUATE_INDEX = 2_000_000
"""Round of episodes of the command `evaluate`."""
WATCH_INDEX = 3_000_000
"""Round of episodes of the command `watch`."""
RETENTION_INDEX = 4_000_000
"""Round of episodes on the source environments, after training on a target."""

UNKNOWN_LENGTH = 1000
"""Assumed steps of the longest episode if an environment does not declare a limit."""
_FRAMES_PER_STEP = 65  # one step of all environments of a round takes the time of 4 to 6 frames
_TRAINING_STEPS_PER_FRAME = 0.01
_PYTHON_STEPS_PER_FRAME = 0.015  # a frame costs about 45 µs to learn from, a Python step 160 µs
_FEWEST, _FEWEST_UNSCORED = 8, 4


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """The expectation of a round of episodes, before it is played."""

    lengths: tuple[float, ...]
    """Expected steps of an episode in each environment: the mean of the round before."""
    scored: bool = True
    """Whether an episode is expected to score above 0, as one did in the round before."""

    @classmethod
    def at_first(cls, longest: Iterable[int | None], *, trained: bool) -> Self:
        """The expectation of the first round.

        Args:
            longest: longest episode of each environment, in steps; None if it is unknown.
            trained: whether the agent was trained before; an untrained one hardly scores.
        """
        lengths = tuple(float(steps or UNKNOWN_LENGTH) for steps in longest)
        return cls(lengths=lengths, scored=trained)

    def affordable(self, steps: float, *, most: int) -> int:
        """Episodes of each environment within a budget of steps: at least 8, or 4 unscored."""
        fewest = _FEWEST if self.scored else _FEWEST_UNSCORED
        return max(fewest, min(most, int(steps / sum(self.lengths))))


def evaluation_frames(frames: int, longest: Sequence[int | None], *, extra: int = 0) -> list[int]:
    """Frames at which a training is evaluated; the evaluation at its end is not listed.

    Args:
        frames: frames that count in comparisons.
        longest: longest episode of each environment, in steps; None if it is unknown.
        extra: frames trained before those. They have their own evaluations, so that the rest is
            evaluated as often as without them.
    """
    if extra:
        rest = evaluation_frames(frames, longest)
        return evaluation_frames(extra, longest) + [extra + n for n in rest]
    steps = max(length or UNKNOWN_LENGTH for length in longest)
    wanted = max(MOST_INTERVALS, frames // LONGEST_INTERVAL)
    n_intervals = max(FEWEST_INTERVALS, min(wanted, frames // (_FRAMES_PER_STEP * steps)))
    return sorted({frames * i // n_intervals for i in range(n_intervals)})


def episodes_during_training(frames: int, outlook: Outlook) -> int:
    """Episodes of each environment in an evaluation during training: 4 or 8 to 32."""
    return outlook.affordable(frames * _TRAINING_STEPS_PER_FRAME, most=32)


def episodes_at_end(frames: int, outlook: Outlook) -> int:
    """Episodes of each environment in the final evaluation: 4 or 8 to 50."""
    return outlook.affordable(frames * _PYTHON_STEPS_PER_FRAME, most=50)


def episodes_for_retention(frames: int, longest: Iterable[int | None]) -> int:
    """Episodes of each source environment after training on a target: 8 to 20."""
    return Outlook.at_first(longest, trained=True).affordable(
        frames * _PYTHON_STEPS_PER_FRAME / 2, most=20
    )
