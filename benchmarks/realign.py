"""What a realignment costs, part by part, and the score that it gives before any reward.

    python run_agent.py train --env MiniGrid-DoorKey-5x5-v0 --loss none --frames 300_000 \\
        --random-frames 40_000 --output runs/source
    python benchmarks/realign.py runs/source --seeds 0 1 2 \\
        --targets contrastive/DoorKey-5x5-Codes4-v0

Seconds are of this process's CPU time, with one thread. "g" is the fit of the source's latent
dynamics, which a source does once; the others are done for each target.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from stable_baselines3 import DQN

from contrastive_distillation.agents import build_agent, observation_kind, realign
from contrastive_distillation.agents.realignment import job
from contrastive_distillation.agents.realignment import source as realignment_source
from contrastive_distillation.envs import make_vec
from contrastive_distillation.transfer import Evaluator, load_source, own_randomness, policy_of

PARTS = {"gather": "gathering", "detect": "comparing", "search": "restarts and choice"}
"""Functions of `realign` and what they are called in the table."""


@contextmanager
def timed(module: Any, name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Add the CPU seconds of a module's function to `seconds[name]`."""
    function: Callable[..., Any] = getattr(module, name)

    def run(*args: Any, **kwargs: Any) -> Any:
        started = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[name] += time.process_time() - started

    setattr(module, name, run)
    try:
        yield
    finally:
        setattr(module, name, function)


def measure(run: str, target: str, seed: int, *, episodes: int, settings: dict[str, Any]) -> None:
    """Realign one agent and print a row of the table."""
    source = replace(load_source(run), dynamics=None)
    agent = "dqn" if isinstance(source.model, DQN) else "ppo"
    space = source.model.observation_space
    observation = "picture" if observation_kind(space) == "picture" else "auto"
    env = make_vec([target], source.model.n_envs, seed, observation=observation)
    model = build_agent(agent, env, seed=seed)
    seconds: dict[str, float] = defaultdict(float)
    started = time.process_time()
    with ExitStack() as stack:
        stack.enter_context(timed(realignment_source, "fit_source_dynamics", seconds))
        for name in PARTS:
            stack.enter_context(timed(job, name, seconds))
        report = realign(model, source=source, seed=seed, **settings)
    total = time.process_time() - started
    evaluator = Evaluator(env_ids=(target,), backend="auto", observation=observation, mission=False)
    with own_randomness(seed) as own:
        act = policy_of(model, seed=own)
        (played,) = evaluator.play(act, n_episodes=episodes, seed=seed)
    g = seconds["fit_source_dynamics"]
    cells = [f"{seconds[name]:.1f}" for name in PARTS]
    losses = [report.loss_source, report.loss_before, report.loss_after]
    cells += [f"{total - g:.1f}", *("-" if loss is None else f"{loss:.2f}" for loss in losses)]
    cells += ["changed" if report.sensors_changed else "unchanged"]
    print(
        f"| {target} | {seed} | {g:.1f} | {' | '.join(cells)} | "
        f"{statistics.fmean(played.returns):.3f} |",
        flush=True,
    )
    env.close()
    source.model.get_env().close()  # type: ignore[union-attr]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="directory of a finished source")
    parser.add_argument("--targets", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--restarts", type=int)
    parser.add_argument("--updates", type=int)
    parser.add_argument("--objective", default="contrast_statistics")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = {name: getattr(arguments, name) for name in ("restarts", "updates", "objective")}
    parts = " | ".join(f"{name}, s" for name in PARTS.values())
    losses = "L_dyn of the source | before | after"
    print(f"| target | seed | g, s | {parts} | all but g, s | {losses} | sensors | mean return |")
    print("|---" * (9 + len(PARTS)) + "|", flush=True)
    for target in arguments.targets:
        for seed in arguments.seeds:
            measure(arguments.run, target, seed, episodes=arguments.episodes, settings=settings)


if __name__ == "__main__":
    main()
