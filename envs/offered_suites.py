"""The suites that are offered by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .names import UnknownNameError
from .procgen import PROCGEN, PROCGEN_REFUSAL, procgen_available
from .sensor_ids import COLOUR_DOSES, NAMESPACE
from .suites import Suite


def get_suite(name: str) -> Suite:
    """The suite called `name`. Raises UnknownNameError, which suggests similar names."""
    if name not in SUITES:
        hint = "A suite of your own is a YAML file."
        if name == "procgen":
            hint = PROCGEN_REFUSAL
        raise UnknownNameError("suite", name, SUITES, hint=hint)
    return SUITES[name]


def _suites() -> dict[str, Suite]:
    grids = {size: f"MiniGrid-DoorKey-{size}-v0" for size in ("5x5", "6x6", "8x8")}
    suites = (
        Suite(
            name="doorkey",
            summary="the same task in larger rooms",
            sources=(grids["5x5"],),
            targets=(grids["6x6"], grids["8x8"]),
            source_frames=200_000,
            target_frames=200_000,
            agents=("ppo",),
        ),
        Suite(
            name="smoke",
            summary="empty rooms, to see that everything runs; never a result",
            sources=("MiniGrid-Empty-Random-5x5-v0",),
            targets=(
                "MiniGrid-Empty-Random-6x6-v0",
                "MiniGrid-Empty-8x8-v0",
                "MiniGrid-LavaGapS5-v0",
            ),
            source_frames=30_000,
            target_frames=30_000,
            agents=("ppo", "dqn"),
        ),
        Suite(
            name="keydoor",
            summary="keys, doors and corridors put together in new ways",
            sources=(grids["5x5"], "MiniGrid-Unlock-v0", "MiniGrid-KeyCorridorS3R1-v0"),
            targets=(grids["8x8"], "MiniGrid-UnlockPickup-v0", "MiniGrid-KeyCorridorS3R2-v0"),
            source_frames=1_500_000,
            target_frames=400_000,
            agents=("ppo",),
        ),
        Suite(
            name="appearance",
            summary="the same tasks in other colours, with other obstacles and distractors",
            sources=(
                grids["5x5"],
                "BabyAI-GoToRedBallGrey-v0",
                "MiniGrid-SimpleCrossingS9N1-v0",
                "MiniGrid-DistShift1-v0",
            ),
            targets=(
                *(f"{NAMESPACE}/DoorKey-5x5-Colours{dose}-v0" for dose in COLOUR_DOSES),
                "BabyAI-GoToRedBall-v0",
                "MiniGrid-LavaCrossingS9N1-v0",
                "MiniGrid-DistShift2-v0",
            ),
            source_frames=1_500_000,
            target_frames=200_000,
            agents=("ppo",),
            learnt_score=0.8,  # BabyAI's own bot scores .92 in GoToRedBallGrey
        ),
        Suite(
            name="dynamics",
            summary="CartPole with other forces, lengths and masses, or left and right swapped",
            sources=("CartPole-v1",),
            targets=(
                f"{NAMESPACE}/CartPole-Random-v0",
                f"{NAMESPACE}/CartPole-Extreme-v0",
                f"{NAMESPACE}/CartPole-SwappedActions-v0",
            ),
            source_frames=200_000,
            target_frames=100_000,
            agents=("dqn", "ppo"),
        ),
        Suite(
            name="dynamics_acrobot",
            summary="Acrobot with other lengths, masses and inertias",
            sources=("Acrobot-v1",),
            targets=(f"{NAMESPACE}/Acrobot-Random-v0", f"{NAMESPACE}/Acrobot-Extreme-v0"),
            source_frames=300_000,
            target_frames=100_000,
            agents=("dqn", "ppo"),
        ),
        Suite(
            name="pixels",
            summary="doorkey, seen as pictures",
            sources=(grids["5x5"],),
            targets=(grids["6x6"], grids["8x8"]),
            source_frames=500_000,
            target_frames=300_000,
            agents=("ppo",),
            observation="picture",
        ),
        Suite(
            name="codes",
            summary="DoorKey, then the same room with other ids for all things: a first look",
            sources=(grids["5x5"],),
            targets=(f"{NAMESPACE}/DoorKey-5x5-Codes4-v0",),
            source_frames=200_000,
            target_frames=100_000,
            agents=("ppo",),
            sensors=True,
        ),
        Suite(
            name="sensors",
            summary="DoorKey in other colours, with other ids for all things, and unchanged",
            sources=(grids["5x5"],),
            targets=(
                f"{NAMESPACE}/DoorKey-5x5-Colours5-v0",
                *(f"{NAMESPACE}/DoorKey-5x5-Codes{number}-v0" for number in (1, 2, 3)),
                f"{NAMESPACE}/DoorKey-6x6-Codes1-v0",
                grids["5x5"],
            ),
            source_frames=200_000,
            target_frames=200_000,
            agents=("ppo",),
            sensors=True,
        ),
        Suite(
            name="sensors_pictures",
            summary="DoorKey as other pictures: hue, negative, channels, noise, tiles; unchanged",
            sources=(grids["5x5"],),
            targets=(
                f"{NAMESPACE}/DoorKey-5x5-HueTurned1-v0",
                f"{NAMESPACE}/DoorKey-5x5-Inverted2-v0",
                f"{NAMESPACE}/DoorKey-5x5-ChannelsMixed3-v0",
                f"{NAMESPACE}/DoorKey-5x5-Noise1-v0",
                f"{NAMESPACE}/DoorKey-5x5-TileSet2-v0",
                grids["5x5"],
            ),
            source_frames=500_000,
            target_frames=300_000,
            agents=("ppo",),
            observation="picture",
            sensors=True,
        ),
        Suite(
            name="sensors_vectors",
            summary="CartPole in other units, turned, in 32 dimensions, with noise; unchanged",
            sources=("CartPole-v1",),
            targets=(
                f"{NAMESPACE}/CartPole-Units1-v0",
                f"{NAMESPACE}/CartPole-Rotated2-v0",
                f"{NAMESPACE}/CartPole-Mixed3-v0",
                f"{NAMESPACE}/CartPole-Distractors1-v0",
                "CartPole-v1",
            ),
            source_frames=200_000,
            target_frames=100_000,
            agents=("dqn", "ppo"),
            sensors=True,
        ),
        Suite(
            name="grid_to_pictures",
            summary="DoorKey as a grid, then as pictures of it, and unchanged",
            sources=(grids["5x5"],),
            targets=(f"{NAMESPACE}/DoorKey-5x5-Pictures-v0", grids["5x5"]),
            source_frames=200_000,
            target_frames=300_000,
            agents=("ppo",),
            sensors=True,
        ),
    )
    offered = [*suites, _procgen()] if procgen_available() else suites
    return {suite.name: suite for suite in offered}


def _procgen() -> Suite:
    return Suite(
        name="procgen",
        summary="CoinRun, FruitBot and BossFight: from 200 easy levels to all of them",
        sources=tuple(env_id for env_id, game in PROCGEN.items() if game.n_levels),
        targets=tuple(env_id for env_id, game in PROCGEN.items() if not game.n_levels),
        source_frames=25_000_000,
        target_frames=1_000_000,
        agents=("ppo",),
    )


SUITES: Mapping[str, Suite] = MappingProxyType(_suites())
"""The suites by name."""
