"""Write episodes of a trained agent as an animated GIF."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from contrastive_distillation.envs import episode_seed

from ..errors import SettingsError
from ..run_directory.atomic_files import write_with
from .evaluator import PythonStage, own_randomness
from .policies import Act, policy_of
from .schedule import WATCH_INDEX
from .trained_agent import TrainedAgent

_SIZE = (400, 400)
_BAR = 48
_MOST_STEPS = 300
"""Most steps shown of one episode; later ones are played but not shown."""
_HOLD_MILLISECONDS = 1200


_Shot = tuple[Image.Image, int]
"""One frame of the GIF, and its duration in milliseconds."""


def check_gif(path: Path) -> None:
    """Check that `path` can be written as a GIF, before any episode is played."""
    if path.suffix.lower() != ".gif":
        raise SettingsError(f"--output {path}: must end in .gif")
    if not path.absolute().parent.is_dir():
        raise SettingsError(
            f"--output {path}: the directory {path.parent} does not exist; create it first"
        )


def watch(agent: TrainedAgent, path: Path, *, n_episodes: int, seed: int) -> int:
    """Play episodes in the reference environments and write them as one GIF.

    Returns:
        The number of frames written.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # drawn without a screen
    shots: list[_Shot] = []
    with own_randomness(seed) as own_seed:
        act = policy_of(agent.model, seed=own_seed)
        for env_id in agent.env_ids:
            stage = PythonStage(
                env_id,
                observation=agent.suite.observation,
                mission=agent.mission,
                render_mode="rgb_array",
            )
            with contextlib.closing(stage):
                for episode in range(n_episodes):
                    stage.start(episode_seed(seed, "evaluate", WATCH_INDEX + episode), 1)
                    shots += _episode(stage, act, number=episode + 1)
    _write(path, shots)
    return len(shots)


def _episode(stage: PythonStage, act: Act, *, number: int) -> Iterator[_Shot]:
    """Play the episode that `stage` has started; the evaluator's limit of steps cuts it."""
    fps = float(stage.envs[0].metadata.get("render_fps") or 10)
    pause = max(20, round(1000 / min(fps, 25)))
    while len(stage.going):
        if stage.lengths[0] < _MOST_STEPS:
            yield _picture(stage, number), pause
        stage.go_on(act(stage.observations))
    yield _picture(stage, number), _HOLD_MILLISECONDS


def _picture(stage: PythonStage, number: int) -> Image.Image:
    """The rendered environment above a bar with its id, the episode, the step and the return."""
    scene = Image.fromarray(drawn_picture(stage.envs[0], stage.env_id))
    total, end = float(stage.returns[0]), not len(stage.going)
    scale = min(_SIZE[0] / scene.width, _SIZE[1] / scene.height)
    size = (max(1, round(scene.width * scale)), max(1, round(scene.height * scale)))
    scene = scene.resize(size, Image.Resampling.LANCZOS)
    picture = Image.new("RGB", (_SIZE[0], _SIZE[1] + _BAR), (24, 24, 24))
    picture.paste(scene, ((_SIZE[0] - size[0]) // 2, (_SIZE[1] - size[1]) // 2))
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=15)
    colour = (120, 220, 140) if end and total > 0 else (235, 235, 235)
    pen.text((10, _SIZE[1] + 5), stage.env_id, font=font, fill=(235, 235, 235))
    state = f"episode {number}   step {stage.lengths[0]}   return {total:.2f}"
    pen.text((10, _SIZE[1] + 25), f"{state}{'   end' if end else ''}", font=font, fill=colour)
    return picture


def drawn_picture(env: gym.Env[Any, Any], env_id: str) -> NDArray[np.uint8]:
    """What an environment draws, (H, W, 3).

    Accepts bytes or floats in [0, 1], with one, three or four channels or without channels, and a
    list of such pictures, of which it takes the last.

    Raises:
        SettingsError: the environment draws something else, or nothing.
    """
    try:
        drawn: Any = env.render()
    except Exception as error:  # an environment can raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SettingsError(f"{env_id}: cannot be drawn, its render() failed: {reason}") from error
    if isinstance(drawn, list) and drawn and np.ndim(drawn[-1]) in (2, 3):
        drawn = drawn[-1]
    if drawn is None:
        raise SettingsError(
            f"{env_id}: cannot be drawn, its render() returned None; return an array (H, W, 3) of "
            "bytes from it where render_mode is 'rgb_array'"
        )
    picture = np.asarray(drawn)
    if picture.ndim == 2:
        picture = picture[..., np.newaxis]
    if picture.ndim != 3 or picture.shape[2] not in (1, 3, 4) or picture.dtype.kind not in "biuf":
        raise SettingsError(
            f"{env_id}: cannot be drawn, its render() returned {_described(drawn)}; an array "
            "(H, W, 3) of bytes is expected"
        )
    if picture.dtype.kind in "bf" and picture.max() <= 1:
        picture = np.round(255.0 * picture)
    if not (picture.min() >= 0 and picture.max() <= 255):
        raise SettingsError(
            f"{env_id}: cannot be drawn, its render() returned numbers from {picture.min()} to "
            f"{picture.max()}; bytes, or floats from 0 to 1, are expected"
        )
    colours = picture[..., :3] if picture.shape[2] != 1 else np.repeat(picture, 3, axis=2)
    return colours.astype(np.uint8)


def _described(drawn: object) -> str:
    shape = np.shape(drawn) if isinstance(drawn, np.ndarray | list) else None
    return f"an array of shape {shape}" if shape is not None else f"a {type(drawn).__name__}"


def _write(path: Path, shots: list[_Shot]) -> None:
    pictures = [picture.quantize(128, dither=Image.Dither.NONE) for picture, _ in shots]

    def write(temporary: Path) -> None:
        pictures[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=[milliseconds for _, milliseconds in shots],
            loop=0,
            disposal=1,
        )

    write_with(path, write)
