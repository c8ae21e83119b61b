"""What a person reads: marks, intervals, 80 columns."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from contrastive_distillation.transfer.console import show
from contrastive_distillation.transfer.report.summary import SummaryRow
from contrastive_distillation.transfer.report.tables import train_tables, transfer_tables
from contrastive_distillation.transfer.study.display import LineDisplay
from contrastive_distillation.transfer.study.progress import RunProgress

ROW = SummaryRow(
    suite="keydoor",
    agent="ppo",
    arm="scratch",
    seed=0,
    role="target",
    env_id="MiniGrid-KeyCorridorS3R2-v0",
    auc=0.5,
    jumpstart=0.0,
    last_score=0.5,
    final_score=0.6,
    final_return_mean=0.6,
    final_return_std=0.1,
    final_success_rate=1.0,
    final_episodes=20,
    final_backend="gymnasium",
    frames=400_000,
    learnt=False,
    source_frames=None,
    source_learnt=None,
    frames_per_second=5000.0,
    seconds=80.0,
    evaluation_seconds=3.0,
    weights_sha256="0" * 64,
)


def shown(rows: list[SummaryRow]) -> str:
    console = Console(file=io.StringIO(), width=120)
    show(console, transfer_tables(rows))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    return str(text)


def arm(name: str, **changes: object) -> SummaryRow:
    learnt = replace(ROW, arm=name, source_frames=1_500_000, source_learnt=True)
    return replace(learnt, **changes)  # type: ignore[arg-type]


def line_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(name))


def test_negative_transfer_is_marked_where_it_is() -> None:
    text = shown([ROW, arm("fine_tune", auc=0.4, final_score=0.9)])
    line = line_of(text, "fine_tune")
    assert "0.40▼" in line
    assert "0.90▼" not in line
    assert "▼" not in line_of(text, "scratch")


def test_one_seed_has_no_interval() -> None:
    text = shown([ROW, arm("fine_tune")])
    assert "–" not in text
    assert "interval" not in text


def test_seeds_have_intervals_and_a_missed_source_is_marked() -> None:
    names = ["contrastive_distillation", "contrastive_source_only", "scratch"]
    rows = [
        arm(name, seed=seed, auc=seed / 10, jumpstart=-0.1, source_learnt=seed > 2)
        for name in names
        for seed in range(10)
    ]
    text = shown(rows)
    assert "95 % bootstrap intervals" in text
    assert "1_500_000 ✗3/10" in line_of(text, "contrastive_distillation")
    assert "0.45" in line_of(text, "contrastive_distillation")
    assert "–" in text


def test_sources_are_listed_by_their_loss() -> None:
    rows = [
        replace(ROW, arm="contrastive_distillation", role="source", learnt=True),
        replace(ROW, arm="contrastive_source_only", role="source", learnt=True),
        replace(ROW, arm="fine_tune", role="source", learnt=False),
    ]
    text = shown(rows)
    lines = [line for line in text.splitlines() if line.strip().startswith("MiniGrid")]
    assert len(lines) == 2, "arms that share a source share its line"
    assert "with_loss " in lines[0] and "yes" in lines[0]
    assert "plain" in lines[1] and "✗ no" in lines[1]


def test_what_varies_stands_below_its_arm() -> None:
    label = "contrastive_distillation+negatives=value_contrast+n_negatives=128"
    rows = [
        replace(ROW, arm="scratch+n_envs=8", auc=0.3),
        replace(ROW, arm="scratch+n_envs=16", auc=0.5),
        arm("fine_tune+n_envs=8", auc=0.4),
        arm("fine_tune+n_envs=16", auc=0.4),
        arm(label, role="source", source_kind="with_loss+n_negatives=128"),
        arm(label),
        replace(ROW, arm="scratch_source_budget", counted_from=300),
    ]
    text = shown(rows)
    assert "+negatives=value_contrast" in text
    lines = text.splitlines()
    at = {part: i for i, line in enumerate(lines) for part in ("=8 ", "=16 ") if part in line}
    assert len(at) == 2
    tuned = [line for line in lines if line.strip().startswith("fine_tune")]
    assert "0.40 " in tuned[0] and "▼" not in tuned[0], "compared with scratch with 8 environments"
    assert "0.40▼" in tuned[1], "and with 16"
    assert "scratch_source_budget: AUC and zero-shot are of the last frames only" in text


def test_train_table_fits(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(file=io.StringIO(), width=120)
    long_id = "contrastive/CartPole-SwappedActions-v0"
    show(console, train_tables([replace(ROW, env_id=long_id, seed=seed) for seed in range(3)]))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(len(line.rstrip()) for line in lines) <= 80


def test_tally_counts_what_is_done_and_shrinks_for_what_stops_early() -> None:
    progress = RunProgress({"source": 1000, "target": 500, "before": 200})
    progress.skip("before")
    progress.update("source", 400)
    assert (progress.done, progress.total) == (600, 1700)
    progress.finish("source", 600)
    assert (progress.done, progress.total) == (800, 1300)
    progress.finish("target", 512)
    assert (progress.done, progress.total) == (1300, 1300), "a rollout's overshoot does not count"


def test_a_failed_cell_leaves_nothing_to_wait_for() -> None:
    progress = RunProgress({"a": 1000, "b": 100})
    progress.update("a", 300)
    progress.finish("a", None)
    progress.finish("b", 100)
    assert progress.done == progress.total == 400


def test_plain_lines_carry_brackets_and_paths() -> None:
    console = Console(file=io.StringIO(), width=40)
    text = "runs/[odd]/" + "x" * 60 + " failed: [Errno 2]"
    with LineDisplay(console) as display:
        display.say(text)
    assert console.file.getvalue() == text + "\n"  # type: ignore[attr-defined]
