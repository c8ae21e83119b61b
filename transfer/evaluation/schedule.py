"""When a training is judged, and by how many episodes: what a tenth of its time affords.

An evaluation costs the more, the longer its episodes are, and an agent that fails plays every one
of them to the end. *When* depends on the frames trained for and on the longest episode alone. *How
many* episodes a round has depends on the round before it: how long its episodes were, and whether
any of them scored. That is known before the round begins, and every episode begun is finished and
counted: so a round is a fair sample, however it turns out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

FEWEST_INTERVALS, MOST_INTERVALS = 4, 6
"""Evaluations at frame 0 and after every so-manieth part of the frames; more in long trainings."""
LONGEST_INTERVAL = 50_000
"""No more frames than about this between two evaluations, where episodes are not long."""

FINAL_INDEX = 1_000_000
"""Round of evaluation episodes that the final evaluation plays; checkpoints play the first ones."""
EVALUATE_INDEX = 2_000_000
"""Round of episodes of the command `evaluate`."""
WATCH_INDEX = 3_000_000
"""Round of episodes of the command `watch`."""
RETENTION_INDEX = 4_000_000
"""Round of episodes on the source environments, after training on a target."""

UNKNOWN_LENGTH = 1000
"""Steps of the longest episode, where an environment does not say."""
_FRAMES_PER_STEP = 65  # of a round: its environments step together, in the time of 4 to 6 frames
_CHECKPOINT_STEPS_PER_FRAME = 0.01
_PYTHON_STEPS_PER_FRAME = 0.015  # a frame costs about 45 µs to learn from, a Python step 160 µs
_FEWEST, _FEWEST_OF_NOTHING = 8, 4


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What is known of a round of episodes before it is played."""

    lengths: tuple[float, ...]
    """Steps that an episode of each environment may take: the mean of the round before."""
    scored: bool = True
    """Whether any episode may score above 0: did one of the round before?"""

    @classmethod
    def at_first(cls, longest: Iterable[int | None], *, trained: bool) -> Self:
        """Before the first round.

        Args:
            longest: longest episode of each environment, in steps; None where it is not known.
            trained: whether the agent was trained before; one that was not scores next to nothing.
        """
        lengths = tuple(float(steps or UNKNOWN_LENGTH) for steps in longest)
        return cls(lengths=lengths, scored=trained)

    def affordable(self, steps: float, *, most: int) -> int:
        """Episodes of each environment for so many steps in all: at least 8, or 4 of nothing."""
        fewest = _FEWEST if self.scored else _FEWEST_OF_NOTHING
        return max(fewest, min(most, int(steps / sum(self.lengths))))


def checkpoint_frames(frames: int, longest: Sequence[int | None], *, extra: int = 0) -> list[int]:
    """Frames at which a training of so many frames is evaluated, its end left out.

    Args:
        frames: what it is compared by.
        longest: longest episode of each environment, in steps; None where it is not known.
        extra: frames before those; they have evaluations of their own, so that the rest is
            evaluated as often as if it stood alone.
    """
    if extra:
        rest = checkpoint_frames(frames, longest)
        return checkpoint_frames(extra, longest) + [extra + n for n in rest]
    steps = max(length or UNKNOWN_LENGTH for length in longest)
    wanted = max(MOST_INTERVALS, frames // LONGEST_INTERVAL)
    n_intervals = max(FEWEST_INTERVALS, min(wanted, frames // (_FRAMES_PER_STEP * steps)))
    return sorted({frames * i // n_intervals for i in range(n_intervals)})


def episodes_at_checkpoint(frames: int, outlook: Outlook) -> int:
    """Episodes of each environment at a checkpoint: 4 or 8 to 32."""
    return outlook.affordable(frames * _CHECKPOINT_STEPS_PER_FRAME, most=32)


def episodes_at_end(frames: int, outlook: Outlook) -> int:
    """Episodes of each environment at the end, in the reference environment: 4 or 8 to 50."""
    return outlook.affordable(frames * _PYTHON_STEPS_PER_FRAME, most=50)


def episodes_for_retention(frames: int, longest: Iterable[int | None]) -> int:
    """Episodes of each source environment after training on a target: 8 to 20."""
    return Outlook.at_first(longest, trained=True).affordable(
        frames * _PYTHON_STEPS_PER_FRAME / 2, most=20
    )
