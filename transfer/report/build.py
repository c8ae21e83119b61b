"""Writes a report: the page, its figures, its tables, and keys for the embedding projector."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..console import Say
from ..errors import SettingsError
from ..run_directory.atomic_files import write_bytes, write_text
from ..run_directory.directory import CONFIG, CURVES, SUMMARY
from ..settings.arms import arm_of
from . import sections
from .answer import Answer, answer
from .arm_statistics import ArmSummary, summarise_arms
from .drawing import Picture
from .examples import example_figure
from .experiment import Experiment
from .files import write_aggregates, write_latex
from .labels import CANDIDATE, readable, short_env, styles
from .loaded_loss import is_contrastive, load_loss
from .page import Section, render_page
from .projector import embed, write_embedding
from .target_statistics import TargetSummary, summarise_target

PAGE = "report.html"
FIGURES = "figures"
LATEX = "table.tex"
PROJECTOR = "projector"
_MOST_NOTES = 4
"""Most notes on trainings whose memory could not be read."""


@dataclass(frozen=True, kw_only=True)
class _MemoryReport:
    """Examples from the memory of one contrastive training."""

    examples: Picture | None = None
    whose: str = ""
    """Name of that training."""
    notes: tuple[str, ...] = ()


def check_output(directory: Path, output: Path) -> None:
    """Check that a report does not overwrite a run.

    Raises:
        SettingsError: `output` is the run's own directory, that of another run, or a file.
    """
    if output.exists() and not output.is_dir():
        raise SettingsError(f"--output {output}: is a file; give a directory")
    is_own = output.resolve() == directory.resolve()
    if is_own or any((output / name).is_file() for name in (CONFIG, CURVES)):
        kind = "the run itself" if is_own else "a run's directory"
        raise SettingsError(
            f"--output {output}: is {kind}, whose {SUMMARY} the report's would replace; "
            "give another directory"
        )


def make_report(experiment: Experiment, output: Path, *, say: Say = print) -> Path:
    """Write the report; the same directory always gives the same bytes.

    Args:
        experiment: the results.
        output: directory of the report, created if it is missing.
        say: shows the user a line of text.

    Returns:
        Path of the page.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / FIGURES).mkdir(exist_ok=True)
    arms = summarise_arms(experiment)
    targets = [each for t in experiment.target_ids for each in summarise_target(experiment, t)]
    memory = look_into_memory(experiment, output)
    found = answer(experiment, arms) if arms else _of_train(experiment)
    parts = _sections(experiment, arms, targets, memory)
    title, outline = sections.title_of(experiment), sections.outline_of(experiment)
    _write_figures(output / FIGURES, parts)
    if arms:
        write_aggregates(output / SUMMARY, arms, targets)
        write_latex(output / LATEX, experiment, arms, targets)
    page = render_page(title=title, outline=outline, answer=found, sections=parts)
    write_text(output / PAGE, page)
    say(found.sentence)
    for line in (*found.caveats, *experiment.notes, *memory.notes):
        say(line)
    return output / PAGE


def _sections(
    experiment: Experiment,
    arms: list[ArmSummary],
    targets: list[TargetSummary],
    memory: _MemoryReport,
) -> list[Section]:
    looks = styles(list(dict.fromkeys(point.arm for point in experiment.points)))
    parts = []
    if any(point.role == "target" for point in experiment.points):
        if arms:
            parts.append(sections.arm_section(experiment, arms, looks))
            parts.append(sections.axis_section(experiment, arms))
        parts += sections.target_sections(experiment, targets, looks)
        parts.append(sections.source_section(experiment, looks))
        parts.append(sections.information_section(experiment, looks))
        parts.append(sections.compute_section(arms, looks))
    else:
        parts.append(sections.train_section(experiment, looks))
    if memory.examples is not None:
        parts.append(sections.examples_section(memory.examples, memory.whose))
    parts.append(sections.diagnostics_section(experiment))
    notes = (*experiment.notes, *memory.notes)
    parts.append(Section(title="What is missing", items=notes))
    parts.append(sections.made_section(experiment))
    return [part for part in parts if not part.is_empty]


def _of_train(experiment: Experiment) -> Answer:
    """The answer for a run without a finished training on a target."""
    if any(point.role == "target" for point in experiment.points):
        return answer(experiment, [])
    ends = {(point.env_id, point.seed): point.score for point in experiment.points}
    parts = []
    for env_id in dict.fromkeys(env_id for env_id, _ in ends):
        own = [score for (name, _), score in ends.items() if name == env_id]
        parts.append(f"{sum(own) / len(own):.2f} on {short_env(env_id)}")
    return Answer(
        sentence=f"Last scores, means over {len(experiment.seeds)} seed"
        f"{'s' * (len(experiment.seeds) != 1)}: {', '.join(parts)}.",
        caveats=("One agent, no arms: there is nothing to compare.",),
    )


def look_into_memory(experiment: Experiment, output: Path) -> _MemoryReport:
    """Examples and keys of the first finished contrastive training that can be read.

    The arm of that name comes first, then targets and seeds in order.
    """
    notes = [
        "No examples of what the loss contrasts and no keys: no finished contrastive training "
        "has the files of its loss."
    ]
    for (label, env_id, seed), directory in _contrastive_first(experiment):
        try:
            loaded = load_loss(directory)
        except (ValueError, KeyError, OSError, RuntimeError) as error:
            notes.append(f"{os.path.relpath(directory, experiment.directory)}: {error}.")
            continue
        write_embedding(output / PROJECTOR, *embed(loaded))
        examples = example_figure(loaded)
        if examples is not None:
            whose = f"{readable(label)} on {short_env(env_id)}, seed {seed}"
            return _MemoryReport(examples=examples, whose=whose)
        return _MemoryReport(notes=("No examples are drawn: the observations are not pictures.",))
    return _MemoryReport(notes=tuple(notes[:_MOST_NOTES]))


def _contrastive_first(experiment: Experiment) -> Iterator[tuple[tuple[str, str, int], Path]]:
    """Finished trainings with contrastive distillation; those of the arm of that name first."""
    arms, targets = experiment.arms, experiment.target_ids
    known = [key for key in experiment.specs if key[0] in arms and key[1] in targets]
    known.sort(
        key=lambda k: (arm_of(k[0]) != CANDIDATE, arms.index(k[0]), targets.index(k[1]), k[2])
    )
    for key in known:
        if is_contrastive(experiment.specs[key]):
            yield key, experiment.specs[key]


def _write_figures(directory: Path, parts: list[Section]) -> None:
    """Write the figures and remove those of an earlier report that this one does not have."""
    pictures = {f"{picture.name}.png": picture for part in parts for picture in part.pictures}
    for kind in ("curve-target-", "curve-source-", "time-", "information-"):
        for left in directory.glob(f"{kind}*.png"):
            if left.name not in pictures:
                left.unlink()
    for name, picture in pictures.items():
        write_bytes(directory / name, picture.png)
