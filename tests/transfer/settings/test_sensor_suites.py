"""Sensor suites: targets may look otherwise, and arms that cannot see them are refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from contrastive_distillation.transfer import TrainingSpec, TransferSettings, plan_transfer
from contrastive_distillation.transfer.settings.suite import choose_suite

CARTPOLE, DOORKEY = "CartPole-v1", "MiniGrid-DoorKey-5x5-v0"


def plan(*arms: str, **settings: Any) -> list[TrainingSpec]:
    return list(plan_transfer(TransferSettings(arms=arms, **settings)).specs)


@pytest.mark.parametrize("suite", ["sensors", "sensors_pictures"])
def test_all_arms_act_where_the_spaces_are_equal(suite: str) -> None:
    specs = plan("contrastive_distillation", "fine_tune", "scratch", suite=suite)
    assert len([spec for spec in specs if spec.role == "target"]) == 3 * 6
    assert all(spec.task.suite.sensors for spec in specs)


@pytest.mark.parametrize(
    ("suite", "other"),
    [
        ("sensors_vectors", "contrastive/CartPole-Mixed3-v0"),
        ("grid_to_pictures", "contrastive/DoorKey-5x5-Pictures-v0"),
    ],
)
def test_weights_are_not_carried_into_another_shape(suite: str, other: str) -> None:
    with pytest.raises(ValueError, match=r"--arms fine_tune: carries the source's weights") as said:
        plan("fine_tune", suite=suite)
    assert other in str(said.value)
    assert "name with --target the targets that fit" in str(said.value)
    assert any(spec.task.env_ids == (other,) for spec in plan("scratch", suite=suite))


def test_targets_that_fit_can_be_chosen() -> None:
    specs = plan("fine_tune", suite="sensors_vectors", target=("contrastive/CartPole-Units5-v0",))
    assert specs[-1].task.suite.sensors


def test_the_number_of_environments_is_that_of_the_kind_of_observation() -> None:
    n_envs = {spec.task.env_ids[0]: spec.task.n_envs for spec in plan("scratch", suite="pixels")}
    of_pictures = n_envs["MiniGrid-DoorKey-6x6-v0"]
    specs = plan("scratch", suite="grid_to_pictures")
    drawn = {spec.task.env_ids[0]: spec.task.n_envs for spec in specs}
    assert drawn["contrastive/DoorKey-5x5-Pictures-v0"] == of_pictures


@pytest.mark.parametrize(
    ("source", "target", "sensors", "observation"),
    [
        (CARTPOLE, "contrastive/CartPole-Rotated4-v0", True, "auto"),
        (CARTPOLE, "contrastive/CartPole-Random-v0", False, "auto"),
        (DOORKEY, "contrastive/DoorKey-5x5-Colours2-v0", True, "auto"),
        (DOORKEY, "contrastive/DoorKey-5x5-Noise4-v0", True, "picture"),
        (DOORKEY, "contrastive/DoorKey-5x5-Pictures-v0", True, "auto"),
        (DOORKEY, "MiniGrid-DoorKey-6x6-v0", False, "auto"),
    ],
)
def test_a_sensor_id_makes_a_sensor_suite(
    source: str, target: str, sensors: bool, observation: str
) -> None:
    suite = choose_suite(None, (source,), (target,))
    assert (suite.sensors, suite.observation) == (sensors, observation)


def test_a_suite_that_names_colours_itself_is_none() -> None:
    assert not choose_suite("appearance", (), ()).sensors
    assert choose_suite("appearance", (), ("contrastive/DoorKey-5x5-Colours4-v0",)).sensors
    assert choose_suite("sensors", (), (DOORKEY,)).sensors


def test_actions_must_be_equal(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    own = {
        "summary": "a test",
        "sources": [CARTPOLE],
        "targets": ["contrastive/Acrobot-Units1-v0"],
        "source_frames": 1_000,
        "target_frames": 500,
        "agents": ["ppo"],
        "sensors": True,
    }
    path.write_text(yaml.safe_dump(own))
    with pytest.raises(ValueError, match=r"actions must be those of CartPole-v1") as said:
        plan("scratch", suite=str(path))
    assert "observation" not in str(said.value).partition("\n\n")[2]


def test_a_sensor_suite_survives_its_configuration() -> None:
    spec = plan("scratch", suite="sensors")[0]
    kept = TrainingSpec.from_config(
        yaml.safe_load(yaml.safe_dump(spec.config())), name=spec.name, arms=spec.arms, needs=None
    )
    assert kept.task.suite == spec.task.suite
    plain = plan("scratch", suite="doorkey")[0].config()
    assert "sensors" not in plain["resolved"]["suite"]
