"""A memory filled the way an agent fills one, from a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from contrastive_distillation.memory import EpisodicMemory, Memory, Observations


def step_of(
    generator: np.random.Generator, n_envs: int, *, n_tasks: int = 1, p_end: float = 0.1
) -> dict[str, Observations | np.ndarray]:
    """What one step brings: arguments of `Memory.add`, all but the time."""
    return {
        "observations": {
            "image": generator.integers(0, 4, (n_envs, 2, 2), dtype=np.uint8),
            "direction": generator.integers(0, 4, (n_envs, 1), dtype=np.uint8),
        },
        "actions": generator.integers(0, 7, n_envs),
        "rewards": generator.normal(size=n_envs).astype(np.float32),
        "terminated": generator.random(n_envs) < p_end,
        "truncated": generator.random(n_envs) < p_end / 2,
        "tasks": np.arange(n_envs) % n_tasks,
    }


@pytest.fixture
def step() -> Callable[..., dict[str, Observations | np.ndarray]]:
    return step_of


@pytest.fixture
def filled() -> Callable[..., Memory]:
    def make(
        *,
        kind: type[Memory] = EpisodicMemory,
        capacity: int = 500,
        n_envs: int = 6,
        n_steps: int = 200,
        n_tasks: int = 2,
        p_end: float = 0.1,
        seed: int = 0,
    ) -> Memory:
        generator = np.random.default_rng(seed)
        memory = kind(capacity=capacity)
        memory.start(n_envs=n_envs, gamma=0.9, tasks=[f"task-{i}" for i in range(n_tasks)])
        for time in range(n_steps):
            memory.add(
                **step_of(generator, n_envs, n_tasks=n_tasks, p_end=p_end), time=time * n_envs
            )
        return memory

    return make
