"""A memory with shuffled returns: the control for losses that use returns."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from .base import Memory

SomeMemory = TypeVar("SomeMemory", bound=Memory)


def with_shuffled_returns(memory: SomeMemory, generator: np.random.Generator) -> SomeMemory:
    """A view of `memory` in which the known returns are permuted within each task.

    Each row keeps its observation, episode and task, and whether its return is known; its return
    is that of another row of its task. So the spread of each task's returns stays, and the link
    between a row and its return is lost.

    Args:
        memory: is not changed, and shares its other arrays with the result, see
            `Memory.with_returns`.
        generator: draws one permutation per task.
    """
    rows = memory.rows()
    if not len(rows):
        return memory.with_returns(rows, np.empty(0, np.float32))
    rows = rows[memory.return_known(rows)]
    tasks, returns = memory.task_ids(rows), memory.returns(rows)
    shuffled = returns.copy()
    for task in np.unique(tasks):
        of_task = tasks == task
        shuffled[of_task] = generator.permutation(returns[of_task])
    return memory.with_returns(rows, shuffled)
