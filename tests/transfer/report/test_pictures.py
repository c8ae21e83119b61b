"""Observations as pictures, and keys as files."""

from pathlib import Path

import numpy as np
import pytest

from contrastive_distillation.envs import draw_pictures, make_env
from contrastive_distillation.transfer.report.examples import pictures_of
from contrastive_distillation.transfer.report.projector import write_embedding


def test_a_grid_is_drawn_as_minigrid_draws_it() -> None:
    env = make_env("MiniGrid-DoorKey-5x5-v0", mission=True)
    observation, _ = env.reset(seed=3)
    env.close()
    images = np.asarray(observation["image"])[None]
    drawn = pictures_of({"image": images, "direction": np.zeros((1, 1), np.uint8)})
    assert drawn is not None and drawn.shape == (1, 56, 56, 3)
    np.testing.assert_array_equal(drawn[0], draw_pictures(images)[0].transpose(1, 2, 0))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 3


@pytest.mark.parametrize("channels", [1, 3, 4, 12])
def test_of_stacked_frames_the_last_is_shown(channels: int) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, channels, 8, 8)).astype(np.uint8)
    drawn = pictures_of(pictures)
    assert drawn is not None and drawn.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(drawn[..., -1], pictures[:, -1])


@pytest.mark.parametrize(
    "observations",
    [
        np.zeros((2, 4), np.float32),
        {"state": np.zeros((2, 4), np.uint8)},
        np.zeros((2, 5, 9, 9), np.uint8),
        np.zeros((2, 3, 9, 9), np.float32),
    ],
)
def test_what_is_no_picture_is_not_drawn(observations: object) -> None:
    assert pictures_of(observations) is None


def test_keys_and_labels_stand_line_by_line(tmp_path: Path) -> None:
    keys = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)
    labels = [("A", "0.5", "1", "2", "target"), ("B", "", "3", "4", "source")]
    write_embedding(tmp_path / "projector", keys, labels)
    lines = (tmp_path / "projector/tensors.tsv").read_text().splitlines()
    assert lines == ["0.6\t0.8", "1\t0"]
    metadata = (tmp_path / "projector/metadata.tsv").read_text().splitlines()
    assert metadata[0].split("\t") == ["task", "return", "episode", "step", "memory"]
    assert [line.split("\t")[0] for line in metadata[1:]] == ["A", "B"]
    config = (tmp_path / "projector/projector_config.pbtxt").read_text()
    assert 'tensor_path: "tensors.tsv"' in config and 'metadata_path: "metadata.tsv"' in config
