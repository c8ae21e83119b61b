"""Short real trainings."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contrastive_distillation.transfer import TrainingSpec, TrainSettings, plan_train, run_training
from contrastive_distillation.transfer.evaluation import evaluation_callback as checkpoints_module
from contrastive_distillation.transfer.evaluation import information
from contrastive_distillation.transfer.evaluation import schedule as protocol

GRID = "MiniGrid-Empty-Random-5x5-v0"
VECTOR = "CartPole-v1"


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Frames are reported at every step, and little time goes into judging and measuring."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints_module, "_SECONDS_BETWEEN_REPORTS", 0.0)
        for name in ("FEWEST_INTERVALS", "MOST_INTERVALS"):
            patch.setattr(protocol, name, 2)
        patch.setattr(information, "_N_UPDATES", 20)
        yield


@pytest.fixture(scope="module")
def _interrupted(tmp_path_factory: pytest.TempPathFactory) -> "Trainer":
    trainer = Trainer(tmp_path_factory.mktemp("interrupted") / "run")
    assert trainer.run(stop_at=1_500) == "interrupted"
    assert len(trainer.checkpoints) in (2, 3)
    return trainer


@pytest.fixture
def interrupted(_interrupted: "Trainer", tmp_path: Path) -> "Trainer":
    """A training that was stopped after 1 500 frames, with its checkpoints: a copy."""
    shutil.copytree(_interrupted.directory, tmp_path / "run")
    return _interrupted.at(tmp_path / "run")


class Trainer:
    """One spec, trained in this process, as often as asked."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        defaults: dict[str, Any] = {
            "env": (GRID,),
            "agent": "ppo",
            "frames": 2_500,
            "n_envs": 4,
            "backend": "gymnasium",
            "memory_capacity": 1_000,
            "checkpoint_every": 500,
        }
        self.directory = directory
        planned = TrainSettings(**(defaults | settings), output=str(directory))
        self.spec: TrainingSpec = plan_train(planned).specs[0]
        self.said: list[str] = []

    def run(
        self, *, stop_at: int | None = None, report: Callable[[int], None] | None = None, **how: Any
    ) -> str:
        """Train until the end, or until asked to stop at so many frames."""
        frames = [0]

        def note(done: int) -> None:
            frames[0] = done
            if report is not None:
                report(done)

        return run_training(
            self.spec,
            self.directory,
            command=(),
            report=note,
            stop=lambda: stop_at is not None and frames[0] >= stop_at,
            say=self.said.append,
            **how,
        )

    @classmethod
    def of(cls, spec: TrainingSpec, directory: Path) -> "Trainer":
        """A trainer of a spec that is planned already."""
        other = cls.__new__(cls)
        other.directory, other.spec, other.said = directory, spec, []
        return other

    def at(self, directory: Path) -> "Trainer":
        """The same training in another directory."""
        return Trainer.of(self.spec, directory)

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "result.json").read_text())
        return found

    @property
    def checkpoints(self) -> list[Path]:
        """The checkpoints, the oldest first."""
        folder = self.directory / "checkpoints"
        return sorted(p for p in folder.iterdir() if p.name.isdigit()) if folder.exists() else []
