"""Write episodes of a trained agent as an animated GIF."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from contrastive_distillation.envs import episode_seed, make_env

from ..errors import SettingsError
from ..run_directory.atomic_files import write_with
from .evaluator import own_randomness, stack
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
            env = make_env(
                env_id,
                observation=agent.suite.observation,
                mission=agent.mission,
                render_mode="rgb_array",
            )
            with contextlib.closing(env):
                for episode in range(n_episodes):
                    first = episode_seed(seed, "evaluate", WATCH_INDEX + episode)
                    shots += _episode(env, env_id, act, seed=first, number=episode + 1)
    _write(path, shots)
    return len(shots)


def _episode(
    env: gym.Env[Any, Any], env_id: str, act: Act, *, seed: int, number: int
) -> Iterator[_Shot]:
    with contextlib.redirect_stdout(None):  # BabyAI prints while it draws a level
        observation, _ = env.reset(seed=seed)
    fps = float(env.metadata.get("render_fps") or 10)
    pause = max(20, round(1000 / min(fps, 25)))
    step, total, done = 0, 0.0, False
    while not done:
        if step < _MOST_STEPS:
            yield _picture(env, env_id, number, step, total), pause
        action = act(stack([observation]))[0]
        if isinstance(env.action_space, gym.spaces.Discrete):
            action = int(action)
        observation, reward, terminated, truncated, _ = env.step(action)
        step, total, done = step + 1, total + float(reward), bool(terminated or truncated)
    yield _picture(env, env_id, number, step, total, end=True), _HOLD_MILLISECONDS


def _picture(
    env: gym.Env[Any, Any], env_id: str, number: int, step: int, total: float, *, end: bool = False
) -> Image.Image:
    """The rendered environment above a bar with its id, the episode, the step and the return."""
    drawn: Any = env.render()
    scene = Image.fromarray(np.asarray(drawn, np.uint8))
    scale = min(_SIZE[0] / scene.width, _SIZE[1] / scene.height)
    size = (round(scene.width * scale), round(scene.height * scale))
    scene = scene.resize(size, Image.Resampling.LANCZOS)
    picture = Image.new("RGB", (_SIZE[0], _SIZE[1] + _BAR), (24, 24, 24))
    picture.paste(scene, ((_SIZE[0] - size[0]) // 2, (_SIZE[1] - size[1]) // 2))
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=15)
    colour = (120, 220, 140) if end and total > 0 else (235, 235, 235)
    pen.text((10, _SIZE[1] + 5), env_id, font=font, fill=(235, 235, 235))
    state = f"episode {number}   step {step}   return {total:.2f}{'   end' if end else ''}"
    pen.text((10, _SIZE[1] + 25), state, font=font, fill=colour)
    return picture


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
