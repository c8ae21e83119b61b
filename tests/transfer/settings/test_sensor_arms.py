"""What arms are in a suite whose targets have other sensors than its sources."""

from dataclasses import asdict
from typing import Any

import pytest

from contrastive_distillation.losses import OBJECTIVES
from contrastive_distillation.transfer import (
    ARMS,
    SettingsError,
    TrainingSpec,
    TransferSettings,
    plan_transfer,
)

PLAIN = "MiniGrid-DoorKey-5x5-v0"
CODES = "contrastive/DoorKey-5x5-Codes7-v0"


def plan(*arms: str, **settings: Any) -> dict[str, TrainingSpec]:
    """The specs by name, of one seed."""
    chosen: dict[str, Any] = {"source": (PLAIN,), "target": (CODES, PLAIN), "arms": arms}
    chosen |= {"output": "nowhere"}
    return {spec.name: spec for spec in plan_transfer(TransferSettings(**chosen | settings)).specs}


def on_codes(specs: dict[str, TrainingSpec], arm: str) -> TrainingSpec:
    return next(s for s in specs.values() if s.arms == (arm,) and s.task.env_ids == (CODES,))


def test_every_arm_has_the_plain_source_which_plays_random_actions() -> None:
    specs = plan("contrastive_distillation", "fine_tune", "realign_contrast", "scratch")
    sources = [spec for spec in specs.values() if spec.role == "source"]
    assert [source.name for source in sources] == ["sources/plain-seed0"]
    assert sources[0].loss.name == "none"
    assert sources[0].loss.keep == "reservoir"
    assert sources[0].random_frames == 40_000
    assert all(spec.random_frames == 0 for spec in specs.values() if spec.role == "target")


def test_contrastive_distillation_realigns_and_has_its_loss_where_nothing_changed() -> None:
    spec = on_codes(plan("contrastive_distillation"), "contrastive_distillation")
    assert spec.realign is not None
    assert spec.realign.objective == "contrast_statistics"
    assert spec.loss.name == "contrastive_distillation"
    assert spec.source.teacher


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_arm_of_each_objective_realigns_by_it_and_learns_without_a_loss(name: str) -> None:
    spec = on_codes(plan(f"realign_{name}"), f"realign_{name}")
    assert spec.realign is not None and spec.realign.objective == name
    assert spec.loss.name == "none"


def test_the_flags_reach_every_arm_that_realigns() -> None:
    flags = {"frames": 5_000, "epsilon": 0.5, "updates": 10, "restarts": 3, "layers": "encoder"}
    flags |= {"negatives": "uniform", "statistics_weight": 10.0}
    given = {f"realign_{name}": value for name, value in flags.items()}
    arms = ("contrastive_distillation", "realign_contrast", "contrastive_distillation_by_return")
    specs = plan(*arms, **given)
    for arm in arms:
        realign = on_codes(specs, arm).realign
        assert realign is not None
        kept = asdict(realign)
        assert {name: kept[name] for name in flags} == flags
    chosen = on_codes(specs, "contrastive_distillation_by_return").realign
    assert chosen is not None and chosen.select == "return"


def test_the_spec_is_read_back_from_its_config() -> None:
    for spec in plan("contrastive_distillation", "fine_tune", zero_shot=True).values():
        again = TrainingSpec.from_config(
            spec.config(), name=spec.name, arms=spec.arms, needs=spec.needs
        )
        assert again.realign == spec.realign
        assert again.zero_shot == spec.zero_shot
        assert again.random_frames == spec.random_frames


@pytest.mark.parametrize("arm", ["vicreg", "kickstarting", "random_teacher", "crd"])
def test_rivals_that_look_through_the_source_are_refused(arm: str) -> None:
    with pytest.raises(SettingsError, match=f"--arms {arm}.*plain source"):
        plan(arm)


@pytest.mark.parametrize("arm", ["realign_contrast", "first_layer_fine_tune"])
def test_arms_for_other_sensors_are_refused_where_sensors_are_alike(arm: str) -> None:
    with pytest.raises(SettingsError, match=f"--arms {arm}: is for targets with other sensors"):
        plan(arm, target=("MiniGrid-DoorKey-6x6-v0",))


def test_an_unknown_objective_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="Nearest: contrast_statistics"):
        plan("contrastive_distillation", realign_objective="contrast_statistic")


def test_only_arms_that_realign_may_have_targets_of_another_width() -> None:
    source, target = ("CartPole-v1",), ("contrastive/CartPole-Mixed7-v0",)
    specs = plan("contrastive_distillation", "scratch", source=source, target=target, agent="dqn")
    assert len(specs) == 3
    with pytest.raises(SettingsError, match="--arms fine_tune: carries the source's weights"):
        plan("fine_tune", source=source, target=target, agent="dqn")


def test_sensor_arms_are_listed() -> None:
    assert {"contrastive_distillation_by_return", "first_layer_reinitialised"} <= set(ARMS)
