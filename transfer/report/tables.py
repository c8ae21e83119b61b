"""The tables that a command prints at its end, at most 80 columns wide."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..console import plain_table
from ..settings.arms import ARMS, arm_of, is_part_of
from ..settings.suite import raw_returns
from .arm_statistics import estimate_of
from .formatting import MISSING, NOT_LEARNT, WORSE
from .summary import SummaryRow


def transfer_tables(rows: Sequence[SummaryRow]) -> RenderableType:
    """A table of the sources, one for each target, and a legend."""
    targets = [row for row in rows if row.role == "target"]
    sources = [row for row in rows if row.role == "source"]
    tables = [source_table(sources)] if sources else []
    for env_id in dict.fromkeys(row.env_id for row in targets):
        tables.append(_target_table(env_id, [row for row in targets if row.env_id == env_id]))
    return Group(*tables, _legend(rows))


def source_table(rows: Sequence[SummaryRow]) -> Table:
    """Score and frames of each kind of source in each environment."""
    table = _table({"environment": 28, "trained": None}, "final", "best", "frames", "learnt")
    table.title = "Sources"
    kinds: dict[tuple[str, str], dict[int, SummaryRow]] = {}
    for row in rows:
        kinds.setdefault((row.env_id, _trained(row)), {})[row.seed] = row
    for (env_id, trained), by_seed in kinds.items():
        own = list(by_seed.values())
        table.add_row(
            env_id,
            trained,
            _numbers([row.final_score for row in own]),
            _best(own),
            _frames([row.frames for row in own]),
            _learnt([row.learnt for row in own]),
        )
    return table


def _best(rows: Sequence[SummaryRow]) -> str:
    """The mean score of the best agents; empty where it was not kept."""
    scores = [row.best_score for row in rows if row.best_score is not None]
    return _numbers(scores) if len(scores) == len(rows) else ""


def _trained(row: SummaryRow) -> str:
    """How a source was trained."""
    arm = ARMS.get(arm_of(row.arm))
    return _folded(row.source_kind or ("" if arm is None else arm.source_kind or ""))


def _folded(label: str) -> str:
    """A label with each setting that varies on its own line."""
    return label.replace("+", "\n +")


def _table(names: Mapping[str, int | None], *numbers: str) -> Table:
    """A table without rows: columns of names, with their least widths, then of numbers."""
    table = plain_table()
    table.title_justify, table.title_style = "left", "bold"
    for heading, width in names.items():
        table.add_column(heading, overflow="fold", min_width=width)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _target_table(env_id: str, rows: Sequence[SummaryRow]) -> Table:
    table = _table({"arm": 24}, "AUC", "zero-shot", "final", "source")
    table.title = env_id
    all_scratch = [row for row in rows if arm_of(row.arm) == "scratch"]
    for arm in dict.fromkeys(row.arm for row in rows):
        own = [row for row in rows if row.arm == arm]
        scratch = [row for row in all_scratch if is_part_of(row.arm, arm)]
        before = [row.zero_shot for row in own if row.zero_shot is not None]
        table.add_row(
            _folded(arm),
            _compared(own, scratch, lambda row: row.auc),
            _numbers(before) if before else "",
            _compared(own, scratch, lambda row: row.final_score),
            _source(own),
        )
    return table


def _compared(
    own: Sequence[SummaryRow],
    scratch: Sequence[SummaryRow],
    value: Callable[[SummaryRow], float],
) -> str:
    """Mean and interval, marked if the mean is below that of scratch."""
    values, base = [value(row) for row in own], [value(row) for row in scratch]
    worse = bool(base) and round(float(np.mean(values)), 2) < round(float(np.mean(base)), 2)
    return _numbers(values, mark=WORSE if worse else " ")


def _numbers(values: Sequence[float], *, mark: str = "") -> str:
    """``0.62`` and, with two or more seeds, its 95 % interval on a second line."""
    found = estimate_of(values)
    text = f"{found.value:.2f}{mark}"
    if found.low is None or found.high is None:
        return text
    low, high = found.low, found.high
    between = f"{low:.2f}–{high:.2f}" if low >= 0 else f"{low:.2f} to {high:.2f}"
    return f"{text}\n{between}{' ' if mark else ''}"


def _frames(values: Sequence[int]) -> str:
    return f"{np.mean(values):,.0f}".replace(",", "_")


def _successes(rows: Sequence[SummaryRow]) -> str:
    rates = [row.final_success_rate for row in rows if row.final_success_rate is not None]
    return f"{100 * np.mean(rates):.0f} %" if rates else MISSING


def _learnt(values: Sequence[bool | None]) -> str:
    if all(values):
        return "yes"
    if None in values:
        return MISSING
    return (
        f"{NOT_LEARNT} no"
        if not any(values)
        else f"{NOT_LEARNT} {sum(value is True for value in values)} of {len(values)}"
    )


def _source(rows: Sequence[SummaryRow]) -> str:
    frames = [row.source_frames for row in rows if row.source_frames is not None]
    if not frames:
        return ""
    missed = sum(row.source_learnt is False for row in rows)
    if not missed:
        return _frames(frames)
    of = "" if len(rows) == 1 else f"{missed}/{len(rows)}"
    return f"{_frames(frames)} {NOT_LEARNT}{of}"


def _legend(rows: Sequence[SummaryRow]) -> Text:
    targets = [row for row in rows if row.role == "target"]
    n_seeds = len({row.seed for row in targets})
    backends = ", ".join(sorted({row.final_backend for row in rows}))
    lines = [
        f"{_scores(rows)} AUC: area under the learning curve.",
        "zero-shot: score before the first frame that is learnt from with a reward.",
        f"final: final score in the reference environment ({backends}).",
        "source: frames of its training.",
    ]
    if n_seeds > 1:
        lines.append(f"Means over {n_seeds} seeds; below them, 95 % bootstrap intervals.")
    unlearnt = [row for row in rows if row.role == "source" and row.learnt is False]
    if unlearnt or any(row.source_learnt is False for row in targets):
        lines.append(f"{NOT_LEARNT}: the source was not learnt within its frames.")
    longer = {arm_of(row.arm) for row in targets if row.counted_from}
    if longer:
        lines.append(f"{', '.join(sorted(longer))}: AUC and zero-shot are of the last frames only.")
    if any(arm_of(row.arm) == "scratch" for row in targets):
        lines.append(f"{WORSE}: worse than from scratch (negative transfer).")
    return Text("\n".join(lines), style="dim")


def _scores(rows: Sequence[SummaryRow]) -> str:
    """What scores are."""
    raw = list(dict.fromkeys(row.env_id for row in rows if row.is_raw))
    if not raw:
        return "Scores are normalised returns, 0 to 1."
    if all(row.is_raw for row in rows):
        return raw_returns(raw)
    return f"Scores are normalised returns, 0 to 1. {raw_returns(raw)}"


def train_tables(rows: Sequence[SummaryRow]) -> RenderableType:
    """The table of `train`, with a line below it if its scores are raw returns."""
    table = _train_table(rows)
    if not any(row.is_raw for row in rows):
        return table
    return Group(table, Text(_scores(rows), style="dim"))


def _train_table(rows: Sequence[SummaryRow]) -> Table:
    """Score, successes and frames of each environment after `train`."""
    table = _table({"environment": 24}, "AUC", "final", "best", "success", "frames", "learnt")
    for env_id in dict.fromkeys(row.env_id for row in rows):
        own = [row for row in rows if row.env_id == env_id]
        table.add_row(
            env_id,
            _numbers([row.auc for row in own]),
            _numbers([row.final_score for row in own]),
            _best(own),
            _successes(own),
            _frames([row.frames for row in own]),
            _learnt([row.learnt for row in own]),
        )
    return table
