"""Trainings in environments whose range of returns is unknown."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from contrastive_distillation.transfer import TrainSettings, plan_train, run_training
from contrastive_distillation.transfer.report.build import make_report
from contrastive_distillation.transfer.report.experiment import read_experiment
from contrastive_distillation.transfer.report.tables import train_tables
from contrastive_distillation.transfer.study.results import ResultsWriter, summary_rows


def test_tables_show_raw_returns_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_train(
        TrainSettings(
            env=("Pendulum-v1",), frames=64, n_envs=4, loss="none", information_points=1,
            output=str(tmp_path),
        )
    )  # fmt: skip
    (spec,) = plan.specs
    run_training(
        spec, tmp_path, command=(), report=lambda _: None, stop=lambda: False, say=pytest.fail
    )
    result = json.loads((tmp_path / "result.json").read_text())
    final = result["final"]["Pendulum-v1"]
    assert final["score"] == final["return_mean"] < -500
    assert (final["success_rate"], final["is_raw"]) == (None, True)
    assert result["learnt"] == {"Pendulum-v1": None}
    ResultsWriter(plan).write(complete=True)
    (row,) = summary_rows(plan)
    assert row.auc < -500 and row.is_raw and row.learnt is None
    Console(width=100).print(train_tables([row]))
    shown = capsys.readouterr().out
    assert f"{row.auc:.2f}" in shown
    assert "The range of returns of Pendulum-v1 is unknown: its scores are raw" in shown
    make_report(read_experiment(tmp_path), tmp_path / "report")
    page = (tmp_path / "report/report.html").read_text()
    assert "its scores are raw returns. Give one with --return-range LOW HIGH" in page
