"""The benchmark runs, and its table says what was measured. No test asserts a time."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from contrastive_distillation.agents import find_encoder

PATH = Path(__file__).parents[2] / "benchmarks" / "plug_in.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plug_in_benchmark", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:  # dataclasses look their module up by name
        patch.setitem(__import__("sys").modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def test_ratio_and_pairs_by_hand(benchmark: ModuleType) -> None:
    timing = benchmark.Timing(
        without=[1.0, 2.0, 4.0], with_loss=[2.0, 3.0, 4.0], n_updates=7, every=2
    )
    assert timing.ratio == 1.5
    assert timing.pairs == [2.0, 1.5, 1.0]
    assert benchmark.row("PPO", timing, 1_000) == (
        "| PPO | 1,000 | 2 | 7 | 2.00 | 3.00 | 1.50 | 1.00–2.00 | ≤ 1.15 |"
    )


def test_runs_alternate(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def seconds(case: object, frames: int, joined: object) -> float:
        order.append(f"{'A' if joined is None else 'B'}{frames}")
        return 1.0

    monkeypatch.setattr(benchmark, "seconds", seconds)
    benchmark.measure(benchmark.cases()["PPO"], frames=80, repeats=2, every=1)
    assert order == ["A10", "B10", "A80", "B80", "A80", "B80"]


def test_the_table_has_a_row_for_each_algorithm(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["A2C", "DQN", "SAC"]
    benchmark.main(["--algorithms", *names, "--frames", "120", "--repeats", "1", "--every", "1"])
    head, rule, *rows = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in rows]
    assert [row[0] for row in cells] == names
    assert all(line.count("|") == len(benchmark.COLUMNS) + 1 for line in (head, rule, *rows))
    assert all(int(row[benchmark.COLUMNS.index("updates")]) > 0 for row in cells)


def test_all_models_can_be_built_and_have_an_encoder(benchmark: ModuleType) -> None:
    cases = benchmark.cases()
    assert {"PPO", "A2C", "DQN", "SAC", "TD3", "ppo-grid", "dqn-grid"} <= cases.keys()
    assert set(benchmark.TARGETS) <= cases.keys()
    for name, case in cases.items():
        model = case.make()
        assert find_encoder(model)[0].n_features > 0, name
        model.get_env().close()
