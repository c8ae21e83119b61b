"""What is shown while a grid runs."""

import io

from rich.console import Console

from contrastive_distillation.transfer.study.display import (
    LineDisplay,
    make_display,
    progress_table,
)
from contrastive_distillation.transfer.study.progress import RunProgress


def progress_of(n_arms: int = 3, n_seeds: int = 4) -> RunProgress:
    names = {f"arm{i:02d}/{seed}": f"arm{i:02d}" for i in range(n_arms) for seed in range(n_seeds)}
    return RunProgress(dict.fromkeys(names, 1_000_000), groups=names)


def drawn(progress: RunProgress, most_rows: int = 30) -> list[str]:
    console = Console(file=io.StringIO(), width=120)
    console.print(progress_table(progress, 80, most_rows=most_rows))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(len(line.rstrip()) for line in lines) <= 80
    return [line.strip() for line in lines]


def test_cells_are_counted_by_their_state() -> None:
    progress = progress_of()
    progress.skip("arm00/0")
    for name in ("arm00/1", "arm00/2", "arm01/0", "arm01/1"):
        progress.start(name)
    progress.update("arm00/1", 250_000)
    progress.finish("arm00/2", 1_000_000)
    progress.finish("arm01/0", None, failed=True)
    progress.finish("arm01/1", None)
    assert {group: dict(counts) for group, counts in progress.counts().items()} == {
        "arm00": {"finished": 2, "running": 1, "waiting": 1},
        "arm01": {"failed": 1, "waiting": 3},
        "arm02": {"waiting": 4},
    }
    assert progress.trainings == "2 of 12 trainings, 1 running, 1 failed"
    lines = drawn(progress)
    assert [line.split() for line in lines if line.startswith("arm0")] == [
        ["arm00", "2", "1", "1"], ["arm01", "3", "1"], ["arm02", "4"],
    ]  # fmt: skip
    assert "2 of 12 trainings, 1 running, 1 failed" in lines


def test_a_training_that_is_tried_again_runs_again() -> None:
    progress = progress_of(1, 1)
    progress.start("arm00/0")
    progress.start("arm00/0")
    progress.update("arm00/0", 10)
    progress.finish("arm00/0", 10)
    assert progress.counts()["arm00"] == {"finished": 1}
    assert progress.done == progress.total == 10


def test_many_arms_are_cut_and_those_at_work_come_first() -> None:
    progress = progress_of(n_arms=40)
    progress.start("arm33/0")
    progress.finish("arm35/1", None, failed=True)
    lines = drawn(progress, most_rows=5)
    shown = [line.split()[0] for line in lines if line.startswith("arm")]
    assert shown == ["arm33", "arm35", "arm00", "arm01", "arm02"]
    assert any("… and 35 more" in line for line in lines)


def test_long_labels_are_cut() -> None:
    label = "contrastive_distillation+negatives=value_contrast+n_negatives=128+every=4"
    assert any(
        line.startswith("contrastive_dist")
        for line in drawn(RunProgress({"a": 1}, groups={"a": label}))
    )


def test_hours_are_shown_as_hours() -> None:
    progress = progress_of()
    progress._recent.extend([(0.0, 0), (10.0, 10_000)])
    assert progress.frames_per_second == 1000
    assert progress.time_left == "3:20:00"


def test_a_log_of_a_grid_counts_its_trainings() -> None:
    console = Console(file=io.StringIO(), width=100)
    display = make_display(console, many=True)
    assert isinstance(display, LineDisplay)
    display._last = -1e9
    display.refresh(progress_of())
    assert console.file.getvalue().startswith("0 of 12 trainings · 0 of 12.00M frames")  # type: ignore[attr-defined]


def test_a_terminal_shows_the_table() -> None:
    console = Console(file=io.StringIO(), width=100, height=30, force_terminal=True)
    with make_display(console, many=True) as display:
        display.refresh(progress_of())
        display.say("a line")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "a line" in text and "arm02" in text and "0 of 12 trainings" in text
