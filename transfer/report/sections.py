"""The sections of a report; those without results are empty, and `build` leaves them out."""

import shlex
from collections.abc import Mapping, Sequence

import yaml

from ..run_directory.directory import RESOLVED
from .arm_figures import (
    axis_figures,
    compute_figure,
    interval_figure,
    profile_figure,
    retention_map,
    source_map,
)
from .arm_statistics import ArmSummary, reference_of
from .curve_figures import information_curves, learning_curves, survival_curves
from .drawing import Picture
from .experiment import Experiment
from .labels import Style, readable, short_env
from .page import Section
from .page_tables import arm_table, diagnostics_table, source_table, target_table, train_table
from .target_statistics import TargetSummary

Styles = Mapping[str, Style]


def arm_section(experiment: Experiment, arms: Sequence[ArmSummary], styles: Styles) -> Section:
    """Results over all targets."""
    figures = [
        interval_figure(arms, styles, which=which, reference=reference_of(experiment))
        for which in ("auc", "difference", "improvement", "final")
    ]
    return Section(
        title="All targets together",
        text="Interquartile means over seeds and targets, with 95 % bootstrap intervals: whole "
        "seeds are resampled, since the targets of a seed share its source. The difference is of "
        "means, paired over seeds.",
        tables=(arm_table(experiment, arms),),
        pictures=_present(
            figures if experiment.raw_ids else [*figures, profile_figure(experiment, styles)]
        ),
    )


def target_sections(
    experiment: Experiment, targets: Sequence[TargetSummary], styles: Styles
) -> list[Section]:
    """Results on each target."""
    sections = [
        Section(
            title="Target by target",
            text="Means over seeds; bands (of two arms only, where there are more than five) and "
            "brackets are 95 % bootstrap intervals. Times are "
            "Kaplan–Meier medians: runs that never reach a score count as taking longer.",
            is_heading=True,
        )
    ]
    for env_id in experiment.curve_ids:
        own = [each for each in targets if each.env_id == env_id]
        pictures = [learning_curves(experiment, env_id, "target", styles)]
        if own and env_id not in experiment.raw_ids:
            pictures.append(survival_curves(experiment, env_id, styles))
        sections.append(
            Section(
                title=short_env(env_id),
                level=3,
                tables=(target_table(experiment, own),) if own else (),
                pictures=tuple(pictures),
            )
        )
    return sections


def source_section(experiment: Experiment, styles: Styles) -> Section:
    """Scores and frames of the sources, and their retention."""
    env_ids = dict.fromkeys(p.env_id for p in experiment.points if p.role == "source")
    pictures = [source_map(experiment), retention_map(experiment)]
    pictures += [learning_curves(experiment, env_id, "source", styles) for env_id in env_ids]
    return Section(
        title="Sources",
        text="Results depend strongly on the source agent, so every seed trains its own.",
        tables=(source_table(experiment),) if experiment.sources else (),
        pictures=_present(pictures),
    )


def information_section(experiment: Experiment, styles: Styles) -> Section:
    """Mutual information against frames."""
    curves = [information_curves(experiment, env_id, styles) for env_id in experiment.curve_ids]
    return Section(
        title="What the features tell",
        text="Lower bounds on mutual information, in nats, of the frozen features with a later "
        "observation of the same episode (future) and with the features of the source's encoder "
        "(source). They are measured in the same way for every arm, by a separate critic.",
        pictures=_present(curves),
    )


def compute_section(arms: Sequence[ArmSummary], styles: Styles) -> Section:
    """Compute and transfer."""
    return Section(
        title="Compute against transfer",
        text="Seconds of learning on a target, without evaluation. They are comparable only if all "
        "trainings ran on the same kind of machine under the same load.",
        pictures=_present([compute_figure(arms, styles)]),
    )


def axis_section(experiment: Experiment, arms: Sequence[ArmSummary]) -> Section:
    """Settings that an ablation varies."""
    return Section(title="Settings", pictures=tuple(axis_figures(experiment, arms)))


def train_section(experiment: Experiment, styles: Styles) -> Section:
    """Results of `train`."""
    env_ids = dict.fromkeys(p.env_id for p in experiment.points)
    role = experiment.points[0].role
    return Section(
        title="Learning curves",
        tables=(train_table(experiment),) if experiment.rows else (),
        pictures=tuple(learning_curves(experiment, env_id, role, styles) for env_id in env_ids),
    )


def examples_section(picture: Picture, whose: str) -> Section:
    """Examples of what the loss contrasts, from the training named `whose`."""
    return Section(
        title="What the loss contrasts",
        text=f"One step of the loss at the end of {whose}. Each row shows an observation, its "
        "positive, and the negatives from memory with the largest terms in the loss. cos is the "
        "cosine similarity with the observation; w is the weight of a negative, if the sampler "
        "weights them.",
        pictures=(picture,),
        wide=True,
    )


def diagnostics_section(experiment: Experiment) -> Section:
    """Diagnostics of encoder and policy."""
    table = diagnostics_table(experiment)
    tables = () if table is None else (table,)
    return Section(title="Diagnostics of encoder and policy", tables=tables)


def made_section(experiment: Experiment) -> Section:
    """Command, versions, seeds and machine."""
    manifest = experiment.manifest
    verbatim = []
    if manifest.get("command"):
        verbatim.append(("Command", shlex.join(map(str, manifest["command"]))))
    for again in manifest.get("resumed") or ():
        if again.get("command"):
            text = shlex.join(map(str, again["command"]))
            verbatim.append((f"Continued at frame {again.get('frames')}", text))
    versions = [f"{k} {v}" for k, v in (manifest.get("versions") or {}).items()]
    facts = [
        f"seeds: {', '.join(map(str, experiment.seeds))}",
        f"revision: {manifest.get('git_revision') or 'unknown'}",
        f"started: {manifest.get('started', 'unknown')}",
        *(f"{name}: {value}" for name, value in (manifest.get("machine") or {}).items()),
        *(f"joined: {name}" for name in manifest.get("joined") or ()),
        *versions,
    ]
    verbatim.append(("Seeds, revision, machine, versions", "\n".join(facts)))
    if experiment.config:
        own = {str(key): value for key, value in experiment.config.items() if key != RESOLVED}
        text = yaml.safe_dump(
            own, sort_keys=False, allow_unicode=True, width=88, default_flow_style=None
        )
        verbatim.append(("Settings (config.yaml)", text.rstrip()))
    return Section(title="How this was made", verbatim=tuple(verbatim))


def title_of(experiment: Experiment) -> str:
    """Title of the page: suite and agent."""
    first = (experiment.rows or experiment.points)[0]
    return f"{first.suite}, {first.agent}"


def outline_of(experiment: Experiment) -> str:
    """The line above the title: command, number of arms, targets and seeds."""
    seeds = experiment.seeds
    parts = [str(experiment.config.get("command") or "transfer")]
    if experiment.arms:
        parts.append(f"{len(experiment.arms)} arms against {readable(reference_of(experiment))}")
        parts.append(f"{len(experiment.target_ids)} targets")
    parts.append(f"{len(seeds)} seed{'s' * (len(seeds) != 1)}")
    return " · ".join(parts)


def _present(pictures: Sequence[Picture | None]) -> tuple[Picture, ...]:
    return tuple(picture for picture in pictures if picture is not None)
