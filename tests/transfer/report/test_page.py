"""The page and its files: whole, harmless, the same for the same directory."""

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from contrastive_distillation.run_agent import main
from contrastive_distillation.transfer import (
    SettingsError,
    check_output,
    make_report,
    read_experiment,
)
from contrastive_distillation.transfer.report.arm_statistics import summarise_arms
from contrastive_distillation.transfer.report.files import write_latex
from contrastive_distillation.transfer.report.labels import parse_label
from contrastive_distillation.transfer.report.page_tables import diagnostics_table
from contrastive_distillation.transfer.report.style import STYLE
from contrastive_distillation.transfer.report.target_statistics import summarise_target

from .directories import TARGETS, write_run

ARMS = ("contrastive_distillation", "fine_tune", "scratch")
VOID = {"meta", "img", "br", "hr"}


class Reader(HTMLParser):
    """Checks that tags nest, and gathers what is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "action", "srcset")]
        if tag == "img":
            self.pictures.append(values)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read_page(path: Path) -> tuple[Reader, str]:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert not reader.open
    return reader, " ".join(" ".join(reader.words).split())


def level(arm: str, env_id: str, seed: int) -> float:
    return 0.2 * (3 - ARMS.index(arm)) + 0.02 * seed


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("reported")
    write_run(directory, arms=ARMS, score=level, unlearnt=[("fine_tune", 1)])
    make_report(read_experiment(directory), directory / "report", say=lambda _: None)
    return directory / "report"


def test_the_page_needs_nothing_but_itself(reported: Path) -> None:
    reader, _ = read_page(reported / "report.html")
    assert reader.links and all(link.startswith("data:image/png;base64,") for link in reader.links)
    text = (reported / "report.html").read_text()
    assert not re.search(r"https?://|<script|url\(|@import", text)
    assert "default-src 'none'" in text


def test_the_page_tells_all_there_is(reported: Path) -> None:
    reader, words = read_page(reported / "report.html")
    for part in (
        "distillation had the larger mean area", "All targets together", "Target by target",
        "DoorKey-8x8", "UnlockPickup", "beats fine tune", "optimality gap", "forward transfer",
        "frames to 0.9", "not reached", "Sources", "✗ not seed 1", "What the features tell",
        "Compute against transfer", "run_agent.py transfer --suite keydoor", "seeds: 0, 1, 2",
        "stable-baselines3", "No examples of what the loss contrasts",
    ):  # fmt: skip
        assert part in words, part
    names = {path.stem for path in (reported / "figures").glob("*.png")}
    assert names >= {
        "auc", "difference", "improvement", "final", "profile", "compute", "sources-targets",
        "retention", "curve-target-DoorKey-8x8", "time-UnlockPickup", "information-UnlockPickup",
        "curve-source-Empty-Random-5x5",
    }  # fmt: skip
    assert len(reader.pictures) == len(names)
    assert all(len(picture["alt"] or "") > 20 for picture in reader.pictures)


def test_the_table_of_numbers_is_tidy(reported: Path) -> None:
    with (reported / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["arm", "target", "quantity", "value", "low", "high", "n_seeds"]
    found = {(row["arm"], row["target"], row["quantity"]): row for row in rows}
    assert len(found) == len(rows)
    tuned = found["fine_tune", "all", "auc_iqm"]
    assert float(tuned["value"]) == pytest.approx(0.42)
    assert float(tuned["low"]) <= 0.42 <= float(tuned["high"])
    assert found["scratch", TARGETS[0], "frames_to_learnt"]["value"] == "inf"
    assert ("fine_tune", "all", "auc_less_reference") not in found, "it is the reference"


def test_the_latex_table_is_balanced_and_escaped(reported: Path) -> None:
    text = (reported / "table.tex").read_text()
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 1 + len(ARMS)
    assert {line.count(" & ") for line in body} == {4}
    assert text.count("{") == text.count("}")
    assert r"\makecell{0.42\\\footnotesize 0.41--0.43}" in text or "0.42" in text


def test_a_target_that_an_arm_lacks_is_a_dash_in_latex(tmp_path: Path) -> None:
    skipped = [("scratch", TARGETS[0], seed) for seed in (0, 1)]
    write_run(tmp_path, arms=ARMS[1:], score=level, seeds=(0, 1), skipped=skipped)
    experiment = read_experiment(tmp_path)
    targets = [each for t in experiment.target_ids for each in summarise_target(experiment, t)]
    write_latex(tmp_path / "table.tex", experiment, summarise_arms(experiment), targets)
    (line,) = [x for x in (tmp_path / "table.tex").read_text().splitlines() if x[:7] == "scratch"]
    assert line.count("--") >= 3 and line.isascii()
    assert line.startswith("scratch & -- & ")


def test_the_same_directory_gives_the_same_bytes(reported: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    make_report(read_experiment(reported.parent), again, say=lambda _: None)

    def content(directory: Path) -> dict[str, bytes]:
        files = (path for path in directory.rglob("*") if path.is_file())
        return {str(path.relative_to(directory)): path.read_bytes() for path in files}

    assert content(again) == content(reported)


def test_figures_of_an_earlier_report_go(tmp_path: Path) -> None:
    write_run(tmp_path, arms=ARMS, score=level)
    make_report(read_experiment(tmp_path), tmp_path / "report", say=lambda _: None)
    write_run(tmp_path, arms=ARMS, score=level, targets=TARGETS[:1])
    make_report(read_experiment(tmp_path), tmp_path / "report", say=lambda _: None)
    names = {path.stem for path in (tmp_path / "report/figures").glob("curve-target-*")}
    assert names == {"curve-target-DoorKey-8x8"}


def test_drift_is_told_of_keys_and_not_of_encoders(tmp_path: Path) -> None:
    write_run(tmp_path, arms=ARMS[:2], score=level, targets=TARGETS[:1], seeds=[0])
    specs = {}
    for arm, columns in ((ARMS[0], "memory/key_age,memory/key_drift\n1,0.5\n"),
                         (ARMS[1], "aux/entropy,memory/key_drift\n1,0.25\n")):  # fmt: skip
        specs[(arm, TARGETS[0], 0)] = tmp_path / arm
        (tmp_path / arm).mkdir()
        (tmp_path / arm / "progress.csv").write_text(columns)
    table = diagnostics_table(replace(read_experiment(tmp_path), specs=specs))
    assert table is not None and table.headings[-1] == "key drift"
    assert [line[-1] for line in table.rows] == ["0.5", "–"]


def test_text_from_files_is_text(tmp_path: Path) -> None:
    odd = '<img src=x onerror="alert(1)">&$sentence\\input{x}'
    labels = [f"{ARMS[0]}+negatives={odd}", "fine_tune"]
    odd_math = "$\\\\frac{$"
    labels.append(f"{ARMS[0]}+loss={odd_math}")
    write_run(tmp_path, arms=labels, score=lambda a, e, s: 0.5, targets=[f"{odd}-v0"])
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config | {"note": odd}))
    make_report(read_experiment(tmp_path), tmp_path / "report", say=lambda _: None)
    reader, words = read_page(tmp_path / "report/report.html")
    assert all("onerror" not in picture for picture in reader.pictures)
    assert all((picture["src"] or "").startswith("data:image/png") for picture in reader.pictures)
    assert '<img src=x onerror="alert(1)">' in words, "it is shown, letter by letter"
    assert r"\input" not in (tmp_path / "report/table.tex").read_text()
    inside = [path.parent for path in (tmp_path / "report").rglob("*.png")]
    assert set(inside) == {tmp_path / "report/figures"}


def test_an_ablation_shows_its_settings(tmp_path: Path) -> None:
    labels = [f"contrastive_distillation+negatives={n}+n_negatives={k}"
              for n in ("uniform", "value_contrast") for k in (8, 128)]  # fmt: skip

    def value(arm: str, env_id: str, seed: int) -> float:
        return (parse_label(arm).number("n_negatives") or 64) / 200 + seed / 50

    arms = [*labels, "fine_tune"]
    write_run(tmp_path, arms=arms, score=value, targets=TARGETS[:1], command="ablate")
    make_report(read_experiment(tmp_path), tmp_path / "report", say=lambda _: None)
    _, words = read_page(tmp_path / "report/report.html")
    assert "Area under the curve against n_negatives" in words
    assert (tmp_path / "report/figures/axis-n_negatives.png").is_file()
    assert not (tmp_path / "report/figures/axis-negatives.png").exists(), "no numbers to stand on"


def test_one_seed_and_no_scratch(tmp_path: Path) -> None:
    write_run(tmp_path, arms=ARMS[:2], score=level, seeds=[3], targets=TARGETS[:1])
    make_report(read_experiment(tmp_path), tmp_path / "report", say=lambda _: None)
    _, words = read_page(tmp_path / "report/report.html")
    assert "From one seed there is no interval" in words
    assert "0.66 (" not in words
    with (tmp_path / "report/summary.csv").open(newline="") as file:
        assert all(row["low"] == row["high"] == "" for row in csv.DictReader(file))


def test_nothing_but_curves(tmp_path: Path) -> None:
    write_run(tmp_path, arms=ARMS, score=level)
    (tmp_path / "summary.csv").unlink()
    make_report(read_experiment(tmp_path), tmp_path / "report", say=lambda _: None)
    _, words = read_page(tmp_path / "report/report.html")
    assert "No training on a target is finished" in words
    assert "Unfinished: 0 of 18 trainings on targets are finished" in words
    assert (tmp_path / "report/figures/curve-target-UnlockPickup.png").is_file()
    assert not (tmp_path / "report/summary.csv").exists()


def test_the_command_says_the_answer_and_where_the_page_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, arms=ARMS[1:], score=level, targets=TARGETS[:1], seeds=[0])
    assert main(["report", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Over one target and one seed, scratch had the smaller mean area")
    assert lines[-1] == str(tmp_path / "report" / "report.html")
    assert (tmp_path / "report" / "report.html").is_file()


def test_a_report_does_not_replace_the_run(tmp_path: Path) -> None:
    write_run(tmp_path / "run", arms=ARMS, score=level)
    with pytest.raises(SettingsError, match="is the run itself"):
        check_output(tmp_path / "run", tmp_path / "run/../run")
    (tmp_path / "file").write_text("x")
    write_run(tmp_path / "other", arms=ARMS, score=level, with_config=False)
    with pytest.raises(SettingsError, match="is a run's directory"):
        check_output(tmp_path / "run", tmp_path / "other")
    with pytest.raises(SettingsError, match="is a file"):
        check_output(tmp_path / "run", tmp_path / "file")


def test_the_style_serves_phones_and_paper() -> None:
    assert "@media (max-width: 700px)" in STYLE
    assert "@media print" in STYLE
