"""What a plan says before it starts."""

import pytest

from contrastive_distillation.transfer import TrainSettings, TransferSettings, plan_transfer
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
