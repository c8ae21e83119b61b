"""The agent of the best evaluation: kept, reported with other episodes, carried over."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from stable_baselines3 import PPO

from contrastive_distillation.agents import policy_sha256
from contrastive_distillation.transfer import (
    TrainSettings,
    TransferSettings,
    load_agent,
    plan_train,
    plan_transfer,
    run_training,
)
from contrastive_distillation.transfer.evaluation import evaluation_callback
from contrastive_distillation.transfer.evaluation import schedule as protocol
from contrastive_distillation.transfer.evaluation.evaluator import Episodes
from contrastive_distillation.transfer.settings.spec import TrainingSpec

EMPTY = "MiniGrid-Empty-Random-5x5-v0"
SCORES = (0.1, 0.9, 0.4, 0.9, 0.3)
"""Of the evaluations in turn: the best one is the fourth, the later of two equal ones."""


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Evaluations during training have the scores above; gives the weights at each."""
    seen: list[str] = []
    play = evaluation_callback.play

    def scored(model: PPO, *args: object, index: int, **how: object) -> list[Episodes]:
        played = play(model, *args, index=index, **how)  # type: ignore[arg-type]
        if index < len(SCORES):
            seen.append(policy_sha256(model))
            for episodes in played:
                episodes.returns[:] = SCORES[index]
        return played

    monkeypatch.setattr(evaluation_callback, "play", scored)
    for name in ("FEWEST_INTERVALS", "MOST_INTERVALS"):
        monkeypatch.setattr(protocol, name, len(SCORES) - 1)
    yield seen


def train(directory: Path) -> TrainingSpec:
    (spec,) = plan_train(
        TrainSettings(
            env=(EMPTY,), loss="none", frames=4 * 1024, n_envs=8, backend="gymnasium",
            memory_capacity=2000, information_points=1, output=str(directory),
        )
    ).specs  # fmt: skip
    status = run_training(spec, directory, command=(), report=lambda _: None, stop=lambda: False)
    assert status == "finished"
    return spec


def test_the_later_of_the_best_is_kept_and_scored_with_other_episodes(
    tmp_path: Path, scripted: list[str]
) -> None:
    train(tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert len(set(scripted)) == len(SCORES)
    best = load_agent(tmp_path, checkpoint="best")
    assert policy_sha256(best.model) == scripted[3]
    assert best.file == tmp_path / "checkpoints/best.zip"
    final = load_agent(tmp_path)
    assert policy_sha256(final.model) == result["weights_sha256"] == scripted[4]
    assert result["best"]["frames"] == 3 * 1024
    evaluated = result["best"]["final"][EMPTY]
    assert evaluated["score"] != SCORES[3], "the score that chose it is not the one reported"
    assert evaluated["episodes"] == result["final"][EMPTY]["episodes"]
    PPO.load(tmp_path / "checkpoints/best.zip")  # a plain zip


def test_a_transfer_starts_from_the_best_unless_the_final_is_asked_for(
    tmp_path: Path, scripted: list[str]
) -> None:
    train(tmp_path / "source")

    def first_weights(checkpoint: str | None) -> str:
        plan = plan_transfer(
            TransferSettings(
                from_=str(tmp_path / "source"), target=(EMPTY,), arms=("fine_tune",), frames=1024,
                n_envs=8, backend="gymnasium", information_points=1,
                checkpoint=checkpoint,  # type: ignore[arg-type]
            )
        )  # fmt: skip
        (spec,) = plan.specs
        directory = tmp_path / str(checkpoint)
        scripted.clear()
        run_training(spec, directory, command=(), report=lambda _: None, stop=lambda: False)
        assert f"its {checkpoint or 'best'} agent" in "".join(plan.notes)
        return scripted[0]

    source = {name: load_agent(tmp_path / "source", checkpoint=name) for name in ("best", "final")}
    hashes = {name: policy_sha256(agent.model) for name, agent in source.items()}
    assert first_weights(None) == first_weights("best") == hashes["best"]
    assert first_weights("final") == hashes["final"] != hashes["best"]


def test_a_source_of_an_earlier_version_has_only_a_final_agent(
    tmp_path: Path, scripted: list[str]
) -> None:
    train(tmp_path)
    (tmp_path / "checkpoints/best.zip").unlink()
    settings = TransferSettings(from_=str(tmp_path), target=(EMPTY,), arms=("fine_tune",))
    plan = plan_transfer(settings)
    assert plan.specs[0].source.checkpoint == "final"
    with pytest.raises(ValueError, match="--checkpoint final"):
        load_agent(tmp_path, checkpoint="best")
    with pytest.raises(ValueError, match="has no best agent"):
        plan_transfer(
            TransferSettings(
                from_=str(tmp_path), target=(EMPTY,), arms=("fine_tune",), checkpoint="best"
            )
        )
