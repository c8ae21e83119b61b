"""What a plan says before it starts."""

from dataclasses import replace
from typing import Any

import pytest

from contrastive_distillation.transfer import (
    SettingsError,
    TrainingSpec,
    TrainSettings,
    TransferSettings,
    plan_transfer,
)
from contrastive_distillation.transfer.study.plan import plan_train

CARTPOLE, VARIED = "CartPole-v1", "contrastive/CartPole-Random-v0"


def test_frames_are_rounded_up_to_whole_steps_and_the_plan_says_so() -> None:
    plan = plan_train(TrainSettings(env=(CARTPOLE,), frames=3_000, n_envs=64))
    assert plan.specs[0].most_frames == 3_008
    assert plan.specs[0].config()["frames"] == 3_000
    assert plan.notes == (
        "3_000 frames are rounded up to 3_008, a multiple of the 64 environments that step "
        "together.",
    )


@pytest.mark.parametrize("frames", [64, 3_008, 8_192])
def test_whole_steps_are_left_as_they_are(frames: int) -> None:
    plan = plan_train(TrainSettings(env=(CARTPOLE,), frames=frames, n_envs=64))
    assert plan.specs[0].most_frames == frames
    assert plan.notes == ()


def test_each_rounding_of_a_transfer_is_named_once() -> None:
    settings = TransferSettings(
        source=(CARTPOLE,), target=(VARIED,), arms=("fine_tune", "scratch"), seeds=2,
        source_frames=1_000, frames=2_000, n_envs=32,
    )  # fmt: skip
    notes = plan_transfer(settings).notes
    assert [note.split(",")[0] for note in notes] == [
        "1_000 frames are rounded up to 1_024",
        "2_000 frames are rounded up to 2_016",
    ]


def labels(*arms: str, **settings: Any) -> list[str]:
    """The arms in the tables of a transfer, as its trainings on the target name them."""
    chosen = TransferSettings(source=(CARTPOLE,), target=(VARIED,), arms=arms, **settings)
    return [spec.arms[0] for spec in plan_transfer(chosen).specs if spec.role == "target"]


def test_an_arm_with_the_runs_loss_says_which_it_is() -> None:
    arms = ("contrastive_distillation", "contrastive_target_only", "equal_compute", "fine_tune")
    assert labels(*arms, loss="curl") == [
        "contrastive_distillation+loss=curl",
        "contrastive_target_only+loss=curl",
        "equal_compute+loss=curl",
        "fine_tune",
    ]
    assert labels(*arms) == list(arms)
    assert labels("contrastive_distillation", "atc", loss="none") == [
        "contrastive_distillation+loss=none",
        "atc",
    ]


def test_a_source_says_its_loss_too() -> None:
    settings = TransferSettings(
        source=(CARTPOLE,), target=(VARIED,), arms=("contrastive_distillation",), loss="curl"
    )
    source, target = plan_transfer(settings).specs
    assert source.name == target.needs == "sources/with_loss+loss=curl-seed0"


@pytest.mark.parametrize(
    ("loss", "arms"),
    [
        ("curl", ("contrastive_distillation", "curl")),
        ("atc", ("fine_tune", "atc", "contrastive_distillation")),
        ("crd", ("contrastive_target_only", "crd")),
        ("none", ("contrastive_distillation", "fine_tune")),
    ],
)
def test_two_arms_that_are_one_agent_are_refused(loss: str, arms: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="would train the same agents"):
        labels(*arms, loss=loss)


def test_an_unknown_range_of_returns_is_said_before_the_training() -> None:
    (note,) = plan_train(TrainSettings(env=("Pendulum-v1",), frames=64)).notes
    assert note == (
        "The range of returns of Pendulum-v1 is unknown: its scores are raw returns. Give one with "
        "--return-range LOW HIGH, or as return_ranges of a suite."
    )


def test_a_range_is_that_of_every_environment_and_is_kept() -> None:
    settings = TransferSettings(
        source=("Pendulum-v1",), target=("Pendulum-v1",), arms=("scratch",),
        return_range=(-1600.0, 0.0), frames=2_048,
    )  # fmt: skip
    plan = plan_transfer(settings)
    assert plan.notes == ()
    (spec,) = plan.specs
    assert spec.task.suite.task("Pendulum-v1").score([-1600, -400, 5]).tolist() == [0, 0.75, 1]
    assert plan.config["return_range"] == [-1600, 0]
    read = TrainingSpec.from_config(spec.config(), name=spec.name, arms=spec.arms, needs=None)
    assert read == spec
    other = plan_transfer(replace(settings, return_range=None))
    assert "return_range" not in other.config and other.directory != plan.directory


def test_nothing_says_when_raw_returns_are_learnt() -> None:
    with pytest.raises(SettingsError, match="--until-learnt: nothing says when Pendulum-v1 is"):
        plan_train(TrainSettings(env=("Pendulum-v1",), until_learnt=True))
    car = TrainSettings(env=("MountainCarContinuous-v0",), until_learnt=True)
    assert plan_train(car).specs[0].task.until_learnt, "Gymnasium's threshold says it"
