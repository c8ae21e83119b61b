"""How often a training is judged, and by how many episodes: fixed beforehand, and affordable.

An evaluation costs the more, the longer its episodes may last; an agent that fails plays every
one of them to the end. So the numbers depend on the frames trained for and on the longest
episode alone, never on how the agent does.
"""

from collections.abc import Iterable

N_INTERVALS = 6
"""Evaluations at frame 0 and after every so-manieth part of the frames; more in long trainings."""
LONGEST_INTERVAL = 50_000
"""No more frames than about this between two evaluations."""

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
_PYTHON_STEPS_PER_FRAME = 0.02  # a frame costs about 60 µs to learn from, a Python step 200 µs
_CHECKPOINT_STEPS_PER_FRAME = 0.03


def checkpoint_frames(frames: int, *, extra: int = 0) -> list[int]:
    """Frames at which a training of so many frames is evaluated, its end left out.

    Args:
        frames: what it is compared by.
        extra: frames before those; they have evaluations of their own, so that the rest is
            evaluated as often as if it stood alone.
    """
    if extra:
        return checkpoint_frames(extra) + [extra + n for n in checkpoint_frames(frames)]
    n_intervals = max(N_INTERVALS, frames // LONGEST_INTERVAL)
    return sorted({frames * i // n_intervals for i in range(n_intervals)})


def episodes_at_checkpoint(frames: int, max_steps: Iterable[int | None]) -> int:
    """Episodes of each environment at a checkpoint: 8 to 32.

    Args:
        frames: frames of the training.
        max_steps: longest episode of each environment; None where it is not known.
    """
    return _episodes(frames * _CHECKPOINT_STEPS_PER_FRAME, max_steps, least=8, most=32)


def episodes_at_end(frames: int, max_steps: Iterable[int | None]) -> int:
    """Episodes of each environment at the end, in the reference environment: 8 to 50."""
    return _episodes(frames * _PYTHON_STEPS_PER_FRAME, max_steps, least=8, most=50)


def episodes_for_retention(frames: int, max_steps: Iterable[int | None]) -> int:
    """Episodes of each source environment after training on a target: 8 to 20."""
    return _episodes(frames * _PYTHON_STEPS_PER_FRAME / 2, max_steps, least=8, most=20)


def _episodes(steps: float, max_steps: Iterable[int | None], *, least: int, most: int) -> int:
    longest = sum(length or UNKNOWN_LENGTH for length in max_steps)
    return max(least, min(most, int(steps / longest)))
