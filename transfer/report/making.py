"""A report, made: one page, its figures, its numbers, and the keys for the projector."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..durable import write_bytes
from ..fields import SettingsError
from ..runs import AUXILIARY, write_text
from . import sections as told
from .answer import Answer, answer
from .drawing import Picture
from .examples import example_figure
from .files import write_aggregates, write_latex
from .labels import CANDIDATE, parse_label, short_env, styles
from .numbers import ArmSummary, summarise_arms
from .page import Section, page
from .projector import embed, write_embedding
from .reading import Experiment
from .remembering import remember
from .target_numbers import TargetSummary, summarise_target

PAGE = "report.html"
FIGURES = "figures"
SUMMARY = "summary.csv"
LATEX = "table.tex"
PROJECTOR = "projector"

Say = Callable[[str], None]


@dataclass(kw_only=True)
class _Memory:
    """What can be told of one contrastive training's memory."""

    examples: Picture | None = None
    notes: list[str] = field(default_factory=list)


def check_output(directory: Path, output: Path) -> None:
    """Refuse to write a report over the run it is of.

    Raises:
        SettingsError: `output` is the run's own directory, or a file.
    """
    if output.exists() and not output.is_dir():
        raise SettingsError(f"--output {output}: is a file; give a directory")
    if output.resolve() == directory.resolve():
        raise SettingsError(
            f"--output {output}: is the run itself, whose {SUMMARY} the report's would replace; "
            "give another directory"
        )


def make_report(experiment: Experiment, output: Path, *, say: Say = print) -> Path:
    """Write the whole report; the same directory gives the same bytes.

    Args:
        experiment: what was read.
        output: directory for it; made where it is missing.
        say: shows the user one line.

    Returns:
        The page.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / FIGURES).mkdir(exist_ok=True)
    arms = summarise_arms(experiment)
    targets = [each for t in experiment.target_ids for each in summarise_target(experiment, t)]
    memory = _look_into_memory(experiment, output, say)
    found = answer(experiment, arms) if arms else _of_train(experiment)
    parts = _sections(experiment, arms, targets, memory)
    text = page(
        title=told.title_of(experiment),
        what=told.outline_of(experiment),
        answer=found,
        sections=parts,
    )
    _write_figures(output / FIGURES, parts)
    if arms:
        write_aggregates(output / SUMMARY, arms, targets)
        write_latex(output / LATEX, experiment, arms, targets)
    write_text(output / PAGE, text)
    say(found.sentence)
    for line in (*found.caveats, *experiment.notes, *memory.notes):
        say(line)
    return output / PAGE


def _sections(
    experiment: Experiment,
    arms: list[ArmSummary],
    targets: list[TargetSummary],
    memory: _Memory,
) -> list[Section]:
    looks = styles(list(dict.fromkeys(point.arm for point in experiment.points)))
    parts: list[Section | None] = []
    if any(point.role == "target" for point in experiment.points):
        if arms:
            parts.append(told.arm_section(experiment, arms, looks))
            parts.append(told.axis_section(experiment, arms))
        parts += told.target_sections(experiment, targets, looks)
        parts.append(told.source_section(experiment, looks))
        parts.append(told.information_section(experiment, looks))
        parts.append(told.compute_section(arms, looks))
    else:
        parts.append(told.train_section(experiment, looks))
    if memory.examples is not None:
        parts.append(told.examples_section(memory.examples))
    parts.append(told.diagnostics_section(experiment))
    parts.append(told.missing_section([*experiment.notes, *memory.notes]))
    parts.append(told.made_section(experiment))
    return [part for part in parts if part is not None]


def _of_train(experiment: Experiment) -> Answer:
    """What is said first where nothing is transferred, or not yet."""
    if any(point.role == "target" for point in experiment.points):
        return answer(experiment, [])
    ends = {}
    for point in experiment.points:
        ends[(point.env_id, point.seed)] = point.score
    parts = []
    for env_id in dict.fromkeys(env_id for env_id, _ in ends):
        own = [score for (name, _), score in ends.items() if name == env_id]
        parts.append(f"{sum(own) / len(own):.2f} on {short_env(env_id)}")
    return Answer(
        sentence=f"Last scores, means over {len(experiment.seeds)} seed"
        f"{'s' * (len(experiment.seeds) != 1)}: {', '.join(parts)}.",
        caveats=("One agent, no arms: there is nothing to compare.",),
    )


def _look_into_memory(experiment: Experiment, output: Path, say: Say) -> _Memory:
    """Examples and keys of the first finished contrastive training that can be read."""
    told_of = _Memory()
    directories = [
        directory
        for (label, _, _), directory in sorted(
            experiment.cells.items(), key=lambda each: parse_label(each[0][0]).arm != CANDIDATE
        )
        if (directory / AUXILIARY).is_file()
    ]
    if not directories:
        told_of.notes.append(
            "No examples of what the loss contrasts and no keys: no finished contrastive training "
            "with its files is here."
        )
        return told_of
    for directory in directories:
        try:
            remembered = remember(directory)
        except ValueError as error:
            told_of.notes.append(f"No examples from {directory.name}: {error}.")
            continue
        told_of.examples = example_figure(remembered)
        if told_of.examples is None:
            told_of.notes.append("No examples are drawn: the observations are no pictures.")
        write_embedding(output / PROJECTOR, embed(remembered))
        told_of.notes = told_of.notes[-1:] if told_of.examples is None else []
        return told_of
    return told_of


def _write_figures(directory: Path, parts: list[Section]) -> None:
    """The figures of this report, and no others of an earlier one."""
    pictures = {picture.name: picture for part in parts for picture in part.pictures}
    for path in directory.glob("*.png"):
        if path.stem not in pictures:
            path.unlink()
    for name, picture in pictures.items():
        write_bytes(directory / f"{name}.png", picture.png)
