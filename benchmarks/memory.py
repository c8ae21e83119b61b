"""What the memory and its samplers cost: `python benchmarks/memory.py`.

Rows of 128 floats without repetitions, so that no observation is found twice: the worst case.
Keys of 128 floats come from a linear teacher, as dear to ask as a small encoder. One thread;
medians of interleaved rounds; milliseconds unless said otherwise. Draws are those of PPO's
defaults, with the keys of the searched sample made afresh for each snapshot, per minibatch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from contrastive_distillation.memory import (
    EpisodicMemory,
    KeyTable,
    Memory,
    NearestKeys,
    make_negatives,
    negative_mask,
)

WIDTH = 128
N_ENVS = 100
N_ANCHORS, K = 256, 128
SAMPLERS = ("in_batch", "uniform", "nearest", "value_contrast", "prediction_error")
DRAWS_PER_SNAPSHOT, MINIBATCHES_PER_SNAPSHOT = 8, 32  # PPO: 16,384 frames, every 4th


class Insight:
    """Keys and errors as a learner gives them; a snapshot lasts `DRAWS_PER_SNAPSHOT`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        weight = np.random.default_rng(0).normal(size=(WIDTH, WIDTH)).astype(np.float32)
        self._weight = weight / WIDTH**0.5
        self.table = KeyTable(width=WIDTH, encode=self._encode)
        self.snapshot = 0

    def _encode(self, observations: np.ndarray) -> np.ndarray:
        keys = observations @ self._weight
        return keys / np.linalg.norm(keys, axis=1, keepdims=True)

    def keys(self, rows: np.ndarray) -> np.ndarray:
        return self.table.keys(self._memory, rows)

    def errors(self, rows: np.ndarray) -> np.ndarray:
        return np.abs(self._memory.returns(rows))

    def renew(self) -> None:
        self.snapshot += 1
        self.table.clear()


def step(generator: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "observations": generator.random((N_ENVS, WIDTH), dtype=np.float32),
        "actions": generator.integers(0, 7, N_ENVS),
        "rewards": (generator.random(N_ENVS) < 0.02).astype(np.float32),
        "terminated": generator.random(N_ENVS) < 0.02,
        "truncated": np.zeros(N_ENVS, bool),
        "tasks": np.arange(N_ENVS) % 3,
    }


def filled(capacity: int) -> tuple[Memory, int]:
    memory = EpisodicMemory(capacity=capacity)
    memory.start(n_envs=N_ENVS, gamma=0.99, tasks=["a", "b", "c"])
    generator = np.random.default_rng(0)
    frame = 0
    for frame in range(0, capacity, N_ENVS):
        memory.add(**step(generator), time=frame)
    return memory, frame


def milliseconds(work: Callable[[], object], n_times: int = 1) -> float:
    started = time.perf_counter()
    for _ in range(n_times):
        work()
    return 1e3 * (time.perf_counter() - started) / n_times


def draws(memory: Memory, name: str) -> Callable[[], None]:
    """As many draws as one snapshot lasts, with all that is renewed with it, masks included."""
    sampler, insight = make_negatives(name), Insight(memory)
    generator = np.random.default_rng(1)

    def work() -> None:
        insight.renew()
        for _ in range(DRAWS_PER_SNAPSHOT):
            anchors = memory.sample_rows(N_ANCHORS, generator)
            sampler.draw(memory, anchors, K, generator, insight)

    return work


def in_torch(memory: Memory) -> Callable[[], None]:
    """The same hard half without our samplers: every key compared with 8 anchors, topk."""
    insight = Insight(memory)
    keys = torch.from_numpy(insight._encode(memory.observations(memory.rows())))
    last = max(2, int(0.05 * len(keys)))

    def work() -> None:
        queries = keys[torch.randint(len(keys), (8,))]
        near = (queries @ keys.T).topk(last, dim=1).indices
        torch.gather(near, 1, torch.randint(last, (8, 8)))

    return work


def masks(memory: Memory) -> Callable[[], object]:
    generator = np.random.default_rng(2)
    anchors, positives = (memory.info(memory.sample_rows(N_ANCHORS, generator)) for _ in range(2))
    negatives = memory.info(memory.sample_rows(K, generator))
    return lambda: negative_mask(anchors, positives, negatives, 8)


def cross_batch_memory(n_rows: int) -> Callable[[], object] | None:
    """pytorch-metric-learning's memory: enqueue 64 embeddings, loss of 64 against all."""
    try:
        from pytorch_metric_learning.losses import CrossBatchMemory, NTXentLoss
    except ImportError:
        return None
    bank = CrossBatchMemory(NTXentLoss(temperature=0.1), WIDTH, memory_size=n_rows)
    generator = torch.Generator().manual_seed(0)
    for first in range(0, n_rows, 5000):
        size = min(5000, n_rows - first)
        bank.add_to_memory(torch.randn(size, WIDTH), torch.arange(size), size)
    embeddings = torch.randn(64, WIDTH, generator=generator)
    labels = torch.arange(64)
    return lambda: bank(embeddings, labels)


def rounds(works: dict[str, tuple[Callable[[], object], int]], n: int) -> dict[str, float]:
    """Median milliseconds of each, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(n):
        for name, (work, per) in works.items():
            times[name].append(milliseconds(work) / per)
    return {name: statistics.median(values) for name, values in times.items()}


def column(n_rows: int, n_rounds: int) -> dict[str, str]:
    memory, frame = filled(n_rows)
    generator = np.random.default_rng(3)
    steps = [step(generator) for _ in range(10)]

    def add() -> None:
        for each in steps:
            memory.add(**each, time=frame)

    works: dict[str, tuple[Callable[[], object], int]] = {
        f"{name}, per minibatch": (draws(memory, name), MINIBATCHES_PER_SNAPSHOT)
        for name in SAMPLERS
    }
    works["masks of 256 x 128"] = (masks(memory), 1)
    works["torch: matmul and topk of 8 anchors"] = (in_torch(memory), 1)
    if n_rows <= 100_000 and (bank := cross_batch_memory(n_rows)) is not None:
        works["CrossBatchMemory: 64 against all"] = (bank, 1)
    works["add 1,000 rows"] = (add, 1)
    found = {name: f"{ms:.2f}" for name, ms in rounds(works, n_rounds).items()}
    insight = Insight(memory)
    rows = memory.sample_rows(2048, generator)
    found["keys of 2,048 rows afresh"] = f"{milliseconds(lambda: insight.keys(rows)):.2f}"
    found["bytes of a row, key included"] = f"{memory.nbytes / n_rows + 57 + 16 + 4 * WIDTH:.0f}"
    keys = insight._encode(memory.observations(memory.sample_rows(min(n_rows, 100_000), generator)))
    if n_rows >= 100_000:
        found.update(search(keys))
    return found


def search(keys: np.ndarray) -> dict[str, str]:
    """8 queries for the band's ranks among all keys: exactly, and approximately."""
    queries, last = keys[:8], int(0.05 * len(keys))
    found = {}
    for index in ("flat", "ivf"):
        nearest = NearestKeys(keys, index=index)  # type: ignore[arg-type]
        built = milliseconds(lambda: nearest.search(queries, last))  # noqa: B023
        again = statistics.median(
            milliseconds(lambda: nearest.search(queries, last))  # noqa: B023
            for _ in range(5)
        )
        found[f"{index}: band of 8 among 100,000"] = f"{again:.1f}"
        if index == "ivf":
            found["ivf: to build"] = f"{built - again:.0f}"
            found["ivf: recall in the band"] = f"{nearest.recall(queries, (100, last)):.2f}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 50_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    columns = [column(n_rows, arguments.rounds) for n_rows in arguments.rows]
    names = dict.fromkeys(name for each in columns for name in each)
    print("| milliseconds | " + " | ".join(f"{n:,} rows" for n in arguments.rows) + " |")
    print("|---|" + "---|" * len(columns))
    for name in names:
        print(f"| {name} | " + " | ".join(each.get(name, "") for each in columns) + " |")


if __name__ == "__main__":
    main()
