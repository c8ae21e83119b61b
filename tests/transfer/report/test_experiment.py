"""What a directory holds: unfinished ones, those with tables alone, those that are none."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from contrastive_distillation.transfer import (
    SettingsError,
    TrainingSpec,
    TransferSettings,
    plan_transfer,
    read_experiment,
)
from contrastive_distillation.transfer.report.summary import read_summary, write_summary

from .directories import TARGETS, write_run

ARMS = ("contrastive_distillation", "fine_tune", "scratch")


def level(arm: str, env_id: str, seed: int) -> float:
    return 0.1 * (3 - ARMS.index(arm)) + 0.01 * seed


def test_tables_alone_are_enough(tmp_path: Path) -> None:
    write_run(tmp_path, arms=ARMS, score=level, with_config=False)
    found = read_experiment(tmp_path)
    assert found.arms == list(ARMS)
    assert found.target_ids == list(TARGETS)
    assert found.seeds == [0, 1, 2]
    assert (len(found.targets), len(found.sources)) == (18, 6)
    assert (found.progress, found.notes, found.learnt_score) == ((), (), 0.9)


def test_arms_and_targets_stand_in_the_order_of_the_command(tmp_path: Path) -> None:
    write_run(tmp_path, arms=ARMS, score=level)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config |= {"arms": ["scratch", "fine_tune", "contrastive_distillation"]}
    config |= {"target": list(TARGETS[::-1])}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    found = read_experiment(tmp_path)
    assert found.arms == ["scratch", "fine_tune", "contrastive_distillation"]
    assert found.target_ids == found.curve_ids == list(TARGETS[::-1])


def test_an_unfinished_grid_says_how_much_is_there(tmp_path: Path) -> None:
    skipped = [("scratch", TARGETS[0], 2), ("fine_tune", TARGETS[1], 1)]
    write_run(tmp_path, arms=ARMS, score=level, skipped=skipped)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config["arms"].append("frozen_encoder")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    found = read_experiment(tmp_path)
    first, second = found.progress
    assert "16 of 24 trainings on targets are finished" in first
    assert second == "Not started on any target: frozen_encoder."
    assert len(found.points) == 72, "curves of unfinished trainings are there all the same"


def test_a_score_that_is_nan_is_left_out_and_named(tmp_path: Path) -> None:
    write_run(tmp_path, arms=ARMS, score=level)
    rows = read_summary(tmp_path / "summary.csv")
    bad = next(i for i, row in enumerate(rows) if row.role == "target")
    rows[bad] = replace(rows[bad], auc=float("nan"))
    write_summary(tmp_path / "summary.csv", rows)
    found = read_experiment(tmp_path)
    assert len(found.targets) == 17
    (note,) = found.notes
    assert "contrastive_distillation" in note and "seed 0: its score is not a number" in note


@pytest.mark.parametrize("kind", ["nothing", "file", "empty", "others", "runs", "begun"])
def test_what_is_no_run_is_refused_with_what_was_expected(kind: str, tmp_path: Path) -> None:
    directory = tmp_path / "here"
    if kind == "file":
        directory.write_text("x")
    elif kind != "nothing":
        directory.mkdir()
    if kind == "others":
        (directory / "thesis.txt").write_text("years of work")
    elif kind == "runs":
        write_run(directory / "inside", arms=ARMS, score=level)
    elif kind == "begun":
        (directory / "config.yaml").write_text("command: transfer\n")
    expected = {
        "nothing": "does not exist; expected the directory of a transfer, ablate",
        "file": "is a file; expected",
        "empty": "is not a run's directory; expected",
        "others": "is not a run's directory; expected",
        "runs": "choose one in it: .*inside",
        "begun": "has nothing to report yet",
    }
    with pytest.raises(SettingsError, match=expected[kind]):
        read_experiment(directory)


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("curves.csv", "0.9,0.9", "much,0.9", r"curves\.csv, line 2: cannot be read: .*'much'"),
        ("curves.csv", "env_id", "environment", r"curves\.csv, line 2: .*env_id"),
        ("summary.csv", "True", "perhaps", r"summary\.csv, line 2: learnt: 'perhaps' is neither"),
        (
            "summary.csv",
            "100000",
            "many",
            r"summary\.csv, line 2: frames: 'many' is not of type",
        ),
    ],
)
def test_a_broken_table_is_named_with_its_line(
    name: str, old: str, new: str, says: str, tmp_path: Path
) -> None:
    write_run(tmp_path, arms=ARMS, score=level)
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=says):
        read_experiment(tmp_path)


def test_a_summary_of_before_some_columns_came(tmp_path: Path) -> None:
    committed = Path(__file__).parents[3] / "docs/results/first_run"
    shutil.copy(committed / "curves.csv", tmp_path)
    later = {"information_future", "information_source", "counted_from", "source_kind"}
    with (committed / "summary.csv").open() as file, (tmp_path / "summary.csv").open("w") as left:
        rows = list(csv.DictReader(file))
        assert later <= rows[0].keys()
        kept = [name for name in rows[0] if name not in later]
        writer = csv.DictWriter(left, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    found = read_experiment(tmp_path)
    assert found.arms == ["contrastive_distillation", "fine_tune", "scratch"]
    assert all(row.information_future is None for row in found.rows)
    assert all(row.source_learnt for row in found.targets if row.arm != "scratch")


def test_the_frequency_that_equal_compute_matches_is_a_part_of_its_config() -> None:
    settings = dict(suite="smoke", arms=("equal_compute",), loss="curl")
    ours, papers = (
        plan_transfer(TransferSettings(**settings, as_published=as_published)).specs
        for as_published in (False, True)
    )
    for spec, other in zip(ours, papers, strict=True):
        assert spec.name == other.name and spec.config() != other.config()
        for each in (spec, other):
            again = TrainingSpec.from_config(
                each.config(), name=each.name, arms=each.arms, needs=each.needs
            )
            assert again.matched_loss is not None and each.matched_loss is not None
            assert again.matched_loss.every == each.matched_loss.every


def test_a_cell_is_what_its_config_says() -> None:
    settings = TransferSettings(
        suite="smoke",
        arms=ARMS,
        seeds=2,
        gamma=0.9,
        n_negatives=8,
        negatives="nearest",
        loss_settings=("temperature=0.2",),
    )
    specs = plan_transfer(settings).specs
    assert len(specs) == 22
    for spec in specs:
        config = yaml.safe_load(yaml.safe_dump(spec.config()))
        again = TrainingSpec.from_config(config, name=spec.name, arms=spec.arms, needs=spec.needs)
        assert again == spec
