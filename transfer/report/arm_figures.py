"""Figures of arms over all targets: aggregates, profiles, heat maps, compute, settings."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from ..settings.arms import arm_of
from .arm_statistics import ArmSummary, counterpart, final, reference_of, scores_of, seeded
from .drawing import Picture, drawing, finished, legend_below, legend_height, line, unit
from .experiment import Experiment
from .formatting import score, seconds, signed, with_interval
from .intervals import Estimate, bootstrap_band
from .labels import (
    SCRATCH,
    Style,
    in_legend,
    on_axis,
    parse_label,
    readable,
    short_env,
    with_bands,
)
from .labels import styles as styles_of
from .scores import Floats, performance_profiles

_INTERVALS = {
    "auc": ("area under the curve", "Area under the learning curve, interquartile mean."),
    "final": ("final score", "Final score in the reference environment, interquartile mean."),
    "difference": ("difference of areas", "Area less that of {reference}, paired over seeds."),
    "improvement": ("chance", "Chance that a run has a larger area than one of {reference}."),
}
"""Quantity → label of its axis, and title of its figure."""
_LEVELS = np.linspace(0.0, 1.0, 101)


def interval_figure(
    arms: Sequence[ArmSummary], styles: Mapping[str, Style], *, which: str, reference: str
) -> Picture | None:
    """An interval for each arm; `which` is auc, final, difference or improvement."""
    heading, title = _INTERVALS[which]
    title = title.format(reference=readable(reference))
    known = [(arm, value) for arm in arms if (value := getattr(arm, which)) is not None]
    if not known:
        return None
    names = [on_axis(readable(arm.label)) for arm, _ in known]
    with drawing(height=0.8 + _line_height(names) * len(known)) as (figure, (axes,)):
        for place, (arm, value) in enumerate(known):
            _interval(axes, styles[arm.label], value, y=-place)
        axes.set_yticks([-i for i in range(len(known))], names)
        axes.set_ylim(-len(known) + 0.4, 0.6)
        axes.grid(axis="y", visible=False)
        if which in ("difference", "improvement"):
            axes.axvline(0.0 if which == "difference" else 0.5, color="#555555", linewidth=0.9)
        if which == "improvement":
            axes.set_xlim(-0.03, 1.03)
        axes.set_xlabel(heading)
        shown = (f"{readable(arm.label)} {with_interval(value)}" for arm, value in known)
        return finished(figure, name=which, title=title, alt=f"{heading}: {'; '.join(shown)}.")


def _interval(axes: Axes, style: Style, value: Estimate, *, y: float) -> None:
    if value.low is not None and value.high is not None:
        axes.plot([value.low, value.high], [y, y], color=style.colour, linewidth=5, alpha=0.35,
                  solid_capstyle="butt")  # fmt: skip
    axes.plot([value.value], [y], color=style.colour, marker=style.marker, markersize=6.5)


def _line_height(texts: Sequence[str]) -> float:
    """Height in inches of the longest of some tick labels."""
    return 0.17 + 0.155 * max(text.count("\n") + 1 for text in texts)


def profile_figure(experiment: Experiment, styles: Mapping[str, Style]) -> Picture | None:
    """Share of runs × targets whose final score is above each score."""
    tables = {
        label: scores_of(experiment, label, final, experiment.target_ids).table
        for label in experiment.arms
    }
    tables = {label: table for label, table in tables.items() if len(table)}
    if not tables:
        return None
    profiles = partial(performance_profiles, thresholds=_LEVELS)
    with drawing(height=3.0 + legend_height(list(tables))) as (figure, (axes,)):
        for label, table in tables.items():
            style = styles[label]
            axes.step(_LEVELS, profiles(table), where="post", color=style.colour,
                      linestyle=style.dashes, linewidth=1.7, label=in_legend(label))  # fmt: skip
            if len(table) > 1 and label in with_bands(list(tables)):
                low, high = bootstrap_band(table, seeded(), statistic=profiles, whole_runs=True)
                axes.fill_between(_LEVELS, low, high, step="post", color=style.colour, alpha=0.1,
                                  linewidth=0)  # fmt: skip
        unit(axes, "share of runs above it")
        axes.set_xlabel("final score")
        legend_below(figure, axes)
        return finished(
            figure, name="profile",
            title="Performance profile: share of runs with a final score above each.",
            alt="Share of runs and targets with a final score above each score, for each arm.",
        )  # fmt: skip


def compute_figure(arms: Sequence[ArmSummary], styles: Mapping[str, Style]) -> Picture | None:
    """Area under the curve against seconds of learning on a target."""
    known = [arm for arm in arms if arm.auc is not None and arm.seconds is not None]
    if not known:
        return None
    with drawing(height=3.1 + legend_height([arm.label for arm in known])) as (figure, (axes,)):
        for arm in known:
            assert arm.auc is not None and arm.seconds is not None
            style, x, y = styles[arm.label], arm.seconds.value, arm.auc.value
            if arm.auc.low is not None and arm.auc.high is not None:
                axes.plot([x, x], [arm.auc.low, arm.auc.high], color=style.colour, alpha=0.5)
            axes.plot([x], [y], color=style.colour, marker=style.marker, markersize=7,
                      linestyle="none", label=in_legend(arm.label))  # fmt: skip
        axes.set_xlim(0, 1.12 * max(arm.seconds.value for arm in known if arm.seconds))
        _unit_if_scores(axes, [arm.auc.value for arm in known if arm.auc])
        axes.set_xlabel("seconds of learning on a target")
        legend_below(figure, axes)
        shown = (f"{readable(a.label)} {seconds(a.seconds.value)}" for a in known if a.seconds)
        return finished(
            figure, name="compute", title="Area under the curve against seconds of learning.",
            alt=f"Area under the curve against seconds of learning: {'; '.join(shown)}.",
        )  # fmt: skip


def _unit_if_scores(axes: Axes, areas: Sequence[float]) -> None:
    """Scale the vertical axis from 0 to 1, unless areas are of raw returns."""
    if all(0.0 <= area <= 1.0 for area in areas):
        unit(axes, "area under the curve")
    else:
        axes.set_ylabel("area under the curve")


def source_map(experiment: Experiment) -> Picture | None:
    """Each source agent × each target: the area of the arms that start from it, less scratch's."""
    areas = {(row.arm, row.seed, row.env_id): row.auc for row in experiment.targets}
    has_scratch = any(arm_of(arm) == SCRATCH for arm in experiment.arms)
    areas_less_scratch: dict[tuple[str, str], list[float]] = {}
    unlearnt = set()
    kinds = _source_kinds(experiment)
    for row in experiment.targets:
        kind = kinds.get((row.arm, row.seed))
        scratch = counterpart(experiment, row.arm, SCRATCH) or ""
        base = areas.get((scratch, row.seed, row.env_id)) if has_scratch else 0.0
        if kind is None or base is None:
            continue
        areas_less_scratch.setdefault((kind, row.env_id), []).append(row.auc - base)
        if row.source_learnt is False:
            unlearnt.add(kind)
    if not areas_less_scratch:
        return None
    rows, columns = sorted({k for k, _ in areas_less_scratch}), experiment.target_ids
    values = _means(areas_less_scratch, rows, columns)
    names = [f"{row} ✗" if row in unlearnt else row for row in rows]
    what = "area under the curve, less scratch's" if has_scratch else "area under the curve"
    return _heat_map(
        values, names, columns, name="sources-targets", what=what,
        title="Each source agent × each target: area of the arms that start from it.",
        show=signed if has_scratch else score,
    )  # fmt: skip


def _source_kinds(experiment: Experiment) -> dict[tuple[str, int], str]:
    """(arm, seed) → name of its source; arms that share a source share its name."""
    names: dict[str, str] = {}
    found = {}
    for row in experiment.sources:
        first = names.setdefault(row.weights_sha256, row.source_kind or row.arm)
        found[(row.arm, row.seed)] = f"seed {row.seed}, {readable(first)}"
    for row in experiment.targets:  # sources of --from are not in this run
        if row.source_frames is not None:
            found.setdefault((row.arm, row.seed), "the given source")
    return found


def retention_map(experiment: Experiment) -> Picture | None:
    """Arms × targets: mean score on the sources after training on the target."""
    retention = defaultdict(list)
    for row in experiment.targets:
        if row.retention is not None:
            retention[row.arm, row.env_id].append(row.retention)
    if not retention:
        return None
    rows = [arm for arm in experiment.arms if any(arm == a for a, _ in retention)]
    columns = experiment.target_ids
    return _heat_map(
        _means(retention, rows, columns), [readable(row) for row in rows], columns,
        name="retention",
        title="What is left of the sources: mean score on them after each target.",
        what="score on the sources after the target",
        show=score,
    )  # fmt: skip


def _means(
    values: Mapping[tuple[str, str], Sequence[float]], rows: Sequence[str], columns: Sequence[str]
) -> Floats:
    """Mean of the values of each row and column; NaN where there are none."""
    return np.array([[np.mean(values.get((r, c), [np.nan])) for c in columns] for r in rows])


def _heat_map(
    values: Floats, rows: Sequence[str], columns: Sequence[str], *,
    name: str, title: str, what: str, show: Callable[[float], str],
) -> Picture:  # fmt: skip
    rows = [on_axis(row) for row in rows]
    with drawing(height=1.2 + _line_height(rows) * len(rows)) as (figure, (axes,)):
        low = min(0.0, float(np.nanmin(values)))
        high = max(1.0 + low, float(np.nanmax(values)))
        axes.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto")
        axes.set_xticks(range(len(columns)), [_broken(short_env(c)) for c in columns], fontsize=8.5)
        axes.set_yticks(range(len(rows)), rows)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = (value - low) / (high - low) < 0.55
                axes.text(j, i, show(value), ha="center", va="center", fontsize=9,
                          color="white" if dark else "black")  # fmt: skip
        axes.set_title(what, fontsize=9.5)
        return finished(figure, name=name, title=title, alt=f"{title} Shown: {what}.")


def _broken(name: str, width: int = 14) -> str:
    """A long name on two lines, broken before a capital or after a dash."""
    if len(name) <= width:
        return name
    breaks = [i for i in range(1, len(name)) if name[i].isupper() or name[i - 1] == "-"]
    at = min(breaks or [len(name) // 2], key=lambda i: abs(i - len(name) / 2))
    return f"{name[:at]}\n{name[at:]}"


def axis_figures(experiment: Experiment, arms: Sequence[ArmSummary]) -> list[Picture]:
    """Area under the curve against each setting that an ablation varies and that is a number."""
    labels = {arm.label: parse_label(arm.label) for arm in arms}
    axes_names = dict.fromkeys(name for label in labels.values() for name in label.axes)
    pictures = []
    for name in axes_names:
        own = [arm for arm in arms if labels[arm.label].number(name) is not None and arm.auc]
        if len({labels[arm.label].number(name) for arm in own}) > 1:
            pictures.append(_axis_figure(experiment, name, own, arms))
    return pictures


def _axis_figure(
    experiment: Experiment, name: str, own: Sequence[ArmSummary], arms: Sequence[ArmSummary]
) -> Picture:
    groups: dict[str, list[tuple[float, Estimate]]] = {}
    for arm in own:
        label = parse_label(arm.label)
        rest = [f"{k}={v}" for k, v in label.axes.items() if k != name]
        number = label.number(name)
        assert number is not None and arm.auc is not None
        groups.setdefault("+".join([label.arm, *rest]), []).append((number, arm.auc))
    looks = styles_of(list(groups))
    reference = next((a for a in arms if a.label == reference_of(experiment)), None)
    height = 3.2 + legend_height([*groups, reference_of(experiment)])
    with drawing(height=height) as (figure, (axes,)):
        for group, members in groups.items():
            members.sort(key=lambda each: each[0])
            x = [number for number, _ in members]
            line(axes, looks[group], group, x, [value.value for _, value in members])
            low = [v.value if v.low is None else v.low for _, v in members]
            high = [v.value if v.high is None else v.high for _, v in members]
            axes.fill_between(x, low, high, color=looks[group].colour, alpha=0.13, linewidth=0)
        if reference is not None and reference.auc is not None and reference not in own:
            axes.axhline(reference.auc.value, color="#555555", linewidth=1, linestyle=":",
                         label=in_legend(reference.label))  # fmt: skip
        numbers = sorted({number for members in groups.values() for number, _ in members})
        if numbers[0] > 0 and numbers[-1] / numbers[0] >= 8:
            axes.set_xscale("log")
            axes.minorticks_off()
        axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
        _unit_if_scores(axes, [arm.auc.value for arm in own if arm.auc])
        axes.set_xlabel(name)
        legend_below(figure, axes)
        return finished(
            figure, name=f"axis-{name}",
            title=f"Area under the curve against {name}, interquartile mean.",
            alt=f"Interquartile mean of the area under the curve against {name}.",
        )  # fmt: skip
