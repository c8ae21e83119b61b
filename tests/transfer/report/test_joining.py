"""Slices of a study are joined if they differ in nothing but their seeds."""

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

from contrastive_distillation.run_agent import main
from contrastive_distillation.transfer import AblateSettings, SettingsError, plan_transfer
from contrastive_distillation.transfer.evaluation.curves import CurvePoint, read_points
from contrastive_distillation.transfer.report.experiment import read_experiment
from contrastive_distillation.transfer.report.joining import read_experiments
from contrastive_distillation.transfer.report.summary import read_summary

from .directories import write_run

ARMS = ("contrastive_distillation", "fine_tune", "scratch")


def score(arm: str, env_id: str, seed: int) -> float:
    return {"contrastive_distillation": 0.6, "fine_tune": 0.5, "scratch": 0.2}[arm] + seed / 100


def written(directory: Path, *seeds: int, **changes: Any) -> Path:
    directory.mkdir()
    write_run(directory, arms=ARMS, score=score, seeds=seeds)
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))
    return directory


def as_tables(directory: Path, *, settings: str = "abc", versions: str = "torch 1") -> list[Path]:
    """The tables of a run, which carry their settings and versions."""
    (directory / "config.yaml").unlink()
    paths = [directory / "curves.csv", directory / "summary.csv"]
    for path in paths:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({**row, "settings": settings, "versions": versions} for row in rows)
    return paths


def test_two_slices_are_the_whole_study(tmp_path: Path) -> None:
    whole = read_experiment(written(tmp_path / "whole", 20, 21, 22, 23))
    slices = [written(tmp_path / "a", 20, 21), written(tmp_path / "b", 22, 23)]
    joined = read_experiments(slices)
    assert sorted(map(str, joined.rows)) == sorted(map(str, whole.rows))
    assert sorted(map(str, joined.points)) == sorted(map(str, whole.points))
    assert (joined.seeds, joined.arms) == ([20, 21, 22, 23], whole.arms)
    assert (joined.config["seed"], joined.config["seeds"]) == (20, 4)
    assert joined.progress == ()


def test_tables_are_joined_by_their_hash(tmp_path: Path) -> None:
    paths = as_tables(written(tmp_path / "a", 0, 1)) + as_tables(written(tmp_path / "b", 2))
    joined = read_experiments(paths)
    assert joined.seeds == [0, 1, 2] and {point.seed for point in joined.points} == {0, 1, 2}


def test_a_report_of_two_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [str(written(Path(name), *seeds)) for name, seeds in (("a", (0, 1)), ("b", (2,)))]
    assert main(["report", *names]) == 0
    said = capsys.readouterr().out
    assert "3 seeds" in said and said.rstrip().endswith("report/report.html")
    page = Path("report/report.html").read_text()
    assert "joined: a" in page and "joined: b" in page
    assert main(["report"]) == 2
    assert "name the directory of a run, DIR" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"loss": "curl"}, r"settings differ \(loss: contrastive_distillation and curl\)"),
        ({"gamma": 0.5}, r"settings differ \(gamma: None and 0\.5\); only their seeds may"),
    ],
)
def test_other_settings_are_refused(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    slices = [written(tmp_path / "a", 0), written(tmp_path / "b", 1, **changes)]
    with pytest.raises(SettingsError, match=says):
        read_experiments(slices)


def test_other_versions_are_refused(tmp_path: Path) -> None:
    one = as_tables(written(tmp_path / "a", 0))
    other = as_tables(written(tmp_path / "b", 1), versions="torch 2")
    with pytest.raises(SettingsError, match=r"with other versions \(torch 1 and torch 2\)"):
        read_experiments([*one, *other])
    hashed = as_tables(written(tmp_path / "c", 1), settings="abd")
    with pytest.raises(SettingsError, match=r"settings differ \(hashes abc and abd\)"):
        read_experiments([*one, *hashed])


def test_a_seed_in_two_slices_is_refused(tmp_path: Path) -> None:
    slices = [written(tmp_path / "a", 0, 1), written(tmp_path / "b", 1, 2)]
    with pytest.raises(SettingsError, match="both hold seed 1 of"):
        read_experiments(slices)


def test_tables_without_a_hash_are_refused(tmp_path: Path) -> None:
    paths = [written(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 1))]
    for path in paths:
        (path / "config.yaml").unlink()
    with pytest.raises(SettingsError, match="does not carry one hash of its settings"):
        read_experiments(paths)
    (tmp_path / "other.csv").write_text("x,y\n1,2\n")
    with pytest.raises(SettingsError, match="is not a table of a run"):
        read_experiments([tmp_path / "other.csv"])


def test_seeds_are_sliced(tmp_path: Path) -> None:
    whole, part = (
        plan_transfer(AblateSettings(suite="smoke", arms=("scratch",), seed=seed, seeds=n))
        for seed, n in ((0, 30), (20, 10))
    )
    assert part.specs == tuple(spec for spec in whole.specs if 20 <= spec.seed < 30)
    assert part.directory != whole.directory and "seed20" in part.directory.name


def test_old_tables_are_read(tmp_path: Path) -> None:
    directory = written(tmp_path / "a", 0)
    for name in ("curves.csv", "summary.csv"):
        lines = (directory / name).read_text().splitlines()
        (directory / name).write_text(
            "".join(
                f"{line.removesuffix(',,').removesuffix(',settings,versions')}\n" for line in lines
            )
        )
    assert read_points(directory / "curves.csv", CurvePoint)[0].settings == ""
    assert read_summary(directory / "summary.csv")[0].versions == ""
