"""Where the time of a training goes, and a lower bound for each part.

The functions of each part are timed on the objects of one training, without a profiler, which would
add to the time of Python's calls. Time in a function of another part counts only for that part, so
that the parts add up. A second, short training counts floating-point operations in the same places.
The lower bound for a network's part is its operations at the rate of a plain matrix product; for
the environment, it is EnvPool's own step.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import envpool
import numpy as np
import torch
from contestants import CART_POLE, DOORKEY, EMPTY, KEYDOOR, ours
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from torch.utils.flop_counter import FlopCounterMode

from contrastive_distillation.agents import AuxiliaryLossCallback, default_n_envs

TASKS: dict[str, tuple[str, tuple[str, ...], int, bool]] = {
    "PPO, DoorKey-5x5": ("ppo", DOORKEY, 131_072, False),
    "PPO, keydoor sources": ("ppo", KEYDOOR, 131_072, False),
    "PPO, pictures of DoorKey-5x5": ("ppo", DOORKEY, 32_768, True),
    "DQN, Empty-Random-5x5": ("dqn", EMPTY, 64_000, False),
    "DQN, CartPole": ("dqn", CART_POLE, 32_000, False),
}
"""Agent, environments, frames, and whether observations are pictures."""

ENVIRONMENT, INFERENCE, UPDATE = "environment", "inference", "update"
REPLAY, AUXILIARY, MEMORY = "replay buffer", "auxiliary loss", "memory"
RECORDING, REST = "recording", "rest (Stable-Baselines3's loop)"
PARTS = (ENVIRONMENT, INFERENCE, UPDATE, REPLAY, AUXILIARY, MEMORY, RECORDING, REST)


class Parts(BaseCallback):
    """Adds up what `now` counts, seconds or operations, for each part of one `learn()`."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self.totals = dict.fromkeys(PARTS, 0.0)
        self._now = now
        self._within = [REST]
        self._since = 0.0

    def _on_training_start(self) -> None:
        model: Any = self.model
        self._watch(self.training_env, "step_wait", ENVIRONMENT)
        self._watch(model, "train", UPDATE)
        if isinstance(model, PPO):
            self._watch(model.policy, "forward", INFERENCE)
            self._watch(model.policy, "predict_values", INFERENCE)
            self._watch(model.rollout_buffer, "add", REPLAY)
            self._watch(model.rollout_buffer, "compute_returns_and_advantage", REPLAY)
        else:
            self._watch(model.policy, "predict", INFERENCE)
            self._watch(model.replay_buffer, "add", REPLAY)
            self._watch(model.replay_buffer, "sample", REPLAY)
        for callback in self.locals["callback"].callbacks:
            if isinstance(callback, AuxiliaryLossCallback):
                self._watch(callback, "_before_step", AUXILIARY)
                self._watch(callback, "_after_step", AUXILIARY)
                self._watch(callback.loss, "sample", MEMORY)
                self._watch(callback, "_on_step", RECORDING)
        self._since = self._now()

    def _watch(self, owner: object, name: str, part: str) -> None:
        plain = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._enter(part)
            try:
                return plain(*args, **kwargs)
            finally:
                self._leave()

        setattr(owner, name, counted)

    def _enter(self, part: str) -> None:
        self._charge()
        self._within.append(part)

    def _leave(self) -> None:
        self._charge()
        self._within.pop()

    def _charge(self) -> None:
        now = self._now()
        self.totals[self._within[-1]] += now - self._since
        self._since = now

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._charge()


def where(names: Sequence[str]) -> None:
    """Print, for each task, the µs per frame of each part and their lower bounds."""
    rate = matrix_rate()
    print(f"a matrix product of 2048×256 by 256×256: {rate / 1e9:.0f} GFLOP/s\n")
    for name in names or TASKS:
        agent, env_ids, n_frames, picture = TASKS[name]
        seconds = seconds_of_parts(agent, env_ids, n_frames, picture)
        operations = operations_of_parts(agent, env_ids, n_frames // 2, picture)
        least = {part: 1e6 * n / rate for part, n in operations.items()}
        least[ENVIRONMENT] = 1e6 * seconds_of_envpool(agent, env_ids)
        print(f"| {name} | µs per frame | share | lower bound |\n|---|---|---|---|")
        total = sum(seconds.values())
        for part in PARTS:
            floor = f"{least[part]:.1f}" if least[part] >= 0.05 else "–"
            print(f"| {part} | {1e6 * seconds[part]:.1f} | {seconds[part] / total:.0%} | {floor} |")
        print(f"| all | {1e6 * total:.1f} | | {sum(least.values()):.1f} |\n", flush=True)


def seconds_of_parts(
    agent: str, env_ids: Sequence[str], n_frames: int, picture: bool
) -> dict[str, float]:
    """Seconds per frame of each part, after a warm-up training."""
    train = ours(agent, env_ids, n_frames, loss=True, picture=picture)
    train(0, [])
    parts = Parts(time.perf_counter)
    train(0, [parts])
    return {part: total / n_frames for part, total in parts.totals.items()}


def operations_of_parts(
    agent: str, env_ids: Sequence[str], n_frames: int, picture: bool
) -> dict[str, float]:
    """Floating-point operations per frame of each part: products and convolutions."""
    counter = FlopCounterMode(display=False)
    parts = Parts(lambda: float(counter.get_total_flops()))
    train = ours(agent, env_ids, n_frames, loss=True, picture=picture)
    with counter:
        train(0, [parts])
    return {part: total / n_frames for part, total in parts.totals.items()}


def seconds_of_envpool(agent: str, env_ids: Sequence[str]) -> float:
    """Seconds per frame of EnvPool's own step, with random actions; the mean over the ids."""
    kind = "vector" if env_ids == CART_POLE else "grid"
    n_envs = default_n_envs(agent, kind) // len(env_ids)
    rng = np.random.default_rng(0)
    times = []
    for env_id in env_ids:
        env = envpool.make_gymnasium(env_id, num_envs=n_envs, num_threads=1, seed=0)
        env.reset()
        actions = rng.integers(0, env.action_space.n, (2_000 if kind == "vector" else 400, n_envs))
        started = time.perf_counter()
        for each in actions:
            env.step(each)
        times.append((time.perf_counter() - started) / actions.size)
        env.close()
    return statistics.fmean(times)


def matrix_rate() -> float:
    """Floating-point operations per second of a large matrix product."""
    a, b = torch.randn(2048, 256), torch.randn(256, 256)
    times = []
    for _ in range(50):
        started = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - started)
    return 2 * 2048 * 256 * 256 / statistics.median(times)
