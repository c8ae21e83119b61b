"""Seconds and frames until a return is reached, for this package's agents and stock ones.

Each run appends a row to a CSV file, so that a long comparison can be stopped and continued. The
contestants take turns, seed after seed. A run ends at `most_frames`; evaluation time is not
counted.
"""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from contestants import CART_POLE, DOORKEY, EMPTY, Train, ours, stock
from stable_baselines3.common.callbacks import BaseCallback

from contrastive_distillation.transfer import Evaluator, own_randomness, policy_of


@dataclass(frozen=True)
class Goal:
    """A task, the return to reach, and the limit of frames."""

    agent: str
    env_ids: tuple[str, ...]
    threshold: float
    """Mean return of 32 episodes, sampled (PPO) or greedy (DQN)."""
    most_frames: int
    every: int
    """Frames between two evaluations."""


GOALS: Mapping[str, Goal] = {
    "DoorKey-5x5": Goal("ppo", DOORKEY, 0.9, 500_000, 8_192),
    "Empty-Random-5x5": Goal("dqn", EMPTY, 0.9, 300_000, 4_096),
    "CartPole": Goal("dqn", CART_POLE, 475.0, 200_000, 4_096),
}


@dataclass(frozen=True)
class Row:
    """One training."""

    task: str
    contestant: str
    seed: int
    frames: int | None
    """Until the threshold; None: not reached within `most_frames`."""
    seconds: float
    """Until the threshold, or of the whole run."""


class Until(BaseCallback):
    """Stops when 32 episodes return enough; `seconds` is its own time."""

    def __init__(self, goal: Goal, seed: int) -> None:
        super().__init__()
        self._evaluator = Evaluator(
            env_ids=goal.env_ids, backend="auto", observation="auto", mission=False
        )
        self._goal, self._seed, self._next = goal, seed, goal.every
        self.seconds = 0.0
        self.learnt_at: int | None = None

    def _on_rollout_start(self) -> None:
        if self.num_timesteps < self._next or self.learnt_at is not None:
            return
        self._next += self._goal.every
        started = time.perf_counter()
        with own_randomness(self._seed) as seed:
            act = policy_of(self.model, seed=seed)
            played = self._evaluator.play(act, n_episodes=32, seed=self._seed, index=self._next)
        if min(float(np.mean(each.returns)) for each in played) >= self._goal.threshold:
            self.learnt_at = self.num_timesteps
        self.seconds += time.perf_counter() - started

    def _on_step(self) -> bool:
        return self.learnt_at is None


def learning(path: Path, *, tasks: Sequence[str], stocks: Sequence[str], n_seeds: int) -> None:
    """Do the runs that `path` lacks, and print the table of all runs."""
    rows = read(path)
    done = {(row.task, row.contestant, row.seed) for row in rows}
    for task in tasks or GOALS:
        for seed in range(n_seeds):
            for contestant in ("ours", *stocks):
                if (task, contestant, seed) in done:
                    continue
                rows.append(run(task, contestant, seed))
                write(path, rows[-1])
    print_table(rows)


def run(task: str, contestant: str, seed: int) -> Row:
    goal = GOALS[task]
    until = Until(goal, seed)
    train: Train
    if contestant == "ours":
        train = ours(goal.agent, goal.env_ids, goal.most_frames, loss=True)
    else:
        train = stock(goal.agent, goal.env_ids, goal.most_frames, contestant)
    seconds = train(seed, [until]) - until.seconds
    return Row(task, contestant, seed, until.learnt_at, round(seconds, 2))


def read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Row(each["task"], each["contestant"], int(each["seed"]),
                int(each["frames"]) if each["frames"] else None, float(each["seconds"]))
            for each in csv.DictReader(file)
        ]  # fmt: skip


def write(path: Path, row: Row) -> None:
    is_new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [each.name for each in fields(Row)])
        if is_new:
            writer.writeheader()
        writer.writerow(asdict(row))


def print_table(rows: Sequence[Row]) -> None:
    """Print medians over seeds; a run that did not reach the return counts as infinitely long."""
    print("| task | contestant | seeds | learnt | frames, median | seconds, median | / ours |")
    print("|---|---|---|---|---|---|---|")
    for task in dict.fromkeys(row.task for row in rows):
        found = [row for row in rows if row.task == task]
        base = _median_seconds([row for row in found if row.contestant == "ours"])
        for contestant in dict.fromkeys(row.contestant for row in found):
            these = [row for row in found if row.contestant == contestant]
            n_learnt = sum(row.frames is not None for row in these)
            frames = statistics.median(row.frames or float("inf") for row in these)
            seconds = _median_seconds(these)
            more = seconds == float("inf")
            shown = f"> {statistics.median(row.seconds for row in these):,.0f}" if more else (
                f"{seconds:,.1f}")  # fmt: skip
            print(f"| {task} | {contestant} | {len(these)} | {n_learnt} | {frames:,.0f} | {shown} "
                  f"| {seconds / base:.1f} |")  # fmt: skip


def _median_seconds(rows: Sequence[Row]) -> float:
    """The median; infinite if most runs did not reach the threshold."""
    if not rows:
        return float("nan")
    return statistics.median(row.seconds if row.frames else float("inf") for row in rows)
