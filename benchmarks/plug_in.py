"""What the loss costs: wall-clock with and without it, for each algorithm.

    OMP_NUM_THREADS=1 python benchmarks/plug_in.py
    python benchmarks/plug_in.py --algorithms PPO DQN --repeats 5 --every 8

Per algorithm one process trains fresh models of one seed in the order A B A B …, A without and B
with the loss, after one short run of each that is not counted. The table shows the medians of
`learn()` in seconds, their ratio, and the smallest and largest ratio of a pair A B: where these lie
far apart the machine was busy, and the ratio says little. Algorithms run with Stable-Baselines3's
own settings and a small features extractor; `ppo-grid` and `dqn-grid` are this package's agents on
MiniGrid-DoorKey-5x5.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    VectorEncoder,
    build_agent,
    default_n_envs,
)
from contrastive_distillation.envs import make_vec
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory

try:
    import sb3_contrib
except ImportError:  # of the test extra; its algorithms are then left out
    sb3_contrib = None

TARGETS = {"PPO": 1.15, "DQN": 1.3, "ppo-grid": 1.15, "dqn-grid": 1.3}
"""Ratios to stay below, with the default settings of the callback."""

COLUMNS = (
    "algorithm", "frames", "every", "updates", "without, s", "with, s", "ratio", "pairs", "target",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the table."""

    make: Callable[[], BaseAlgorithm]
    frames: int
    every: int | None = None
    """None: the callback's own."""
    learn: dict[str, bool] = field(default_factory=dict)


def stock(
    algorithm: type[BaseAlgorithm], env_id: str, policy: str = "MlpPolicy", n_envs: int = 1
) -> BaseAlgorithm:
    """A model with Stable-Baselines3's settings and an extractor that has parameters."""
    kwargs = {"features_extractor_class": VectorEncoder}
    env = make_vec_env(env_id, n_envs=n_envs, seed=0)
    return algorithm(policy, env, policy_kwargs=kwargs, seed=0, device="cpu")


def own(agent: str) -> BaseAlgorithm:
    """This package's agent on a grid."""
    env = make_vec("MiniGrid-DoorKey-5x5-v0", default_n_envs(agent), seed=0)
    return build_agent(agent, env, seed=0)


def cases() -> dict[str, Case]:
    """Every algorithm that is installed, by name."""
    cart, pendulum = "CartPole-v1", "Pendulum-v1"
    found = {
        "PPO": Case(make=partial(stock, PPO, cart, n_envs=8), frames=32_768),
        "A2C": Case(make=partial(stock, A2C, cart, n_envs=8), frames=16_000),
        "DQN": Case(make=partial(stock, DQN, cart), frames=8_000),
        "SAC": Case(make=partial(stock, SAC, pendulum), frames=1_500),
        "TD3": Case(make=partial(stock, TD3, pendulum), frames=1_500),
        "ppo-grid": Case(make=partial(own, "ppo"), frames=40_960),
        "dqn-grid": Case(make=partial(own, "dqn"), frames=10_000),
    }
    if sb3_contrib is not None:
        contrib = {
            "QRDQN": Case(make=partial(stock, sb3_contrib.QRDQN, cart), frames=8_000),
            "MaskablePPO": Case(
                make=partial(stock, sb3_contrib.MaskablePPO, cart, n_envs=8),
                frames=32_768,
                learn={"use_masking": False},
            ),
            "RecurrentPPO": Case(
                make=partial(stock, sb3_contrib.RecurrentPPO, cart, "MlpLstmPolicy", 8),
                frames=2_048,
            ),
            "TQC": Case(make=partial(stock, sb3_contrib.TQC, pendulum), frames=1_000),
        }
        found |= contrib
    return found


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of each `learn()`, in the order in which they ran."""

    without: list[float]
    with_loss: list[float]
    n_updates: int
    """Auxiliary updates of one run with the loss."""
    every: int
    """Optimiser steps for each of them."""

    @property
    def ratio(self) -> float:
        """Median with the loss over median without."""
        return statistics.median(self.with_loss) / statistics.median(self.without)

    @property
    def pairs(self) -> list[float]:
        """With over without, of each pair A B."""
        return [b / a for a, b in zip(self.without, self.with_loss, strict=True)]


def seconds(case: Case, frames: int, joined: AuxiliaryLossCallback | None) -> float:
    """Wall-clock of one `learn()` of a fresh model."""
    model = case.make()
    started = time.perf_counter()
    model.learn(frames, callback=joined, **case.learn)
    took = time.perf_counter() - started
    env = model.get_env()
    assert env is not None
    env.close()
    return took


def measure(case: Case, frames: int, repeats: int, every: int | None) -> Timing:
    """A B A B …, after one run of each that is not counted."""

    def join() -> AuxiliaryLossCallback:
        memory = EpisodicMemory(capacity=50_000)
        return AuxiliaryLossCallback(ContrastiveDistillation(), memory=memory, every=every)

    for joined in (None, join()):
        seconds(case, max(1, frames // 8), joined)
    without, with_loss = [], []
    joined = join()
    for _ in range(repeats):
        without.append(seconds(case, frames, None))
        joined = join()
        with_loss.append(seconds(case, frames, joined))
    return Timing(
        without=without,
        with_loss=with_loss,
        n_updates=joined.n_updates,
        every=joined.steps_per_update,
    )


def row(name: str, timing: Timing, frames: int) -> str:
    """One line of the table, in Markdown."""
    target = f"≤ {TARGETS[name]:.2f}" if name in TARGETS else ""
    pairs = f"{min(timing.pairs):.2f}–{max(timing.pairs):.2f}"
    return (
        f"| {name} | {frames:,} | {timing.every} | {timing.n_updates:,} "
        f"| {statistics.median(timing.without):.2f} | {statistics.median(timing.with_loss):.2f} "
        f"| {timing.ratio:.2f} | {pairs} | {target} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, row by row."""
    known = cases()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithms", nargs="+", choices=list(known), default=list(known))
    parser.add_argument("--repeats", type=int, default=3, help="pairs A B (default 3)")
    parser.add_argument("--frames", type=int, help="of each run (default: by algorithm)")
    parser.add_argument("--every", type=int, help="optimiser steps per auxiliary update")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    print(
        "| algorithm | frames | every | updates | without, s | with, s | ratio | pairs | target |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in chosen.algorithms:
        case = known[name]
        frames, every = chosen.frames or case.frames, chosen.every or case.every
        timing = measure(case, frames, chosen.repeats, every)
        print(row(name, timing, frames), flush=True)


if __name__ == "__main__":
    main()
