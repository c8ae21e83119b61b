"""A `--config` file: each value in it counts, or is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from contrastive_distillation.transfer import (
    SettingsError,
    TrainSettings,
    TransferSettings,
    parse_command_line,
    plan_transfer,
)
from contrastive_distillation.transfer.study.plan import Plan, plan_train
from contrastive_distillation.transfer.training.train import agent_settings

CARTPOLE = "CartPole-v1"


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """The `config.yaml` of a training, as its run writes it."""
    plan = plan_train(TrainSettings(env=(CARTPOLE,), n_envs=32, frames=2_048))
    config = {**plan.config, "agent_settings": agent_settings(plan.specs[0])}
    loaded: dict[str, Any] = yaml.safe_load(yaml.safe_dump(config))
    return loaded


def planned(config: dict[str, Any], path: Path, *flags: str) -> Plan:
    path.write_text(yaml.safe_dump(config))
    settings = parse_command_line(["train", "--config", str(path), *flags])
    assert isinstance(settings, TrainSettings)
    return plan_train(settings)


@pytest.mark.parametrize(
    ("block", "key", "value"),
    [
        ("agent_settings", "learning_rate", 0.5),
        ("agent_settings", "n_steps", 7),
        ("agent_settings", "dropout", 0.1),
        ("resolved", "mission", True),
        ("resolved", "role", "target"),
    ],
)
def test_an_edited_value_that_sets_nothing_is_refused(
    written: dict[str, Any], block: str, key: str, value: object, tmp_path: Path
) -> None:
    edited = {**written, block: {**written[block], key: value}}
    with pytest.raises(SettingsError, match=rf"{block}\.{key} is {value}, but the settings in"):
        planned(edited, tmp_path / "edited.yaml")


def test_an_edited_suite_is_refused(written: dict[str, Any], tmp_path: Path) -> None:
    suite = {**written["resolved"]["suite"], "learnt_score": 0.2}
    edited = {**written, "resolved": {**written["resolved"], "suite": suite}}
    with pytest.raises(SettingsError, match=r"learnt_score is 0\.2, .* give 0\.9"):
        planned(edited, tmp_path / "edited.yaml")


def test_a_written_file_gives_the_same_run(written: dict[str, Any], tmp_path: Path) -> None:
    plan = planned(written, tmp_path / "config.yaml")
    assert (
        plan.directory
        == plan_train(TrainSettings(env=(CARTPOLE,), n_envs=32, frames=2_048)).directory
    )


def test_flags_override_a_written_file(written: dict[str, Any], tmp_path: Path) -> None:
    plan = planned(written, tmp_path / "config.yaml", "--n-envs", "16", "--gamma", "0.5")
    assert (plan.specs[0].task.n_envs, plan.specs[0].agent.gamma) == (16, 0.5)


def test_an_edited_setting_counts(written: dict[str, Any], tmp_path: Path) -> None:
    del written["agent_settings"]
    plan = planned({**written, "gamma": 0.5}, tmp_path / "config.yaml")
    assert plan.specs[0].agent.gamma == 0.5


def test_the_file_of_a_transfer_too(tmp_path: Path) -> None:
    first = plan_transfer(TransferSettings(suite="smoke", arms=("scratch",)))
    config = yaml.safe_load(yaml.safe_dump(dict(first.config)))
    config["resolved"]["suite"]["target_frames"] = 5
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    settings = parse_command_line(["transfer", "--config", str(path)])
    assert isinstance(settings, TransferSettings)
    with pytest.raises(SettingsError, match="target_frames is 5, but the settings in the file"):
        plan_transfer(settings)
