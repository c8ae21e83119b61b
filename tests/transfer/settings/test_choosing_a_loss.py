"""Which loss a run trains with, and how it joins: resolved, or refused before a frame is spent."""

import json
from pathlib import Path
from typing import Any

import pytest

from contrastive_distillation.losses import LOSSES
from contrastive_distillation.run_agent import BAD_ARGUMENTS, main
from contrastive_distillation.transfer import (
    SettingsError,
    TrainSettings,
    TransferSettings,
    parse_command_line,
    plan_train,
    plan_transfer,
    run_training,
)
from contrastive_distillation.transfer.run_directory.directory import read_config
from contrastive_distillation.transfer.settings.arms import ARMS

NEEDS_SOURCE = [name for name, kind in LOSSES.items() if kind.needs_source]


def config(words: str) -> dict[str, Any]:
    settings = parse_command_line(["train", "--suite", "smoke", *words.split()])
    assert isinstance(settings, TrainSettings)
    return dict(plan_train(settings).config)


def joining(words: str) -> tuple[float, str, int]:
    found = config(words)
    return found["weight"], found["balance"], found["every"]


def test_our_defaults() -> None:
    assert joining("--loss atc") == (0.3, "norm", 8)
    assert joining("--loss atc --agent dqn") == (0.1, "norm", 16)
    assert joining("--loss atc --every 2 --balance project --weight 2") == (2.0, "project", 2)


@pytest.mark.parametrize(
    "name", [n for n in LOSSES if LOSSES[n].published and not LOSSES[n].needs_source]
)
def test_as_published(name: str) -> None:
    published = LOSSES[name].published
    assert published is not None
    wanted = (published.weight, published.balance, published.every)
    assert joining(f"--loss {name} --as-published") == wanted
    assert "as_published" not in config(f"--loss {name} --as-published")


def test_a_configuration_as_published_is_the_one_it_stands_for() -> None:
    assert config("--loss atc --as-published") == config(
        "--loss atc --weight 1 --balance none --every 1"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--loss atc --as-published --weight 0.3", "leave out --weight 0.3"),
        ("--loss atc --as-published --every 4", "leave out --every 4"),
        ("--loss atc --as-published --balance norm", "leave out --balance norm"),
        ("--as-published", "no paper gives a weight for --loss contrastive_distillation"),
        ("--loss none --as-published", "no paper gives a weight for --loss none"),
        ("--loss kickstarting", "needs a source agent, which train has not; use transfer"),
        (
            "--loss kickstarting --agent dqn",
            "not dqn; use it with that, or --loss qdagger with dqn",
        ),
        ("--loss qdagger", "is for --agent dqn, not ppo"),
        ("--loss atc --loss-settings offset=0", "offset is 0; it must be 1 or more"),
    ],
)
def test_what_is_refused(words: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--suite", "smoke", *words.split()]) == BAD_ARGUMENTS
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("name", NEEDS_SOURCE)
def test_arms_that_train_a_source_with_it_are_refused(name: str) -> None:
    agent = (LOSSES[name].agents or ("ppo",))[0]
    suite = "smoke" if agent == "ppo" else "dynamics"
    settings = TransferSettings(
        suite=suite, agent=agent, loss=name, arms=("fine_tune", "contrastive_distillation")
    )
    with pytest.raises(SettingsError, match="the arm contrastive_distillation trains the source"):
        plan_transfer(settings)
    (its_arm,) = (arm.name for arm in ARMS.values() if arm.target_loss == name)
    for own in ("contrastive_target_only", its_arm):  # the two would train the same agents
        arms = ("fine_tune", own, "atc")
        plan_transfer(TransferSettings(suite=suite, agent=agent, loss=name, arms=arms))


def test_each_arm_is_joined_as_its_own_paper_says() -> None:
    arms = ("contrastive_distillation", "kickstarting", "atc", "fine_tune")
    plan = plan_transfer(TransferSettings(suite="smoke", arms=arms, as_published=True))
    joined = {
        spec.arms: (spec.loss.weight, spec.loss.balance, spec.loss.every)
        for spec in plan.specs
        if spec.role == "target"
    }
    assert joined["contrastive_distillation",] == (0.3, "norm", 8)
    for name in ("kickstarting", "atc"):
        published = LOSSES[name].published
        assert published is not None
        assert joined[name,] == (published.weight, published.balance, published.every)
    assert plan.config["as_published"] and plan.config["weight"] is None
    with pytest.raises(SettingsError, match="no paper gives a weight for --loss contrastive"):
        plan_transfer(TransferSettings(suite="smoke", arms=arms[:1], as_published=True))


def test_the_command_line_and_a_file_say_it_alike(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("as_published: true\nloss: atc\nsuite: smoke\n")
    settings = parse_command_line(["train", "--config", str(path)])
    assert isinstance(settings, TrainSettings) and settings.as_published
    assert plan_train(settings).config["balance"] == "none"


@pytest.mark.parametrize("name", ["kickstarting", "qdagger"])
def test_a_source_reaches_its_loss(name: str, tmp_path: Path) -> None:
    """A source and a target, trained for a few hundred frames."""
    agent = (LOSSES[name].agents or ("ppo",))[0]
    settings = TransferSettings(
        source=("CartPole-v1",),
        target=("CartPole-v1",),
        agent=agent,
        loss=name,
        arms=("contrastive_target_only",),
        frames=1500,
        source_frames=1500,
        every=1,
        n_envs=8,
        backend="gymnasium",
        memory_capacity=2000,
        information_points=1,
        output=str(tmp_path),
    )
    plan = plan_transfer(settings)
    for spec in plan.specs:
        directory = plan.directory_of(spec)
        run_training(
            spec,
            directory,
            command=(),
            report=lambda _: None,
            stop=lambda: False,
        )
    target = plan.directory_of(plan.specs[-1])
    assert read_config(target)["loss"] == name
    assert json.loads((target / "result.json").read_text())["frames"] >= 1500
    assert (target / "aux.safetensors").is_file()
    rows = (target / "progress.csv").read_text().splitlines()
    assert "aux/loss" in rows[0]
