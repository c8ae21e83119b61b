"""Realign a target's encoder before it learns, and keep the score on both sides of it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from contrastive_distillation.agents import RealignReport, realign

from ..console import Say
from ..run_directory.atomic_files import write_json
from ..run_directory.directory import REALIGNMENT
from ..settings.spec import RealignSpec, TrainingSpec
from .source_agent import load_source


def realign_to_target(
    spec: TrainingSpec, directory: Path, model: BaseAlgorithm, source: Path, *, say: Say
) -> RealignReport:
    """Realign a fresh model by its source's run, and write ``realignment.json``.

    Args:
        spec: the training, which realigns.
        directory: its run directory.
        model: its agent.
        source: the run directory of its source.
        say: prints one line for the user.
    """
    how = spec.realign
    assert how is not None
    agent = load_source(source, checkpoint=spec.source.checkpoint, trust=True)
    try:
        report = realign(model, source=agent, seed=spec.seed, **_keywords(how))
    finally:
        env = agent.model.get_env()
        if env is not None:
            env.close()
    write_json(directory / REALIGNMENT, {**asdict(report), "said": str(report)})
    say(str(report))
    return report


def _keywords(how: RealignSpec) -> dict[str, Any]:
    """The arguments of `agents.realign`."""
    keywords = {**asdict(how), "keep": True}  # the suite says that sensors differ, not the test
    if how.layers not in ("first", "encoder"):
        keywords["layers"] = how.layers.split(",")
    return keywords
