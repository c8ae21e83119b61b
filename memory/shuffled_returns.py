"""A memory whose returns say nothing: the control of losses that look at them."""

from __future__ import annotations

import copy
from typing import TypeVar

import numpy as np

from .base import Memory

SomeMemory = TypeVar("SomeMemory", bound=Memory)


def with_shuffled_returns(memory: SomeMemory, generator: np.random.Generator) -> SomeMemory:
    """`memory` as it is now, but with its known returns permuted within each task.

    Each row keeps its observation, episode and task, and whether its return is known; what
    followed is another row's of its task. So all that depends on the spread of a task's returns
    stays, and all that depends on which row they belong to is lost.

    Args:
        memory: is not changed, and shares its arrays with the result: read the result, and no
            longer than until the memory is next added to.
        generator: of the permutations, one for each task; its only source of chance.
    """
    store = memory._store
    view = copy.copy(memory)
    view._store = copy.copy(store)
    columns = store.columns
    if not columns:
        return view
    returns = columns["returns"].copy()
    rows = memory.rows()
    rows = rows[columns["return_known"][rows]]
    tasks = columns["task_ids"][rows]
    for task in np.unique(tasks):
        of_task = rows[tasks == task]
        returns[of_task] = returns[generator.permutation(of_task)]
    view._store.columns = {**columns, "returns": returns}
    return view
