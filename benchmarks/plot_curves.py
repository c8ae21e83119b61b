"""Draw the learning curves of transfer directories: one panel per target, one line per arm.

    python benchmarks/plot_curves.py runs/transfer-… --output docs/results/curves.png

Thin lines are seeds, thick ones their means.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe and Ito

Curves = dict[str, dict[str, dict[int, list[tuple[float, float]]]]]


def read(directory: Path) -> Curves:
    """Target → arm → seed → (frames, score), from every `curves.csv` below a directory."""
    curves: Curves = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    whole = directory / "curves.csv"
    for path in [whole] if whole.is_file() else sorted(directory.rglob("curves.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["role"] == "target":
                    point = (float(row["frames"]), float(row["score"]))
                    curves[row["env_id"]][row["arm"]][int(row["seed"])].append(point)
    return curves


def draw(curves: Curves, output: Path) -> None:
    """One panel per target."""
    figure, axes = plt.subplots(1, len(curves), figsize=(4.2 * len(curves), 3.4), squeeze=False)
    for axis, (env_id, arms) in zip(axes[0], curves.items(), strict=True):
        for colour, (arm, seeds) in zip(COLOURS, sorted(arms.items()), strict=False):
            lines = [np.array(sorted(points)) for points in seeds.values()]
            for line in lines:
                axis.plot(line[:, 0] / 1000, line[:, 1], color=colour, alpha=0.3, linewidth=0.8)
            n_points = min(len(line) for line in lines)
            mean = np.mean([line[:n_points] for line in lines], axis=0)
            axis.plot(mean[:, 0] / 1000, mean[:, 1], color=colour, linewidth=2.2, label=arm)
        axis.set_title(env_id.removeprefix("MiniGrid-").removesuffix("-v0"))
        axis.set_xlabel("frames on the target (thousands)")
        axis.set_ylim(-0.03, 1.03)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("score")
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("directory", type=Path, help="output directory of a transfer")
    parser.add_argument("--output", type=Path, default=Path("curves.png"))
    given = parser.parse_args()
    draw(read(given.directory), given.output)


if __name__ == "__main__":
    main()
