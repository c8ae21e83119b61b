"""Figures against frames: learning curves, times to a score, information."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from ..evaluation.curves import InformationPoint
from ..evaluation.information import QUANTITIES
from .arm_statistics import seeded
from .drawing import Picture, drawing, finished, legend_below, legend_height, line, thousands, unit
from .experiment import Experiment
from .intervals import bootstrap_band
from .labels import Style, in_legend, readable, short_env, with_bands
from .scores import Floats
from .target_statistics import curves_of, summarise_target

_SHOWN_SEEDS = 5
"""With more seeds than this, the curves of single seeds are not drawn."""

Line = tuple[Floats, Floats]
"""Frames (T,) and values (T,)."""


def learning_curves(
    experiment: Experiment, env_id: str, role: str, styles: Mapping[str, Style]
) -> Picture:
    """Score against frames in one environment: means, with bands and single seeds for few arms."""
    labels, ends = _labels(experiment, env_id, role), []
    with drawing(height=3.0 + legend_height(labels)) as (figure, (axes,)):
        for label in labels:
            seeds = sorted({p.seed for p in experiment.points if p.arm == label})
            curves = curves_of(experiment.points, label, env_id, seeds, role)
            ends.append(f"{readable(label)} ends at {np.mean([c[-1].score for c in curves]):.2f}")
            lines = [
                (np.array([float(p.frames) for p in c]), np.array([p.score for p in c]))
                for c in curves
            ]
            if role == "target":  # a curve that has just started would cut all others short
                most = max(frames[-1] for frames, _ in lines)
                lines = [each for each in lines if each[0][-1] >= most / 2]
            _draw_lines(axes, styles[label], label, lines, band=label in with_bands(labels))
        gathered = _gathered(experiment, env_id, labels) if role == "target" else 0
        if gathered:
            axes.axvspan(0, gathered, color="#888888", alpha=0.15, linewidth=0,
                         label="gathered without a reward")  # fmt: skip
        if env_id in experiment.raw_ids:
            axes.set_ylabel("return")
        else:
            unit(axes, "score")
        thousands(axes, "frames on this target" if role == "target" else "frames, all sources")
        axes.set_title(short_env(env_id))
        legend_below(figure, axes)
        return finished(
            figure,
            name=f"curve-{role}-{_file(env_id)}",
            title=f"Score on {short_env(env_id)} against frames.",
            alt=f"Learning curves on {env_id}: {'; '.join(ends)}.",
        )


def _gathered(experiment: Experiment, env_id: str, labels: Sequence[str]) -> int:
    """The most frames that an arm of the figure gathered before it learnt from a reward."""
    own = (row for row in experiment.targets if row.env_id == env_id and row.arm in labels)
    return max((row.gathered for row in own), default=0)


def _labels(experiment: Experiment, env_id: str, role: str) -> list[str]:
    """Arms with a curve in the environment; of arms that share a source only the first."""
    points = [p for p in experiment.points if (p.env_id, p.role) == (env_id, role)]
    labels, seen = [], set()
    for label in dict.fromkeys(p.arm for p in points):
        own = tuple((p.seed, p.frames, p.score, p.wall_seconds) for p in points if p.arm == label)
        if role == "target" or own not in seen:
            labels.append(label)
        seen.add(own)
    return labels


def _draw_lines(axes: Axes, style: Style, label: str, lines: Sequence[Line], *, band: bool) -> None:
    """Draw the mean over the frames that all lines have; if `band`, also its band and few lines."""
    end = min(frames[-1] for frames, _ in lines)
    grid = np.unique(np.concatenate([frames for frames, _ in lines]))
    grid = grid[grid <= end]
    table = np.array([np.interp(grid, frames, values) for frames, values in lines])
    if band and len(lines) > 1:
        if len(lines) <= _SHOWN_SEEDS:
            for frames, values in lines:
                axes.plot(frames, values, color=style.colour, linewidth=0.7, alpha=0.35)
        low, high = bootstrap_band(table, seeded(), statistic=lambda drawn: drawn.mean(axis=-2))
        axes.fill_between(grid, low, high, color=style.colour, alpha=0.13, linewidth=0)
    line(axes, style, label, grid, table.mean(axis=0), markevery=max(1, len(grid) // 7))


def survival_curves(experiment: Experiment, env_id: str, styles: Mapping[str, Style]) -> Picture:
    """Share of runs that have not reached a score: 0.5 on top, the learnt score below."""
    arms = summarise_target(experiment, env_id)
    end = max(p.frames for p in experiment.points if (p.env_id, p.role) == (env_id, "target"))
    levels = [(0.5, "to_half"), (experiment.learnt_score, "to_learnt")]
    height = 3.7 + legend_height([arm.label for arm in arms])
    with drawing(height=height, rows=2) as (figure, panels):
        for axes, (level, name) in zip(panels, levels, strict=True):
            for arm in arms:
                curve = getattr(arm, name)
                if curve is None:
                    continue
                style = styles[arm.label]
                times = np.concatenate([[0.0], curve.times, [end]])
                shares = np.concatenate([[1.0], curve.shares])
                shares = np.append(shares, shares[-1])
                axes.step(
                    times, shares, where="post", color=style.colour, linestyle=style.dashes,
                    linewidth=1.7, label=in_legend(arm.label),
                )  # fmt: skip
            unit(axes, f"not yet at {level:.2g}", step=0.5)
            axes.set_xlim(0, end * 1.02)
        panels[0].set_title(short_env(env_id))
        panels[0].tick_params(labelbottom=False)
        thousands(panels[1], "frames on this target")
        panels[0].xaxis.set_major_formatter(panels[1].xaxis.get_major_formatter())
        legend_below(figure, panels[0])
        return finished(
            figure,
            name=f"time-{_file(env_id)}",
            title=f"Share of runs on {short_env(env_id)} that have not reached a score.",
            alt=f"Share of runs on {env_id} that have not reached a score, by frames.",
        )


def information_curves(
    experiment: Experiment, env_id: str, styles: Mapping[str, Style]
) -> Picture | None:
    """Lower bounds on mutual information against frames, with the future and with the source."""
    points = [p for p in experiment.information if (p.env_id, p.role) == (env_id, "target")]
    quantities = [q for q in QUANTITIES if any(p.quantity == q for p in points)]
    if not points:
        return None
    labels = [a for a in styles if any(p.arm == a for p in points)]
    height = 0.6 + 1.8 * len(quantities) + legend_height(labels)
    with drawing(height=height, rows=len(quantities)) as (figure, panels):
        for axes, quantity in zip(panels, quantities, strict=True):
            own = [p for p in points if p.quantity == quantity]
            for label in labels:
                lines = _information_lines([p for p in own if p.arm == label])
                if lines:
                    band = label in with_bands(labels)
                    _draw_lines(axes, styles[label], label, lines, band=band)
            cap = max(p.cap for p in own)
            top = max(p.nats for p in own)
            if top > 0.6 * cap:
                axes.axhline(cap, color="#888888", linewidth=0.8, linestyle=":")
                axes.annotate("upper limit of the estimate", (1, cap),
                              xycoords=("axes fraction", "data"),
                              ha="right", va="bottom", fontsize=7.5, color="#666666")  # fmt: skip
            axes.set_ylabel(f"with the {quantity} (nats)")
            axes.set_xlim(left=0)
            thousands(axes, "frames on this target")
        panels[0].set_title(short_env(env_id))
        legend_below(figure, panels[0])
        return finished(
            figure,
            name=f"information-{_file(env_id)}",
            title=f"Lower bounds on the information of the features on {short_env(env_id)}.",
            alt=f"Lower bounds on mutual information of the features on {env_id} against frames.",
        )


def _information_lines(points: Sequence[InformationPoint]) -> list[Line]:
    lines = []
    for seed in sorted({p.seed for p in points}):
        own = sorted((p for p in points if p.seed == seed), key=lambda p: p.frames)
        lines.append((np.array([float(p.frames) for p in own]), np.array([p.nats for p in own])))
    return lines


def _file(env_id: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "-" for c in short_env(env_id))
