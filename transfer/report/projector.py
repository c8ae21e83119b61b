"""Keys of a memory for TensorBoard's embedding projector, with task and return as labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from contrastive_distillation.memory import Memory

from ..run_directory.atomic_files import write_text
from .loaded_loss import LoadedLoss

MOST_POINTS = 2000
TENSORS, METADATA, CONFIG = "tensors.tsv", "metadata.tsv", "projector_config.pbtxt"
_CONFIG = f"""embeddings {{
  tensor_name: "keys of the memory"
  tensor_path: "{TENSORS}"
  metadata_path: "{METADATA}"
}}
"""
_COLUMNS = ("task", "return", "episode", "step", "memory")


def embed(loaded: LoadedLoss) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """Keys of up to 2,000 rows: half from the target's memory, half from its source's, if any.

    All keys come from the same moving-average encoder and head, so that they can be compared. The
    label of an unknown return is empty.

    Returns:
        (n, D) float32 keys of length 1, and n labels of task, return, episode, step, memory.
    """
    memories = [("target", loaded.memory)]
    if loaded.source_memory is not None and len(loaded.source_memory):
        memories.append(("source", loaded.source_memory))
    share, generator = MOST_POINTS // len(memories), np.random.default_rng(0)
    keys, labels = [], []
    for name, memory in memories:
        rows = memory.rows()
        rows = np.sort(generator.choice(rows, min(share, len(rows)), replace=False))
        keys.append(loaded.loss.target_keys.keys(memory, rows))
        labels += _labels(memory, rows, name)
    return np.concatenate(keys), labels


def _labels(memory: Memory, rows: np.ndarray, name: str) -> list[tuple[str, ...]]:
    columns = zip(
        memory.task_ids(rows), memory.returns(rows), memory.return_known(rows),
        memory.episodes(rows), memory.steps(rows), strict=True,
    )  # fmt: skip
    return [
        (
            memory.tasks[int(task)].replace("\t", " "),
            f"{value:.3g}" if known else "",  # a word would prevent colouring by this label
            str(int(episode)),
            str(int(step)),
            name,
        )
        for task, value, known, episode, step in columns
    ]


def write_embedding(directory: Path, keys: np.ndarray, labels: Sequence[tuple[str, ...]]) -> None:
    """Write the three files of TensorBoard's embedding projector (``--logdir DIRECTORY``)."""
    directory.mkdir(parents=True, exist_ok=True)
    points = ("\t".join(f"{value:.5g}" for value in key) for key in keys)
    lines = ("\t".join(label) for label in [_COLUMNS, *labels])
    write_text(directory / TENSORS, "\n".join(points) + "\n")
    write_text(directory / METADATA, "\n".join(lines) + "\n")
    write_text(directory / CONFIG, _CONFIG)
