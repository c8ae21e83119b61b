"""What the memory and its samplers cost: `python benchmarks/memory.py`.

Milliseconds, medians of interleaved rounds, one thread. A draw is what one auxiliary step asks of
the memory: 256 anchors and a pool of 128 negatives, weights included; averaged over the 8 draws of
a snapshot of the keys (PPO's defaults: 16,384 frames, minibatches of 1,024, every 8th), so with
everything that is sampled and keyed afresh for each snapshot, and all searched for at once, as in a
training. A minibatch without an auxiliary step costs nothing.

Rows are of 128 floats without repetitions, so that no key is found twice: the worst case. Keys of
128 floats come from a linear teacher. Nothing here trains.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import faiss
import numpy as np
import torch

from contrastive_distillation.memory import (
    EpisodicMemory,
    KeyTable,
    Memory,
    Observations,
    make_negatives,
    negative_mask,
)

try:
    from pytorch_metric_learning.losses import CrossBatchMemory, SupConLoss
except ImportError:
    CrossBatchMemory = None

WIDTH = 128
N_ENVS = 100
N_ANCHORS, K = 256, 128
SAMPLERS = ("in_batch", "uniform", "nearest", "value_contrast", "prediction_error")
DRAWS_PER_SNAPSHOT = 8
N_SEARCHED, N_QUERIES = 4096, 8
BAND = (0.001, 0.05)

Works = dict[str, Callable[[], object]]


class Insight:
    """Keys and errors as a learner gives them."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        weight = np.random.default_rng(0).normal(size=(WIDTH, WIDTH)).astype(np.float32)
        self._weight = weight / WIDTH**0.5
        self.table = KeyTable(width=WIDTH, encode=self.encode)
        self.snapshot = 0

    def encode(self, observations: Observations) -> np.ndarray:
        assert isinstance(observations, np.ndarray)
        keys = observations @ self._weight
        unit: np.ndarray = keys / np.linalg.norm(keys, axis=1, keepdims=True)
        return unit

    def keys(self, rows: np.ndarray) -> np.ndarray:
        return self.table.keys(self._memory, rows)

    def errors(self, rows: np.ndarray) -> np.ndarray:
        return np.abs(self._memory.returns(rows))

    def renew(self) -> None:
        self.snapshot += 1
        self.table.clear()


def step(generator: np.random.Generator, observations: Observations) -> dict[str, Observations]:
    return {
        "observations": observations,
        "actions": generator.integers(0, 7, N_ENVS),
        "rewards": (generator.random(N_ENVS) < 0.02).astype(np.float32),
        "terminated": generator.random(N_ENVS) < 0.02,
        "truncated": np.zeros(N_ENVS, bool),
        "tasks": np.arange(N_ENVS) % 3,
    }


def floats(generator: np.random.Generator) -> Observations:
    return generator.random((N_ENVS, WIDTH), dtype=np.float32)


def views(generator: np.random.Generator) -> Observations:
    """As MiniGrid's, with the mission as tokens."""
    return {
        "image": generator.integers(0, 11, (N_ENVS, 7, 7, 3), dtype=np.uint8),
        "direction": generator.integers(0, 4, (N_ENVS, 1), dtype=np.uint8),
        "mission": generator.integers(0, 54, (N_ENVS, 32), dtype=np.uint8),
    }


def filled(capacity: int, seen: Callable[[np.random.Generator], Observations]) -> Memory:
    memory = EpisodicMemory(capacity=capacity)
    memory.start(n_envs=N_ENVS, gamma=0.99, tasks=["a", "b", "c"])
    generator = np.random.default_rng(0)
    for frame in range(0, capacity, N_ENVS):
        memory.add(**step(generator, seen(generator)), time=frame)  # type: ignore[arg-type]
    return memory


# ------------------------------------------------------------------------------------ measuring


def milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - started)


def medians(works: Works, n_rounds: int) -> dict[str, float]:
    """Of each, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(n_rounds):
        for name, work in works.items():
            times[name].append(milliseconds(work))
    return {name: statistics.median(values) for name, values in times.items()}


def draws(memory: Memory, name: str) -> Callable[[], object]:
    """All draws of one snapshot."""
    sampler, insight = make_negatives(name), Insight(memory)
    generator = np.random.default_rng(1)

    def work() -> None:
        insight.renew()
        for _ in range(DRAWS_PER_SNAPSHOT):
            anchors = sampler.draw_anchors(memory, N_ANCHORS, generator, insight)
            sampler.draw(memory, anchors, K, generator, insight)

    return work


def refresh(memory: Memory) -> Callable[[], object]:
    """What a hard sampler does once for each snapshot: draw a sample and compute its keys."""
    insight, generator = Insight(memory), np.random.default_rng(2)

    def work() -> None:
        insight.renew()
        insight.keys(memory.sample_rows(N_SEARCHED, generator))

    return work


def masks(memory: Memory) -> Callable[[], object]:
    generator = np.random.default_rng(3)
    anchors, positives = (memory.info(memory.sample_rows(N_ANCHORS, generator)) for _ in range(2))
    negatives = memory.info(memory.sample_rows(K, generator))
    return lambda: negative_mask(anchors, positives, negatives, 8)


def known_keys(memory: Memory) -> Callable[[], object]:
    insight, generator = Insight(memory), np.random.default_rng(4)
    rows = memory.sample_rows(N_ANCHORS + K, generator)
    return lambda: insight.keys(rows)


def thousand_rows(memory: Memory) -> Callable[[], object]:
    generator = np.random.default_rng(5)
    steps = [step(generator, floats(generator)) for _ in range(1000 // N_ENVS)]

    def work() -> None:
        for each in steps:
            memory.add(**each, time=0)  # type: ignore[arg-type]

    return work


def in_torch(keys: np.ndarray) -> Callable[[], object]:
    """As `nearest` in plain torch, by matmul and topk against these keys.

    256 anchors in 8 neighbourhoods, and for each of these 64 rows of its band and 64 uniform ones.
    """
    known = torch.from_numpy(keys)
    first, last = int(BAND[0] * len(keys)), int(BAND[1] * len(keys)) + 1

    def work() -> None:
        queries = torch.randint(len(known), (N_QUERIES, 1))
        near = (known[queries[:, 0]] @ known.T).topk(last, dim=1).indices
        torch.cat([queries, near[:, 1 : N_ANCHORS // N_QUERIES]], dim=1)
        ranks = first + torch.rand(N_QUERIES, last - first).topk(K // 2, dim=1).indices
        uniform = torch.randint(len(known), (N_QUERIES, K // 2))
        torch.cat([near.gather(1, ranks), uniform], dim=1)

    return work


def cross_batch_memory(n_rows: int) -> Callable[[], object]:
    """pytorch-metric-learning's: enqueue 256 embeddings, and their InfoNCE against all rows.

    Two of each label, new ones each time. (Its SupConLoss; NTXentLoss needs gigabytes here.)
    """
    bank = CrossBatchMemory(SupConLoss(temperature=0.1), WIDTH, memory_size=n_rows)
    for first in range(0, n_rows, 5000):
        size = min(5000, n_rows - first)
        bank.add_to_memory(torch.randn(size, WIDTH), -1 - torch.arange(first, first + size), size)
    embeddings, labels = torch.randn(N_ANCHORS, WIDTH), torch.arange(N_ANCHORS) // 2

    def work() -> None:
        labels.add_(N_ANCHORS)
        bank(embeddings, labels)

    return work


def bytes_per_row(n_rows: int) -> float:
    """What the process grows by, a row: a symbolic MiniGrid row, and its key."""
    gc.collect()
    before = resident_bytes()
    memory = filled(n_rows, views)
    table = KeyTable(
        width=WIDTH, encode=lambda o: np.ones((len(o["image"]), WIDTH), np.float32), most=n_rows
    )
    for rows in np.array_split(memory.rows(), -(-n_rows // 1000)):
        table.keys(memory, rows)
    return (resident_bytes() - before) / n_rows


def resident_bytes() -> int:
    """Of this process (Linux), without what the allocator keeps back."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ------------------------------------------------------------------------------------ the tables


def column(n_rows: int, n_rounds: int) -> dict[str, str]:
    """The cost of a memory of so many rows."""
    memory = filled(n_rows, floats)
    keys = Insight(memory).encode(memory.observations(memory.rows()))
    works = {name: draws(memory, name) for name in SAMPLERS}
    works |= {
        f"masks of {N_ANCHORS} × {K}": masks(memory),
        f"{N_ANCHORS + K} keys, known": known_keys(memory),
        f"refresh: {N_SEARCHED:,} rows sampled and keyed": refresh(memory),
        f"torch: {N_QUERIES} queries against {N_SEARCHED:,} keys": in_torch(keys[:N_SEARCHED]),
        f"torch: {N_QUERIES} queries against all keys": in_torch(keys),
        "add 1,000 rows": thousand_rows(memory),  # last in turn: it changes what is stored
    }
    found = medians(works, n_rounds)
    if CrossBatchMemory is not None and n_rows <= 100_000:
        name = f"CrossBatchMemory: {N_ANCHORS} enqueued, and against all"
        found |= medians({name: cross_batch_memory(n_rows)}, 3)
    for name in SAMPLERS:
        found[name] /= DRAWS_PER_SNAPSHOT
    return {name: f"{ms:.2f}" for name, ms in sorted(found.items(), key=_in_order)}


def _in_order(item: tuple[str, float]) -> int:
    starts = (*SAMPLERS, "masks", str(N_ANCHORS + K), "refresh", "add", "torch", "Cross")
    return next(i for i, start in enumerate(starts) if item[0].startswith(start))


def searching(n_keys: int, n_rounds: int) -> dict[str, str]:
    """The nearest twentieth of so many keys, in 40 clusters, to 8 of them."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(40, WIDTH)).astype(np.float32)
    keys = centres[generator.integers(0, 40, n_keys)]
    keys += generator.standard_normal(keys.shape, np.float32)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    queries, last = keys[:N_QUERIES], int(BAND[1] * n_keys)
    tensors = torch.from_numpy(queries), torch.from_numpy(keys)
    works: Works = {
        "faiss.knn": lambda: faiss.knn(queries, keys, last, metric=faiss.METRIC_INNER_PRODUCT),
        "torch: matmul, topk": lambda: (tensors[0] @ tensors[1].T).topk(last),
    }
    return {name: f"{ms:.2f}" for name, ms in medians(works, n_rounds).items()}


def table(title: str, columns: dict[int, dict[str, str]]) -> None:
    names = dict.fromkeys(name for each in columns.values() for name in each)
    print(f"\n| {title} | " + " | ".join(f"{n:,}" for n in columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name in names:
        print(f"| {name} | " + " | ".join(each.get(name, "") for each in columns.values()) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_RAW)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 50_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    sizes = arguments.rows
    per_row = bytes_per_row(100_000)
    table("milliseconds; rows", {n: column(n, arguments.rounds) for n in sizes})
    print(f"\nA symbolic MiniGrid row and its key take {per_row:.0f} bytes (resident, of 100,000).")
    if CrossBatchMemory is None:
        print("\nCrossBatchMemory is left out: pytorch-metric-learning is not installed.")
    else:
        print("\nCrossBatchMemory is left out above 100,000 rows, which take it too long.")
    sizes = [N_SEARCHED, *sizes]
    table("band of 8 anchors; keys", {n: searching(n, 5) for n in sizes})


_RAW = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
