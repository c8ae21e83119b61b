"""What the benchmarks of speed make of what they timed. No test asserts a time."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    """They import each other as scripts in one folder do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_rows_of_learning_are_gone_on_with(tmp_path: Path) -> None:
    learning = script("learning")
    path = tmp_path / "folder" / "rows.csv"
    assert learning.read(path) == []
    rows = [learning.Row("CartPole", "ours", 0, 4096, 1.5), learning.Row("a", "b", 1, None, 20.0)]
    for row in rows:
        learning.write(path, row)
    assert learning.read(path) == rows


def test_a_run_that_never_learnt_counts_as_the_longest(capsys: pytest.CaptureFixture[str]) -> None:
    learning = script("learning")
    times = {"ours": [(1, 2.0), (2, 4.0), (3, 9.0)], "usual": [(10, 8.0), (None, 5.0), (None, 6.0)]}
    learning.print_table(
        [
            learning.Row("t", who, i, *run)
            for who, runs in times.items()
            for i, run in enumerate(runs)
        ]
    )
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last[0] == "| t | ours | 3 | 3 | 2 | 4.0 | 1.0 |"
    assert last[1] == "| t | usual | 3 | 1 | inf | > 6 | inf |"


def test_a_part_within_another_is_charged_once() -> None:
    where = script("where")
    clock = iter([1.0, 3.0, 7.0, 15.0, 31.0])
    parts = where.Parts(lambda: next(clock))
    parts._enter(where.UPDATE)
    parts._enter(where.MEMORY)
    parts._leave()
    parts._leave()
    parts._charge()
    charged = {part: total for part, total in parts.totals.items() if total}
    assert charged == {where.REST: 1.0 + 16.0, where.UPDATE: 2.0 + 8.0, where.MEMORY: 4.0}


def test_operations_are_counted_in_each_part_of_a_training() -> None:
    where = script("where")
    operations = where.operations_of_parts("dqn", where.CART_POLE, 1_536, False)
    assert all(operations[part] > 0 for part in (where.INFERENCE, where.UPDATE))
    per_sample = 2 * (4 * 128 + 128 * 128 + 128 * 2)  # forward; the target's, and backward twice
    n_replayed = 32 * 3 / 6  # after three of six times 256 frames: it learns from 1,000 on
    assert 3.9 < operations[where.UPDATE] / (n_replayed * per_sample) < 4.1
    assert operations[where.ENVIRONMENT] == operations[where.RECORDING] == 0


def test_advantages_of_the_peer_by_hand() -> None:
    peers = script("peers")
    rewards, values = torch.tensor([[1.0], [0.0], [2.0]]), torch.tensor([[0.5], [1.0], [0.0]])
    steps = {"rewards": rewards, "values": values, "ended": torch.tensor([[0.0], [1.0], [0.0]])}
    third = 2.0 + 0.99 * 3.0 - 0.0
    second = 0.0 + 0.99 * 0.0 - 1.0 + 0.99 * 0.95 * third
    first = 1.0 - 0.5  # the next observation begins another episode
    found = peers.advantages(steps, torch.tensor([3.0]), torch.tensor([0.0]))
    torch.testing.assert_close(found, torch.tensor([[first], [second], [third]]))
