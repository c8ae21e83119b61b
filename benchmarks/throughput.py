"""How fast training is, beside stock Stable-Baselines3, in one process and in turns.

    python benchmarks/throughput.py frames      # frames/s: stock, without and with the loss
    python benchmarks/throughput.py learn       # seconds and frames until a return of .9
    python benchmarks/throughput.py growth      # frames/s over environments, memory, K and width
    python benchmarks/throughput.py where       # where the time goes
    python benchmarks/throughput.py workers     # two seeds at once against one after the other

One thread. Stock is Stable-Baselines3's algorithm on Gymnasium environments in a `DummyVecEnv`,
with this package's encoder and its observations, and no auxiliary loss: PPO with 16 environments,
128 steps, 4 epochs of minibatches of 256 and a learning rate of 7e-4, DQN with this package's
settings. Rounds are taken in turns (A B C A B C …); tables show medians, and medians of ratios
within a round. Times are those of `learn()`, environments and networks being there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    build_agent,
    default_callbacks,
    default_n_envs,
    default_weight,
)
from contrastive_distillation.envs import make_env, make_vec
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory
from contrastive_distillation.transfer import Evaluator, own_randomness, policy_of

DOORKEY = ("MiniGrid-DoorKey-5x5-v0",)
KEYDOOR = (*DOORKEY, "MiniGrid-Unlock-v0", "MiniGrid-KeyCorridorS3R1-v0")
EMPTY = ("MiniGrid-Empty-Random-5x5-v0",)
CART_POLE = ("CartPole-v1",)
TUNED: dict[str, Any] = {"n_steps": 128, "batch_size": 256, "n_epochs": 4, "learning_rate": 7e-4,
         "ent_coef": 0.01, "clip_range": 0.2, "gae_lambda": 0.95}  # fmt: skip
LEARNT: dict[tuple[str, ...], float] = {DOORKEY: 0.9, EMPTY: 0.9, CART_POLE: 475.0}

Train = Callable[[int, Sequence[BaseCallback]], float]
"""From a seed and further callbacks to the seconds that `learn()` took."""


# ------------------------------------------------------------------------------------ contestants


def stock(agent: str, env_ids: Sequence[str], frames: int, picture: bool = False) -> Train:
    """Stable-Baselines3 on Gymnasium, and nothing of ours but observations and the encoder."""

    def train(seed: int, callbacks: Sequence[BaseCallback]) -> float:
        observation = "picture" if picture else "auto"
        mission = len(env_ids) > 1  # of the keydoor sources one task's varies
        n_envs = 16 if agent == "ppo" else default_n_envs(agent)
        makers = [
            partial(make_env, env_ids[i % len(env_ids)], observation=observation, mission=mission)
            for i in range(n_envs)
        ]
        env = DummyVecEnv(makers)
        ours = build_agent(agent, env, seed=seed)
        settings: dict[str, Any] = {"policy_kwargs": dict(ours.policy_kwargs), "seed": seed}
        is_dict = isinstance(env.observation_space, gym.spaces.Dict)
        policy = "MultiInputPolicy" if is_dict else "MlpPolicy"
        if is_dict or picture:
            settings["policy_kwargs"]["features_extractor_kwargs"] = {"encode_distinct": False}
        if agent == "ppo":
            return learn(PPO(policy, env, **settings, **TUNED), frames, callbacks)
        build = partial(build_agent, agent, env, seed=seed)
        model: BaseAlgorithm = build(policy_kwargs=settings["policy_kwargs"])
        assert isinstance(model, DQN)
        return learn(model, frames, callbacks)

    return train


def ours(
    agent: str,
    env_ids: Sequence[str],
    frames: int,
    *,
    loss: bool,
    picture: bool = False,
    n_envs: int | None = None,
    capacity: int = 100_000,
    settings: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
) -> Train:
    """This package's agent on EnvPool, with its memory filled, with or without the loss."""

    def train(seed: int, callbacks: Sequence[BaseCallback]) -> float:
        n = n_envs or default_n_envs(agent)
        n = max(n // len(env_ids), 1) * len(env_ids)
        env = make_vec(env_ids, n, seed, observation="picture" if picture else "auto")
        model = build_agent(agent, env, seed=seed, **(overrides or {}))
        joined: list[BaseCallback] = []
        if loss:
            joined.append(
                AuxiliaryLossCallback(
                    ContrastiveDistillation(**(settings or {})),
                    memory=EpisodicMemory(capacity=capacity),
                    weight=default_weight(agent),
                    seed=seed,
                )
            )
        every = [*default_callbacks(model), *joined, *callbacks]
        seconds = learn(model, frames, every)
        env.close()
        return seconds

    return train


def learn(model: BaseAlgorithm, frames: int, callbacks: Sequence[BaseCallback]) -> float:
    started = time.perf_counter()
    model.learn(frames, callback=list(callbacks))
    return time.perf_counter() - started


# ------------------------------------------------------------------------------------ frames


def frames(arguments: argparse.Namespace) -> None:
    pairs: dict[str, tuple[str, Sequence[str], int, int, bool]] = {
        "PPO, DoorKey-5x5": ("ppo", DOORKEY, 12_288, 65_536, False),
        "PPO, keydoor sources": ("ppo", KEYDOOR, 12_288, 65_536, False),
        "PPO, pictures of DoorKey-5x5": ("ppo", DOORKEY, 6_144, 16_384, True),
        "DQN, Empty-Random-5x5": ("dqn", EMPTY, 6_000, 16_000, False),
        "DQN, CartPole": ("dqn", CART_POLE, 6_000, 12_000, False),
    }
    print("| task | stock | without | with | with / stock | without / with |")
    print("|---|---|---|---|---|---|")
    for name, (agent, env_ids, n_stock, n_ours, picture) in pairs.items():
        contestants = {
            "stock": (stock(agent, env_ids, n_stock, picture), n_stock),
            "without": (ours(agent, env_ids, n_ours, loss=False, picture=picture), n_ours),
            "with": (ours(agent, env_ids, n_ours, loss=True, picture=picture), n_ours),
        }
        speeds = rounds(contestants, arguments.repeats)
        gain = [w / s for w, s in zip(speeds["with"], speeds["stock"], strict=True)]
        cost = [o / w for o, w in zip(speeds["without"], speeds["with"], strict=True)]
        cells = [f"{statistics.median(speeds[key]):,.0f}" for key in contestants]
        ratios = f"{statistics.median(gain):.1f} | {statistics.median(cost):.2f}"
        print(f"| {name} | {' | '.join(cells)} | {ratios} |", flush=True)


def rounds(contestants: dict[str, tuple[Train, int]], n: int) -> dict[str, list[float]]:
    """Frames/s of each in each round, after one round that is not counted."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(-1, n):
        for name, (train, n_frames) in contestants.items():
            seconds = train(max(round_, 0), [])
            if round_ >= 0:
                speeds[name].append(n_frames / seconds)
    return speeds


# ------------------------------------------------------------------------------------ learning


class Until(BaseCallback):
    """Stops where 32 sampled (PPO) or greedy (DQN) episodes return enough; its time is apart."""

    def __init__(self, env_ids: Sequence[str], seed: int, every: int) -> None:
        super().__init__()
        self._evaluator = Evaluator(
            env_ids=env_ids, n_episodes=32, backend="auto", observation="auto", mission=False
        )
        self._threshold = LEARNT[tuple(env_ids)]
        self._seed, self._every, self._next = seed, every, every
        self.seconds = 0.0
        self.learnt_at: int | None = None

    def _on_rollout_start(self) -> None:
        if self.num_timesteps < self._next or self.learnt_at is not None:
            return
        self._next += self._every
        started = time.perf_counter()
        with own_randomness(self._seed) as seed:
            act = policy_of(self.model, seed=seed)
            played = self._evaluator.play(act, seed=self._seed, index=self._next)
        if min(float(np.mean(episodes.returns)) for episodes in played) >= self._threshold:
            self.learnt_at = self.num_timesteps
        self.seconds += time.perf_counter() - started

    def _on_step(self) -> bool:
        return self.learnt_at is None


def learning(arguments: argparse.Namespace) -> None:
    print("| task | contestant | seed | frames | seconds |")
    print("|---|---|---|---|---|")
    tasks = {"DoorKey-5x5": ("ppo", DOORKEY, 500_000), "Empty-Random-5x5": ("dqn", EMPTY, 300_000),
             "CartPole": ("dqn", CART_POLE, 200_000)}  # fmt: skip
    for name in arguments.tasks or tasks:
        agent, env_ids, most = tasks[name]
        medians = {}
        for contestant, train in (
            ("with", ours(agent, env_ids, most, loss=True)),
            ("stock", stock(agent, env_ids, most)),
        ):
            found = []
            for seed in range(arguments.seeds):
                until = Until(env_ids, seed, 10_000)
                seconds = train(seed, [until]) - until.seconds
                found.append(seconds if until.learnt_at else float("inf"))
                print(f"| {name} | {contestant} | {seed} | {until.learnt_at} | {found[-1]:.1f} |")
                sys.stdout.flush()
            medians[contestant] = statistics.median(found)
        print(f"{name}: with / stock = {medians['with'] / medians['stock']:.3f} of the seconds")


# ------------------------------------------------------------------------------------ growth


def growth(arguments: argparse.Namespace) -> None:
    axes: dict[str, dict[Any, Train]] = {
        "environments": {
            n: ours("ppo", DOORKEY, 65_536, loss=True, n_envs=n) for n in (16, 64, 256, 1024)
        },
        "memory rows": {
            n: ours("ppo", DOORKEY, 65_536, loss=True, capacity=n)
            for n in (1_024, 10_000, 100_000, 1_000_000)
        },
        "K": {
            k: ours("ppo", DOORKEY, 65_536, loss=True, settings={"n_negatives": k})
            for k in (8, 32, 128, 512)
        },
        "encoder width": {width: wide(width) for width in (64, 128, 256, 512)},
    }
    for axis, contestants in axes.items():
        speeds = rounds(
            {str(key): (t, 65_536) for key, t in contestants.items()}, arguments.repeats
        )
        print(f"| {axis} | " + " | ".join(f"{int(key):,}" for key in speeds) + " |")
        print("|---|" + "---|" * len(speeds))
        medians = (f"{statistics.median(values):,.0f}" for values in speeds.values())
        print("| frames/s | " + " | ".join(medians) + " |\n", flush=True)


def wide(width: int) -> Train:
    env = make_vec(DOORKEY, 1, 0)
    kwargs = dict(build_agent("ppo", env, seed=0).policy_kwargs)
    kwargs["features_extractor_kwargs"] = {"features_dim": width}
    return ours("ppo", DOORKEY, 65_536, loss=True, overrides={"policy_kwargs": kwargs})


# ------------------------------------------------------------------------------------ the time


PARTS = {
    "environment": ("vector.py", "step_wait"),
    "inference": ("policies.py", "forward"),
    "update, the loss in it": ("ppo.py", "train"),
    "auxiliary loss": ("callback.py", "_before_step"),
    "- memory and keys": ("contrastive_distillation.py", "sample"),
    "recording": ("callback.py", "_on_step"),
    "all": ("on_policy_algorithm.py", "learn"),
}


def where(arguments: argparse.Namespace) -> None:
    import cProfile
    import pstats

    for name, env_ids in (("DoorKey-5x5", DOORKEY), ("keydoor sources", KEYDOOR)):
        train = ours("ppo", env_ids, 131_072, loss=True)
        train(0, [])
        profile = cProfile.Profile()
        profile.enable()
        train(0, [])
        profile.disable()
        found: dict[str, float] = {}
        for (path, _, function), row in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
            for part, (file, wanted) in PARTS.items():
                if function == wanted and Path(path).name == file:
                    found[part] = max(found.get(part, 0.0), row[3])
        print(f"{name}: µs per frame, with the profile's own cost")
        for part in PARTS:
            print(f"  {part:<24}{1e6 * found.get(part, 0.0) / 131_072:8.1f}")
    print(f"EnvPool alone, 256 environments: {environment_alone():.1f} µs per frame")
    print(f"matrix rate: {matrix_rate():.0f} GFLOP/s")


def environment_alone() -> float:
    env = make_vec(DOORKEY, 256, 0)
    env.reset()
    actions = np.random.default_rng(0).integers(0, 7, (200, 256))
    started = time.perf_counter()
    for each in actions:
        env.step(each)
    return 1e6 * (time.perf_counter() - started) / actions.size


def matrix_rate() -> float:
    a, b = torch.randn(2048, 256), torch.randn(256, 256)
    times = []
    for _ in range(50):
        started = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - started)
    return 2 * 2048 * 256 * 256 / statistics.median(times) / 1e9


def workers(arguments: argparse.Namespace) -> None:
    """Two seeds with one worker and with two, in turns."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(arguments.repeats):
        for n in seconds:
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, str(Path(__file__).parents[1] / "run_agent.py"), "train"]
                command += ["--env", DOORKEY[0], "--frames", "200_000", "--seeds", "2"]
                command += ["--workers", str(n), "--output", f"{folder}/run"]
                started = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                seconds[n].append(time.perf_counter() - started)
    ratio = statistics.median(one / two for one, two in zip(seconds[1], seconds[2], strict=True))
    one, two = (statistics.median(seconds[n]) for n in (1, 2))
    print(f"one worker {one:.1f} s, two {two:.1f} s: {ratio:.2f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=["frames", "learn", "growth", "where", "workers"])
    parser.add_argument("--repeats", type=int, default=3, help="rounds (frames, growth, workers)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds (learn)")
    parser.add_argument("--tasks", nargs="+", help="tasks (learn): DoorKey-5x5 …; default all")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    {"frames": frames, "learn": learning, "growth": growth, "where": where, "workers": workers}[
        arguments.what
    ](arguments)


if __name__ == "__main__":
    main()
