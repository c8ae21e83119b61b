"""A spec and its `config.yaml`; directories of earlier runs are found and read."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from contrastive_distillation.transfer import (
    TrainingSpec,
    parse_command_line,
    plan_train,
    plan_transfer,
)
from contrastive_distillation.transfer.run_directory.directory import fingerprint

OLD = Path(__file__).with_name("old_configs")
"""Configurations that an earlier version wrote."""
FINGERPRINTS = {
    "random_teacher": "d2f066",
    "equal_compute": "1a72f9",
    "scratch_source_budget": "ae13eb",
}
MADE_BY = """transfer --suite smoke --arms random_teacher equal_compute scratch_source_budget
    --negatives value_contrast --n-negatives 8 --loss-settings temperature=0.2
    --every 2 --gamma 0.9 --seed 3"""


def old_config(arm: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((OLD / f"{arm}.yaml").read_text())
    return config


@pytest.mark.parametrize("arm", FINGERPRINTS)
def test_an_earlier_configuration_is_read_and_written_alike(arm: str) -> None:
    config = old_config(arm)
    assert fingerprint(config) == FINGERPRINTS[arm]
    spec = TrainingSpec.from_config(config, name="", arms=(arm,), needs=None)
    assert spec.config() == config
    assert spec.task.suite.name == "smoke" and spec.task.env_ids == ("MiniGrid-LavaGapS5-v0",)
    assert (spec.seed, spec.agent.gamma) == (3, 0.9)
    assert spec.source.random_teacher == (arm == "random_teacher")
    assert (spec.matched_loss is not None) == (arm == "equal_compute")


def test_the_command_of_an_earlier_run_plans_it_again() -> None:
    """With the agent of the source that it started from; today's default is another."""
    settings: Any = parse_command_line([*MADE_BY.split(), "--checkpoint", "final"])
    planned = {
        spec.arms[0]: spec.config()
        for spec in plan_transfer(settings).specs
        if spec.role == "target"
    }
    assert planned == {arm: old_config(arm) for arm in FINGERPRINTS}


@pytest.mark.parametrize(
    ("words", "directory"),
    [
        ("train --suite keydoor", "train-keydoor-ppo-contrastive_distillation-seed0-7b8d2f"),
        ("train --suite smoke", "train-smoke-ppo-contrastive_distillation-seed0-3c5b26"),
        (
            "train --env CartPole-v1 --agent dqn --loss atc --as-published",
            "train-CartPole-v1-dqn-atc-seed0-deab58",
        ),
        (
            "ablate --suite pixels --vary n_negatives=8,32 --checkpoint final",
            "ablate-pixels-ppo-contrastive_distillation-seed0-0204d7",
        ),
    ],
)
def test_the_directory_of_an_earlier_run_is_found_again(words: str, directory: str) -> None:
    settings: Any = parse_command_line(words.split())
    plan = plan_train if words.startswith("train") else plan_transfer
    assert plan(settings).directory == Path("runs") / directory


def test_a_configuration_without_later_settings_has_their_defaults() -> None:
    config = old_config("random_teacher")
    for key in ("keep", "env_timeout", "until_learnt"):
        del config[key]
    spec = TrainingSpec.from_config(config, name="", arms=(), needs=None)
    assert (spec.loss.keep, spec.runtime.env_timeout, spec.task.until_learnt) == (
        "fifo", 600.0, False,
    )  # fmt: skip


@pytest.mark.parametrize("key", ["env", "agent", "loss", "seed", "frames", "resolved"])
def test_a_configuration_that_lacks_a_key_is_refused(key: str) -> None:
    config = old_config("random_teacher")
    del config[key]
    with pytest.raises(KeyError, match=key):
        TrainingSpec.from_config(config, name="", arms=(), needs=None)
