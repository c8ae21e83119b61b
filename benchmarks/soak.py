"""Memory over a long training: the resident set must not grow after warm-up.

    python benchmarks/soak.py                       # 10 million frames
    python benchmarks/soak.py --frames 200_000      # a quick look

Trains PPO with the loss, the default memory and checkpoints in this process, and reads its
resident set every 1 % of the frames. The first quarter is warm-up: memory, buffers and allocator
fill. The exit code is 0 if the largest set after it is below `--most-megabytes`, and the largest of
the second half is at most `--growth-megabytes` above the largest of the second quarter.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from contrastive_distillation.transfer import TrainSettings, plan_train, run_training


def main() -> int:
    """Train, print the resident set, and check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000_000)
    parser.add_argument("--agent", default="ppo")
    parser.add_argument("--env", default="MiniGrid-DoorKey-5x5-v0")
    parser.add_argument("--most-megabytes", type=float, default=800.0)
    parser.add_argument("--growth-megabytes", type=float, default=50.0)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="soak-"))
    settings = TrainSettings(
        agent=options.agent, env=(options.env,), frames=options.frames, output=str(directory)
    )
    (spec,) = plan_train(settings).specs
    seen: list[tuple[int, float]] = []

    def look(frames: int) -> None:
        if not seen or frames - seen[-1][0] >= options.frames / 100:
            seen.append((frames, resident_megabytes()))
            print(f"{frames:>12_} frames  {seen[-1][1]:8.1f} MB", flush=True)

    try:
        run_training(spec, directory, command=(), report=look, stop=lambda: False)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    second = [size for frames, size in seen if 0.25 <= frames / options.frames < 0.5]
    rest = [size for frames, size in seen if frames / options.frames >= 0.5]
    if not second or not rest:
        print("too few frames to check the growth: use more --frames")
        return 1
    growth = max(rest) - max(second)
    most = max(*second, *rest)
    print(
        f"at most {most:.0f} MB after warm-up (allowed {options.most_megabytes:.0f}), "
        f"growth in the second half {growth:+.1f} MB (allowed {options.growth_megabytes:.0f})"
    )
    bounded = most <= options.most_megabytes
    return 0 if bounded and growth <= options.growth_megabytes else 1


def resident_megabytes() -> float:
    """The resident set of this process. Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status does not say how much memory this process holds")


if __name__ == "__main__":
    sys.exit(main())
