"""The speed of training, compared with stock Stable-Baselines3.

    python benchmarks/throughput.py frames      # frames/s: stock, without and with the loss
    python benchmarks/throughput.py cost        # with the loss and without, in short turns
    python benchmarks/throughput.py learn       # seconds and frames until a return of .9
    python benchmarks/throughput.py growth      # frames/s by environments, memory, K and width
    python benchmarks/throughput.py where       # where the time goes
    python benchmarks/throughput.py workers     # two seeds at once and one after the other

Everything runs in one thread. `contestants.py` holds the contestants and their settings: stock
Stable-Baselines3 with common settings ("usual") and with settings chosen for speed ("tuned"), and
this package's agents without and with the loss. Contestants take turns (A B C D A B C D …); tables
show medians, and medians of ratios within a round. Times are those of `learn()`, without making
environments and networks. In `frames` every DQN learns from frame 256 on, so that short runs replay
as much per frame as long ones. `cost` is in `cost.py`, `learn` in `learning.py`, `where` in
`where.py`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from contestants import (
    CART_POLE,
    DOORKEY,
    EMPTY,
    KEYDOOR,
    TUNED,
    USUAL,
    Train,
    learn,
    our_agent,
    ours,
    stock,
)
from cost import cost
from learning import learning
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from where import where

from contrastive_distillation.agents import build_agent
from contrastive_distillation.envs import make_vec

# ------------------------------------------------------------------------------------ frames


@dataclass(frozen=True)
class Task:
    """One row of the table of frames/s."""

    agent: str
    env_ids: tuple[str, ...]
    n_stock: int
    """Frames of stock's runs; ours are of `n_ours`."""
    n_ours: int
    stocks: tuple[str, ...] = ("usual", "tuned")
    """The stock settings to compare with: for DQN those that replay as much."""
    picture: bool = False
    n_replayed: str = "–"
    """Samples replayed per frame by all contestants of the row."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings of ours, if stock replays another number of samples than our default."""


TASKS: Mapping[str, Task] = {
    "PPO, DoorKey-5x5": Task("ppo", DOORKEY, 8_192, 65_536),
    "PPO, keydoor sources": Task("ppo", KEYDOOR, 8_192, 73_440),  # 9 rollouts of 255 · 32
    "PPO, pictures of DoorKey-5x5": Task("ppo", DOORKEY, 4_096, 32_768, picture=True),
    "DQN, Empty-Random-5x5": Task(
        "dqn", EMPTY, 6_000, 32_000, stocks=("tuned",), n_replayed="16"
    ),
    "DQN, Empty-Random-5x5, Stable-Baselines3's number": Task(
        "dqn", EMPTY, 6_000, 32_000, stocks=("usual",), n_replayed="8",
        overrides={"train_freq": 2, "gradient_steps": 1},
    ),
    "DQN, CartPole": Task("dqn", CART_POLE, 6_000, 16_000, n_replayed="32"),
}  # fmt: skip


def frames(arguments: argparse.Namespace) -> None:
    print("| task | samples replayed per frame | stock, usual | stock, tuned | without | with "
          "| with / usual | with / tuned | without / with |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for name in arguments.tasks or TASKS:
        task = TASKS[name]
        both = (task.agent, task.env_ids)
        starts = {"learning_starts": 256} if task.agent == "dqn" else {}
        contestants: dict[str, tuple[Train, int]] = {}
        for which in task.stocks:
            train = stock(*both, task.n_stock, which, picture=task.picture, overrides=starts)
            contestants[which] = (train, task.n_stock)
        for key, loss in (("without", False), ("with", True)):
            train = ours(
                *both, task.n_ours, loss=loss, picture=task.picture,
                overrides={**task.overrides, **starts},
            )  # fmt: skip
            contestants[key] = (train, task.n_ours)
        speeds = rounds(contestants, arguments.repeats)
        cells = [
            f"{statistics.median(speeds[key]):,.0f}" if key in speeds else "–"
            for key in ("usual", "tuned", "without", "with")
        ]
        for over, under in (("with", "usual"), ("with", "tuned"), ("without", "with")):
            pairs = zip(speeds.get(over, []), speeds.get(under, []), strict=False)
            ratios = [a / b for a, b in pairs]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "–")
        print(f"| {name} | {task.n_replayed} | {' | '.join(cells)} |", flush=True)
    for label, stocks in (("usual", USUAL), ("tuned", TUNED)):
        for which, chosen in stocks.items():
            print(f"stock, {label}, {which}: {chosen.n_envs} environments; {chosen.source}")


def rounds(contestants: dict[str, tuple[Train, int]], n: int) -> dict[str, list[float]]:
    """Frames/s of each contestant in each round, after a warm-up round."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(-1, n):
        for name, (train, n_frames) in contestants.items():
            seconds = train(max(round_, 0), [])
            if round_ >= 0:
                speeds[name].append(n_frames / seconds)
    return speeds


# ------------------------------------------------------------------------------------ cost


def costs(arguments: argparse.Namespace) -> None:
    print("| task | frames/s without | with / without | pairs |\n|---|---|---|---|", flush=True)
    for name in arguments.tasks or [name for name, task in TASKS.items() if not task.overrides]:
        task = TASKS[name]
        cells = cost(
            task.agent,
            task.env_ids,
            arguments.pairs,
            picture=task.picture,
            overrides=task.overrides,
        )
        print(f"| {name} | {cells} |", flush=True)


# ------------------------------------------------------------------------------------ growth


def growth(arguments: argparse.Namespace) -> None:
    axes: dict[str, dict[Any, Train]] = {
        "environments": {
            n: ours("ppo", DOORKEY, 65_536, loss=True, n_envs=n) for n in (16, 64, 256, 1024)
        },
        "memory rows": {n: filled(n) for n in (1_024, 10_000, 100_000, 1_000_000)},
        "K": {
            k: ours("ppo", DOORKEY, 65_536, loss=True, settings={"n_negatives": k})
            for k in (8, 32, 128, 512)
        },
        "encoder width": {width: wide(width) for width in (64, 128, 256, 512)},
    }
    for axis in arguments.axes or axes:
        contestants = axes[axis]
        speeds = rounds(
            {str(key): (t, 65_536) for key, t in contestants.items()}, arguments.repeats
        )
        print(f"| {axis} | " + " | ".join(f"{int(key):,}" for key in speeds) + " |")
        print("|---|" + "---|" * len(speeds))
        medians = (f"{statistics.median(values):,.0f}" for values in speeds.values())
        print("| frames/s | " + " | ".join(medians) + " |\n", flush=True)


def filled(capacity: int) -> Train:
    """An agent whose memory is full before the measurement."""
    agents: list[tuple[BaseAlgorithm, list[BaseCallback]]] = []

    def train(seed: int, callbacks: Sequence[BaseCallback]) -> float:
        if not agents:
            agents.append(our_agent("ppo", DOORKEY, seed=0, loss=True, capacity=capacity))
            learn(agents[0][0], max(capacity, 262_144), agents[0][1])
        model, own = agents[0]
        return learn(model, 65_536, [*own, *callbacks], go_on=True)

    return train


def wide(width: int) -> Train:
    env = make_vec(DOORKEY, 1, 0)
    kwargs = dict(build_agent("ppo", env, seed=0).policy_kwargs)
    kwargs["features_extractor_kwargs"] = {"features_dim": width}
    return ours("ppo", DOORKEY, 65_536, loss=True, overrides={"policy_kwargs": kwargs})


# ------------------------------------------------------------------------------------ workers


def workers(arguments: argparse.Namespace) -> None:
    """Time two seeds of 600k frames with one worker and with two, in turns, as whole processes."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(arguments.repeats):
        for n in seconds:
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, str(Path(__file__).parents[1] / "run_agent.py"), "train"]
                command += ["--env", DOORKEY[0], "--frames", "600_000", "--seeds", "2"]
                command += ["--workers", str(n), "--output", f"{folder}/run"]
                started = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                seconds[n].append(time.perf_counter() - started)
    ratio = statistics.median(one / two for one, two in zip(seconds[1], seconds[2], strict=True))
    one, two = (statistics.median(seconds[n]) for n in (1, 2))
    print(f"one worker {one:.1f} s, two {two:.1f} s: {ratio:.2f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=["frames", "cost", "learn", "growth", "where", "workers"])
    parser.add_argument("--repeats", type=int, default=3, help="rounds (frames, growth, workers)")
    parser.add_argument("--tasks", nargs="+", help="as in the tables (not growth, workers)")
    parser.add_argument("--pairs", type=int, default=12, help="turns of each (cost)")
    parser.add_argument("--axes", nargs="+", help="axes, as in the tables (growth)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds (learn)")
    parser.add_argument("--stocks", nargs="+", default=["usual", "tuned"], help="(learn)")
    parser.add_argument("--output", type=Path, default=Path("runs/learning.csv"),
                        help="CSV of runs, continued if it exists (learn)")  # fmt: skip
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "learn":
        learning(
            arguments.output,
            tasks=arguments.tasks or (),
            stocks=arguments.stocks,
            n_seeds=arguments.seeds,
        )
    elif arguments.what == "where":
        where(arguments.tasks or ())
    else:
        timed = {"frames": frames, "cost": costs, "growth": growth, "workers": workers}
        timed[arguments.what](arguments)


if __name__ == "__main__":
    main()
