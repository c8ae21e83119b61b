"""The numbers of a report as a tidy CSV file and as a LaTeX table."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..evaluation.curves import write_table
from ..run_directory.atomic_files import write_text
from .arm_statistics import ArmSummary, reference_of
from .experiment import Experiment
from .formatting import score
from .intervals import Estimate
from .labels import readable, short_env
from .target_statistics import TargetSummary

COLUMNS = ("arm", "target", "quantity", "value", "low", "high", "n_seeds")
_ARM_QUANTITIES = {
    "auc": "auc_iqm",
    "final": "final_iqm",
    "gap": "optimality_gap",
    "difference": "auc_less_reference",
    "improvement": "probability_of_improvement",
    "over_scratch": "auc_less_scratch",
    "forward": "forward_transfer",
    "retention": "retention",
    "seconds": "seconds",
}
_TARGET_QUANTITIES = {
    "auc": "auc_mean",
    "jumpstart": "jumpstart",
    "asymptote": "asymptote",
    "final": "final_mean",
    "over_scratch": "auc_less_scratch",
}
_TIMES = {
    "to_half": "frames_to_half",
    "to_learnt": "frames_to_learnt",
    "to_half_charged": "frames_to_half_with_sources",
}
_ALL = "all"


def write_aggregates(
    path: Path, arms: Sequence[ArmSummary], targets: Sequence[TargetSummary]
) -> None:
    """Write a line for each arm, target (or ``all``) and known quantity.

    A median time is ``inf`` if more than half of the runs did not reach the score.
    """
    lines: Iterator[dict[str, object]] = (
        dict(zip(COLUMNS, (*place, each.value, each.low, each.high, each.n_runs), strict=True))
        for *place, each in _estimates(arms, targets)
        if each is not None
    )
    write_table(path, COLUMNS, lines)


def _estimates(
    arms: Sequence[ArmSummary], targets: Sequence[TargetSummary]
) -> Iterator[tuple[str, str, str, Estimate | None]]:
    """Arm, target, quantity and its estimate, None if it is unknown."""
    for arm in arms:
        for field, name in _ARM_QUANTITIES.items():
            yield arm.label, _ALL, name, getattr(arm, field)
    for target in targets:
        place, n_runs = (target.label, target.env_id), target.auc.n_runs
        for field, name in _TARGET_QUANTITIES.items():
            yield *place, name, getattr(target, field)
        if target.forward is not None:
            yield *place, "forward_transfer", Estimate(value=target.forward, n_runs=n_runs)
        for field, name in _TIMES.items():
            curve = getattr(target, field)
            if curve is not None:
                median = float("inf") if curve.median is None else curve.median
                yield *place, name, Estimate(value=median, n_runs=n_runs)


def write_latex(
    path: Path,
    experiment: Experiment,
    arms: Sequence[ArmSummary],
    targets: Sequence[TargetSummary],
) -> None:
    """Write a ``booktabs`` table: area on each target and over all targets, P(> reference)."""
    ids = experiment.target_ids
    by_place = {(each.label, each.env_id): each for each in targets}
    reference = reference_of(experiment)
    columns = [*(_tex(short_env(env_id)) for env_id in ids), "all (IQM)",
               f"$P(>\\text{{{_tex(readable(reference))}}})$"]  # fmt: skip
    lines = []
    for arm in arms:
        places = [by_place.get((arm.label, env_id)) for env_id in ids]
        cells = [_tex_interval(None if each is None else each.auc) for each in places]
        cells += [_tex_interval(arm.auc), _tex_interval(arm.improvement)]
        lines.append(" & ".join([_tex(readable(arm.label)), *cells]) + r" \\")
    n = max((len(arm.seeds) for arm in arms), default=0)
    below = "; 95\\,\\% bootstrap intervals below" if n > 1 else ""
    text = "\n".join(
        [
            "% needs booktabs, amsmath and makecell",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{Area under the target learning curve, {n} seed{'s' * (n != 1)}{below}.}}",
            rf"\begin{{tabular}}{{l{'c' * len(columns)}}}",
            r"\toprule",
            " & ".join(["arm", *columns]) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
    write_text(path, text)


def _tex_interval(value: Estimate | None) -> str:
    if value is None:
        return "--"
    if value.low is None or value.high is None:
        return score(value.value)
    below = f"\\footnotesize {score(value.low)}--{score(value.high)}"
    return rf"\makecell{{{score(value.value)}\\{below}}}"


_TEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
})  # fmt: skip


def _tex(text: str) -> str:
    """Escape text for LaTeX."""
    return " ".join(text.split()).translate(_TEX)
