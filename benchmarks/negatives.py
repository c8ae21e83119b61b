"""Do better negatives teach more per negative? Source agents over samplers and K.

    python benchmarks/negatives.py run --output runs/negatives      # resumable; hours on two cores
    python benchmarks/negatives.py report runs/negatives --docs docs/results/negatives
    python benchmarks/negatives.py pools runs/negatives             # how hard the pools are

`run` trains on the keydoor sources with the command line, a process for each training. `report`
judges every encoder on observations that none of them gathered, those of the agents trained
without a loss: how well a linear classifier, fitted on half of them, tells the agent's direction,
what it carries and what door it sees on the other half. `pools` draws pools from a trained agent's
memory: how much of an anchor's negatives is near it, masked, or weighed down.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from contrastive_distillation.agents import FrozenTeacher
from contrastive_distillation.memory import EpisodicMemory, Pool, make_negatives, negative_mask
from contrastive_distillation.transfer.evaluation.trained_agent import load_agent

SAMPLERS = ("in_batch", "uniform", "nearest", "value_contrast")
COUNTS = (8, 32, 128, 512)
COLOURS = {"in_batch": "#999999", "uniform": "#0072B2", "nearest": "#E69F00",
           "value_contrast": "#009E73"}  # fmt: skip
MEASURES = ("area", "future_nats", "direction", "carried", "door")
DOOR, EMPTY_HANDED = 4, 1  # MiniGrid's numbers of object types
N_TEST_ROWS = 8_192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train what is not there yet")
    run.add_argument("--output", type=Path, required=True)
    run.add_argument("--frames", type=int, default=400_000)
    run.add_argument("--seeds", type=int, default=3)
    run.add_argument("--workers", type=int, default=2)
    run.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    run.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    report = commands.add_parser("report", help="measure, and write a table and a plot")
    report.add_argument("directory", type=Path)
    report.add_argument("--docs", type=Path, required=True)
    pools = commands.add_parser("pools", help="look into the pools that samplers draw")
    pools.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "run":
        train_all(arguments)
    elif arguments.command == "pools":
        print(pools_table(arguments.directory))
    else:
        write_report(arguments.directory, arguments.docs)


# ------------------------------------------------------------------------------------ training


def train_all(arguments: argparse.Namespace) -> None:
    """Every cell once; the command line finds finished ones again."""
    arms = [("none", 0), *itertools.product(arguments.samplers, arguments.counts)]
    cells = [(seed, *arm) for seed in range(arguments.seeds) for arm in arms]
    with ThreadPoolExecutor(arguments.workers) as pool:
        failed = False
        for name, code in pool.map(lambda cell: train(arguments, *cell), cells):
            print(name, "done" if code == 0 else f"FAILED with exit code {code}", flush=True)
            failed |= code != 0
    if failed:
        sys.exit("some trainings are not there; the same command trains them")


def train(arguments: argparse.Namespace, seed: int, sampler: str, k: int) -> tuple[str, int]:
    name = f"{sampler}-{k}-seed{seed}"
    directory = arguments.output / name
    command = [sys.executable, str(Path(__file__).parents[1] / "run_agent.py"), "train"]
    command += ["--suite", "keydoor", "--frames", str(arguments.frames), "--seed", str(seed)]
    command += ["--workers", "1", "--output", str(directory)]
    if sampler == "none":
        command += ["--loss", "none"]
    else:
        command += ["--negatives", sampler, "--n-negatives", str(k)]
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (arguments.output / f"{name}.log").open("w") as log:
        finished = subprocess.run(command, stdout=log, stderr=log, check=False)
    return name, finished.returncode


# ------------------------------------------------------------------------------------ measuring


def write_report(directory: Path, docs: Path) -> None:
    rows = []
    for path in sorted(directory.glob("*/result.json")):
        sampler, k, seed = path.parent.name.rsplit("-", 2)
        rows.append({"negatives": sampler, "k": int(k), "seed": int(seed.removeprefix("seed"))})
        rows[-1] |= measured(path.parent, directory / f"none-0-{seed}")
        print(rows[-1], flush=True)
    docs.mkdir(parents=True, exist_ok=True)
    with (docs / "negatives.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, docs / "negatives.png")
    print(table(rows))


def measured(run: Path, reference: Path) -> dict[str, float]:
    result = json.loads((run / "result.json").read_text())
    nats = [task["future"] for task in result["information"].values()]
    agent = load_agent(run)
    encoder = FrozenTeacher.from_model(agent.model)
    observations, labels, is_test = reference_rows(reference)
    features = encoder(observations).cpu()
    scores = {name: linear_accuracy(features, label, is_test) for name, label in labels.items()}
    return {
        "area": round(area(run / "curves.csv"), 4),
        "future_nats": round(float(np.mean(nats)), 4),
        **{name: round(score, 4) for name, score in scores.items()},
    }


def area(path: Path) -> float:
    """Mean over the sources of the area under the score's curve, per frame."""
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            curves[row["env_id"]].append((float(row["frames"]), float(row["score"])))
    areas = []
    for points in curves.values():
        frames, scores = np.array(points).T
        areas.append(np.trapezoid(scores, frames) / frames[-1])
    return float(np.mean(areas))


def reference_rows(reference: Path) -> tuple[Any, dict[str, torch.Tensor], torch.Tensor]:
    """Distinct observations of an agent without a loss, labels, and which are for the test.

    Two observations fall on the same side where they are of the same episode.
    """
    memory = EpisodicMemory.load(reference / "memory.safetensors")
    rows = memory.rows()
    _, first = np.unique(memory.hashes(rows), return_index=True)
    rows = np.random.default_rng(0).permutation(rows[first])[: 2 * N_TEST_ROWS]
    observations = memory.observations(rows)
    assert isinstance(observations, dict)
    image = observations["image"].astype(np.int64)
    doors = image[..., 0] == DOOR
    state = np.where(doors, image[..., 2] + 1, 0).reshape(len(rows), -1).max(axis=1)
    labels = {
        "direction": torch.from_numpy(observations["direction"][:, 0].astype(np.int64)),
        "carried": torch.from_numpy((image[:, 3, 6, 0] != EMPTY_HANDED).astype(np.int64)),
        "door": torch.from_numpy(state),
    }
    return observations, labels, torch.from_numpy(memory.episodes(rows) % 2 == 1)


def linear_accuracy(features: torch.Tensor, label: torch.Tensor, is_test: torch.Tensor) -> float:
    """Balanced accuracy on the test rows of a softmax classifier fitted on the others."""
    fit = features[~is_test]
    x = (features - fit.mean(dim=0)) / fit.std(dim=0).clamp(min=1e-6)
    n_classes = int(label.max()) + 1
    weight = torch.zeros(x.shape[1], n_classes, requires_grad=True)
    bias = torch.zeros(n_classes, requires_grad=True)
    counts = torch.bincount(label[~is_test], minlength=n_classes).float().clamp(min=1)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = x[~is_test] @ weight + bias
        loss = F.cross_entropy(logits, label[~is_test], weight=1 / counts)
        loss = loss + 1e-4 * weight.square().sum()
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        right = ((x @ weight + bias).argmax(dim=1) == label)[is_test]
    truth = label[is_test]
    return float(torch.stack([right[truth == c].float().mean() for c in truth.unique()]).mean())


# ------------------------------------------------------------------------------------ pools


class TeacherInsight:
    """Keys of a frozen encoder, as samplers ask for them."""

    snapshot = 0

    def __init__(self, memory: EpisodicMemory, encoder: FrozenTeacher) -> None:
        self._memory, self._encoder = memory, encoder

    def keys(self, rows: np.ndarray) -> np.ndarray:
        keys = F.normalize(self._encoder(self._memory.observations(rows)), dim=1)
        return keys.cpu().numpy()

    def errors(self, rows: np.ndarray) -> np.ndarray:
        return np.ones(len(rows), np.float32)


def pools_table(directory: Path, n_pools: int = 20, n_anchors: int = 256) -> str:
    """Of the agent without a loss, seed 0: means over the pairs of an anchor and its negatives."""
    run = directory / "none-0-seed0"
    memory = EpisodicMemory.load(run / "memory.safetensors")
    insight = TeacherInsight(memory, FrozenTeacher.from_model(load_agent(run).model))
    lines = [
        "| negatives | K | within 5 % | of the anchor's task | masked | mean weight |",
        "|---|---|---|---|---|---|",
    ]
    for name, k in itertools.product(SAMPLERS[1:], COUNTS):
        generator, sampler = np.random.default_rng(0), make_negatives(name)
        means = []
        for _ in range(n_pools):
            anchors = sampler.draw_anchors(memory, n_anchors, generator, insight)
            pool = sampler.draw(memory, anchors, k, generator, insight)
            means.append(pool_measures(memory, anchors, pool, insight, generator))
        cells = " | ".join(f"{value:.3f}" for value in np.mean(means, axis=0))
        lines.append(f"| {name} | {k} | {cells} |")
    return "\n".join(lines)


def pool_measures(
    memory: EpisodicMemory,
    anchors: np.ndarray,
    pool: Pool,
    insight: TeacherInsight,
    generator: np.random.Generator,
) -> list[float]:
    """Shares of pairs: among an anchor's nearest 5 %, of its task, masked; and the mean weight."""
    keys = insight.keys(anchors)
    others = keys @ insight.keys(memory.sample_rows(1024, generator)).T
    threshold = np.quantile(others, 0.95, axis=1, keepdims=True)
    rows = pool.rows_by_group[np.arange(len(anchors)) % len(pool.rows_by_group)]
    near = np.einsum("bd,bkd->bk", keys, insight.keys(rows.reshape(-1)).reshape(*rows.shape, -1))
    same_task = memory.task_ids(anchors)[:, None] == memory.task_ids(rows)
    info = memory.info(anchors)
    usable = negative_mask(info, info, memory.info(pool.rows), 8)
    weights = np.ones(near.shape) if pool.log_weights is None else np.exp(pool.log_weights)
    shares = [(near >= threshold).mean(), same_task.mean(), 1 - usable.mean()]
    return [*shares, weights[usable].mean()]


# ------------------------------------------------------------------------------------ reporting


def by_arm(rows: list[dict[str, Any]], measure: str) -> dict[tuple[str, int], list[float]]:
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row in rows:
        found[row["negatives"], row["k"]].append(row[measure])
    return found


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| negatives | K | " + " | ".join(MEASURES) + " |",
        "|---|---|" + "---|" * len(MEASURES),
    ]
    columns = {measure: by_arm(rows, measure) for measure in MEASURES}
    order = ("none", *SAMPLERS)
    for arm in sorted(columns["area"], key=lambda arm: (order.index(arm[0]), arm[1])):
        cells = [
            f"{np.mean(values := columns[m][arm]):.3f} ± {np.std(values):.3f}" for m in MEASURES
        ]
        lines.append(f"| {arm[0]} | {arm[1] or ''} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], output: Path) -> None:
    """One panel per measure: K against it, a line per sampler, a dot per seed."""
    figure, axes = plt.subplots(1, len(MEASURES), figsize=(3.2 * len(MEASURES), 3.0))
    for axis, measure in zip(axes, MEASURES, strict=True):
        found = by_arm(rows, measure)
        for sampler in SAMPLERS:
            counts = sorted(k for name, k in found if name == sampler)
            means = [float(np.mean(found[sampler, k])) for k in counts]
            axis.plot(counts, means, color=COLOURS[sampler], label=sampler, linewidth=1.8)
            for k in counts:
                values = found[sampler, k]
                axis.scatter([k] * len(values), values, color=COLOURS[sampler], s=8, alpha=0.5)
        if ("none", 0) in found:
            axis.axhline(
                float(np.mean(found["none", 0])), color="black", linestyle=":", label="no loss"
            )
        axis.set(xscale="log", xticks=list(COUNTS), title=measure.replace("_", ", "), xlabel="K")
        axis.set_xticklabels([str(k) for k in COUNTS])
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    figure.savefig(output, dpi=130)


if __name__ == "__main__":
    main()
