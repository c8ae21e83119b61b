"""Directories of runs that never ran: only the small tables, with scores that are chosen."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from contrastive_distillation.envs import get_suite, suite_settings
from contrastive_distillation.transfer.evaluation.curves import (
    CurvePoint,
    InformationPoint,
    write_points,
)
from contrastive_distillation.transfer.report.summary import SummaryRow, write_summary
from contrastive_distillation.transfer.run_directory.atomic_files import write_json
from contrastive_distillation.transfer.run_directory.directory import manifest

SOURCE = "MiniGrid-Empty-Random-5x5-v0"
TARGETS = ("MiniGrid-DoorKey-8x8-v0", "MiniGrid-UnlockPickup-v0")
FRAMES = (0, 50_000, 100_000)

Score = Callable[[str, str, int], float]
"""Of an arm, a target and a seed: the area under its curve, which is level."""


def write_run(
    directory: Path,
    *,
    arms: Sequence[str],
    score: Score,
    seeds: Iterable[int] = (0, 1, 2),
    targets: Sequence[str] = TARGETS,
    unlearnt: Iterable[tuple[str, int]] = (),
    skipped: Iterable[tuple[str, str, int]] = (),
    command: str = "transfer",
    with_config: bool = True,
    loss: str = "contrastive_distillation",
) -> Path:
    """Write the tables of a run; `skipped` trainings have not finished and left no row."""
    seeds, skipped = list(seeds), set(skipped)
    points: list[CurvePoint] = []
    information: list[InformationPoint] = []
    rows: list[SummaryRow] = []
    for arm in arms:
        for seed in seeds:
            if arm != "scratch":
                learnt = (arm, seed) not in set(unlearnt)
                points += _points(arm, SOURCE, seed, "source", 0.9)
                rows.append(_row(arm, SOURCE, seed, "source", 0.9, learnt=learnt))
            for env_id in targets:
                value = score(arm, env_id, seed)
                points += _points(arm, env_id, seed, "target", value)
                information += _information(arm, env_id, seed)
                if (arm, env_id, seed) not in skipped:
                    learnt = (arm, seed) not in set(unlearnt)
                    rows.append(_row(arm, env_id, seed, "target", value, learnt=learnt))
    directory.mkdir(parents=True, exist_ok=True)
    write_points(directory / "curves.csv", CurvePoint, points)
    write_points(directory / "information.csv", InformationPoint, information)
    write_summary(directory / "summary.csv", rows)
    if with_config:
        _write_config(directory, arms, targets, seeds, command, loss)
    return directory


def _write_config(
    directory: Path,
    arms: Sequence[str],
    targets: Sequence[str],
    seeds: list[int],
    command: str,
    loss: str,
) -> None:
    config: dict[str, Any] = {
        "command": command,
        "suite": "keydoor",
        "loss": loss,
        "arms": list(dict.fromkeys(arm.partition("+")[0] for arm in arms)),
        "target": list(targets),
        "seed": seeds[0],
        "seeds": len(seeds),
        "resolved": {"suite": suite_settings(get_suite("keydoor"))},
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    words = ["run_agent.py", command, "--suite", "keydoor"]
    write_json(directory / "manifest.json", manifest(seed=seeds[0], command=words))


def _points(arm: str, env_id: str, seed: int, role: str, score: float) -> list[CurvePoint]:
    return [
        CurvePoint(
            suite="keydoor", agent="ppo", arm=arm, seed=seed, role=role, env_id=env_id,
            frames=frames, score=score, return_mean=score, return_std=0.1, success_rate=score,
            episodes=8, wall_seconds=frames / 1000,
        )
        for frames in FRAMES
    ]  # fmt: skip


def _information(arm: str, env_id: str, seed: int) -> list[InformationPoint]:
    return [
        InformationPoint(
            suite="keydoor", agent="ppo", arm=arm, seed=seed, role="target", env_id=env_id,
            frames=frames, quantity=quantity, nats=1.0 + seed / 10, cap=4.85,
        )
        for frames in FRAMES[1:]
        for quantity in (("future",) if arm == "scratch" else ("future", "source"))
    ]  # fmt: skip


def _row(arm: str, env_id: str, seed: int, role: str, score: float, *, learnt: bool) -> SummaryRow:
    has_source = role == "target" and arm != "scratch"
    return SummaryRow(
        suite="keydoor", agent="ppo", arm=arm, seed=seed, role=role, env_id=env_id, auc=score,
        jumpstart=0.0 if role == "target" else None, last_score=score, final_score=score,
        final_return_mean=score, final_return_std=0.1, final_success_rate=score,
        final_episodes=20, final_backend="gymnasium", frames=100_000, learnt=learnt,
        source_frames=200_000 if has_source else None, source_learnt=learnt if has_source else None,
        frames_per_second=5000.0, seconds=20.0, evaluation_seconds=1.0,
        weights_sha256=f"{arm}{seed}", retention=0.8 if has_source else None,
        information_future=1.0,
    )  # fmt: skip
