"""Whether an agent that has learnt stays learnt: evaluations at short intervals, over many seeds.

    python benchmarks/stays_learnt.py train --tasks doorkey_ppo --seeds 0-19    # resumable
    python benchmarks/stays_learnt.py table docs/results/stays_learnt

Every 8,192 frames, 64 complete episodes are played with the agent's own policy: sampled actions
for PPO, greedy ones for DQN. A *dip* is an evaluation below .85 after the score of .9 was first
reached. `train` writes one CSV file per training and skips those that are there; `table` joins the
files of a directory to `evaluations.csv`, prints the table and draws the figure.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contestants import CART_POLE, DOORKEY, EMPTY, learn, our_agent
from stable_baselines3.common.callbacks import BaseCallback

from contrastive_distillation.agents import AdvantageFloor
from contrastive_distillation.transfer import Evaluator, own_randomness, policy_of

EVERY = 8_192
"""Frames between two evaluations."""
N_EPISODES = 64
LEARNT, DIPPED = 0.9, 0.85
DOORKEY_6X6 = ("MiniGrid-DoorKey-6x6-v0",)
FIELDS = ("task", "settings", "loss", "seed", "frames", "score")


@dataclass(frozen=True)
class Task:
    """What is trained, and for how long."""

    agent: str
    env_ids: tuple[str, ...]
    frames: int
    highest: float = 1.0
    """The return that scores 1."""
    source: str | None = None
    """Task whose agent goes on in this one: with new defaults after all its frames, with old ones
    as soon as it scores .9."""


TASKS = {
    "doorkey_ppo": Task("ppo", DOORKEY, 1_000_000),
    "doorkey_6x6_after": Task("ppo", DOORKEY_6X6, 400_000, source="doorkey_ppo"),
    "doorkey_ppo_long": Task("ppo", DOORKEY, 3_000_000),
    "cartpole_ppo": Task("ppo", CART_POLE, 400_000, highest=500.0),
    "cartpole_dqn": Task("dqn", CART_POLE, 400_000, highest=500.0),
    "empty_dqn": Task("dqn", EMPTY, 400_000),
}


OLD: Mapping[str, Mapping[str, Any]] = {
    "doorkey_ppo": {"target_kl": None},
    "doorkey_ppo_long": {"target_kl": None},
    "doorkey_6x6_after": {"target_kl": None},
    "cartpole_ppo": {"target_kl": None, "vf_coef": 0.5},
    "cartpole_dqn": {"buffer_size": 100_000, "target_update_interval": 1_024, "tau": 1.0},
    "empty_dqn": {},
}
"""What the defaults were before this was measured, by task; PPO had no `AdvantageFloor` either."""


@dataclass(frozen=True)
class Training:
    """One training's name and its evaluations."""

    task: str
    settings: str
    """Which defaults the agent had: "new" | "old"."""
    loss: str
    seed: int
    points: tuple[tuple[int, float], ...]
    """Frames and scores."""

    @property
    def learnt_at(self) -> int | None:
        """Frames at the first evaluation of at least .9."""
        return next((frames for frames, score in self.points if score >= LEARNT), None)

    @property
    def afterwards(self) -> list[float]:
        """Scores after .9 was first reached."""
        first = self.learnt_at
        return [] if first is None else [score for frames, score in self.points if frames > first]

    @property
    def n_dips(self) -> int:
        return sum(score < DIPPED for score in self.afterwards)


class Evaluations(BaseCallback):
    """Plays episodes at even intervals; optionally stops once .9 is reached."""

    def __init__(self, task: Task, seed: int, *, until_learnt: bool) -> None:
        super().__init__()
        self._evaluator = Evaluator(
            env_ids=task.env_ids, backend="auto", observation="auto", mission=False
        )
        self._task, self._seed, self._until_learnt = task, seed, until_learnt
        self._next = EVERY
        self.points: list[tuple[int, float]] = []

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self._next:
            self._evaluate()

    def _on_training_end(self) -> None:
        if not self.points or self.points[-1][0] < self.num_timesteps:
            self._evaluate()

    def _evaluate(self) -> None:
        while self._next <= self.num_timesteps:
            self._next += EVERY
        with own_randomness(self._seed) as seed:
            act = policy_of(self.model, seed=seed)
            (played,) = self._evaluator.play(
                act, n_episodes=N_EPISODES, seed=self._seed, index=self.num_timesteps
            )
        score = float(np.mean(played.returns)) / self._task.highest
        self.points.append((self.num_timesteps, score))

    def _on_step(self) -> bool:
        return not (self._until_learnt and self.points and self.points[-1][1] >= LEARNT)


def train(arguments: argparse.Namespace) -> None:
    """Train what the output directory lacks, seed after seed."""
    torch.set_num_threads(1)
    for seed in _seeds(arguments.seeds):
        for name in arguments.tasks:
            for loss in arguments.losses:
                label = f"{name}-{arguments.settings}-{loss}-seed{seed}"
                path = Path(arguments.output) / f"{label}.csv"
                if path.exists():
                    continue
                started, task = time.perf_counter(), TASKS[name]
                evaluations = Evaluations(task, seed, until_learnt=arguments.until_learnt)
                old = arguments.settings == "old"
                weights = None
                if task.source is not None:
                    first = TASKS[task.source]
                    stop = [Evaluations(first, seed, until_learnt=True)] if old else []
                    weights = trained(task.source, seed, loss == "loss", old, stop, None)
                trained(name, seed, loss == "loss", old, [evaluations], weights)
                points = tuple(evaluations.points)
                training = Training(name, arguments.settings, loss, seed, points)
                write(path, [training])
                print(f"{label}: learnt at {training.learnt_at}, {training.n_dips} dips, last "
                      f"{points[-1][1]:.2f}, {time.perf_counter() - started:.0f} s",
                      flush=True)  # fmt: skip


def trained(
    name: str,
    seed: int,
    loss: bool,
    old: bool,
    callbacks: Sequence[BaseCallback],
    weights: Mapping[str, Any] | None,
) -> Mapping[str, Any]:
    """The weights of an agent after a task; it begins with other weights where there are any."""
    task = TASKS[name]
    overrides = OLD[name] if old else {}
    model, own = our_agent(task.agent, task.env_ids, seed=seed, loss=loss, overrides=overrides)
    if weights is not None:
        model.policy.load_state_dict(weights)
    own = [each for each in own if not (old and isinstance(each, AdvantageFloor))]
    learn(model, task.frames, [*own, *callbacks])
    model.get_env().close()  # type: ignore[union-attr]
    return model.policy.state_dict()


def _seeds(text: str) -> range:
    """``0-19`` or ``7`` as a range."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def write(path: Path, trainings: Iterable[Training]) -> None:
    """One row per evaluation; the file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    with temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        for each in trainings:
            for frames, score in each.points:
                row = (each.task, each.settings, each.loss, each.seed, frames, f"{score:.4f}")
                writer.writerow(row)
    temporary.replace(path)


def read(paths: Iterable[Path]) -> list[Training]:
    """The trainings in CSV files that `write` wrote."""
    points: dict[tuple[str, str, str, int], list[tuple[int, float]]] = {}
    for path in paths:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                key = (row["task"], row["settings"], row["loss"], int(row["seed"]))
                points.setdefault(key, []).append((int(row["frames"]), float(row["score"])))
    return [Training(*key, tuple(sorted(set(found)))) for key, found in sorted(points.items())]


def table(arguments: argparse.Namespace) -> None:
    """Join a directory's files, print the table, draw the figure."""
    directory = Path(arguments.directory)
    trainings = read(sorted(directory.glob("*.csv")))
    write(directory / "evaluations.csv", trainings)
    print("| task | defaults | loss | seeds | dips of evaluations | trainings with a dip | "
          "last < .85 | not learnt | median frames to .9 |\n" + "|---" * 9 + "|")  # fmt: skip
    groups = {(each.task, each.settings, each.loss): None for each in trainings}
    for task, settings, loss in groups:
        own = [t for t in trainings if (t.task, t.settings, t.loss) == (task, settings, loss)]
        print(_line(f"{task} | {settings} | {loss}", own))
    for settings in dict.fromkeys(each.settings for each in trainings):
        print(_line(f"all | {settings} | both", [t for t in trainings if t.settings == settings]))
    draw(directory / "stays_learnt.png", trainings)


def _line(name: str, own: Sequence[Training]) -> str:
    n_dips, n_after = sum(t.n_dips for t in own), sum(len(t.afterwards) for t in own)
    share = 100 * n_dips / n_after if n_after else float("nan")
    low = sum(t.points[-1][1] < DIPPED for t in own)
    frames = statistics.median(t.learnt_at or float("inf") for t in own)
    n_dipped, n_missed = sum(t.n_dips > 0 for t in own), sum(t.learnt_at is None for t in own)
    return (f"| {name} | {len(own)} | {n_dips} of {n_after} ({share:.2f} %) | {n_dipped} | {low} | "
            f"{n_missed} | {frames:,.0f} |")  # fmt: skip


def draw(path: Path, trainings: Sequence[Training]) -> None:
    """A panel per task and defaults; a line per training."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = list(dict.fromkeys((t.task, t.settings) for t in trainings))
    n_columns = min(3, len(panels))
    n_rows = -(-len(panels) // n_columns)
    figure, axes = pyplot.subplots(
        n_rows, n_columns, figsize=(4 * n_columns, 2.6 * n_rows), squeeze=False, sharey=True
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for (task, settings), axis in zip(panels, axes.flat, strict=False):
        for each in trainings:
            if (each.task, each.settings) == (task, settings):
                frames, scores = zip(*each.points, strict=True)
                color = "tab:blue" if each.loss == "loss" else "tab:orange"
                axis.plot(np.array(frames) / 1_000, scores, color=color, lw=0.6, alpha=0.6)
        axis.axhline(DIPPED, color="0.5", lw=0.6, ls=":")
        axis.set(title=f"{task}, {settings} defaults", xlabel="thousand frames", ylim=(0, 1.03))
        axis.title.set_fontsize(9)
    for axis in axes[:, 0]:
        axis.set_ylabel("score of 64 episodes")
    figure.suptitle("One line per training: blue with the loss, orange without", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train", help="train what is missing")
    training.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    training.add_argument("--seeds", default="0-19", help="a range such as 0-19, or one seed")
    training.add_argument("--losses", nargs="+", choices=("loss", "none"),
                          default=["loss", "none"])  # fmt: skip
    training.add_argument("--settings", choices=("new", "old"), default="new",
                          help="today's defaults, or those before (`OLD`)")  # fmt: skip
    training.add_argument("--until-learnt", action="store_true", help="stop at the first .9")
    training.add_argument("--output", default="runs/stays_learnt")
    training.set_defaults(run=train)
    shown = commands.add_parser("table", help="join files, print the table, draw the figure")
    shown.add_argument("directory", nargs="?", default="runs/stays_learnt")
    shown.set_defaults(run=table)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
