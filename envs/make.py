"""Make one vectorised environment from environment ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import gymnasium as gym

from .block import Block
from .envpool_block import EnvPoolBlock, check_envpool_has, envpool_has
from .gymnasium_block import GymnasiumBlock
from .observations import compared_spaces, resolve_mission
from .registry import find_spec
from .spaces import compare_spaces, space_table
from .vector import TaskVecEnv

Backend = Literal["auto", "envpool", "gymnasium"]
BACKENDS = ("auto", "envpool", "gymnasium")


def make_vec(
    env_ids: str | Sequence[str],
    n_envs: int,
    seed: int,
    backend: str = "auto",
    *,
    observation: str = "auto",
    mission: str | bool = "auto",
    num_threads: int = 1,
    render_mode: str | None = None,
) -> TaskVecEnv:
    """Make one `VecEnv` with `n_envs` environments, shared equally by the tasks `env_ids`.

    The first `n_envs / len(env_ids)` environments belong to the first task, and so on.

    Args:
        env_ids: one environment id, or several with equal spaces.
        n_envs: number of environments, a multiple of the number of tasks.
        seed: in [0, 2³¹); see `episode_seed`. The backends draw different episodes from it.
        backend: `"envpool"`, `"gymnasium"`, or `"auto"`: EnvPool for the environments that it
            has, if it imports, and Gymnasium for the others.
        observation: `"auto"` (the grid for MiniGrid and BabyAI, the environment's own observation
            for others) or `"picture"` (a picture of the grid, channel first).
        mission: whether a grid observation holds the mission: `"auto"` (if `mission_varies`),
            `"on"` or `"off"`.
        num_threads: EnvPool's threads for each task; 1 is enough if several trainings run at once.
        render_mode: `"rgb_array"` makes `get_images` work; `backend="auto"` is then Gymnasium.

    Raises UnknownNameError for an unknown id; ValueError for a wrong setting, for `n_envs` that is
    not a multiple of the number of tasks, and for tasks whose spaces differ.
    """
    ids = [env_ids] if isinstance(env_ids, str) else list(env_ids)
    share = _share(ids, n_envs)
    check_backend(ids, backend)
    if num_threads < 1:
        raise ValueError(f"num_threads must be at least 1, got {num_threads}")
    if backend == "envpool" and render_mode is not None:
        raise ValueError('EnvPool does not render. Use backend="gymnasium" with render_mode.')
    with_mission = resolve_mission(ids, mission, observation)
    blocks = [
        _make_block(env_id, share, backend, observation, with_mission, num_threads, render_mode)
        for env_id in ids
    ]
    _check_spaces(blocks)
    return TaskVecEnv(blocks=blocks, seed=seed)


def _share(ids: list[str], n_envs: int) -> int:
    """The number of environments per task."""
    if not ids:
        raise ValueError("env_ids is empty: name at least one environment")
    if n_envs < 1:
        raise ValueError(f"n_envs must be at least 1, got {n_envs}")
    share, left = divmod(n_envs, len(ids))
    if left:
        lower, upper = share * len(ids), (share + 1) * len(ids)
        near = f"{lower} or {upper}" if lower else str(upper)
        raise ValueError(
            f"n_envs must be a multiple of {len(ids)}, the number of tasks, so that each has "
            f"as many environments; got {n_envs}. Use {near}."
        )
    return share


def check_backend(env_ids: Sequence[str], backend: str) -> None:
    """Raise ValueError if `backend` is unknown or cannot run one of `env_ids`.

    Raises UnknownNameError for an unknown id.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {BACKENDS}, got {backend!r}")
    for env_id in env_ids:
        find_spec(env_id)
    if backend != "envpool":
        return
    try:
        import envpool  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f'backend="envpool" needs EnvPool, which does not import here ({error}): '
            f'pip install envpool, or use backend="auto" or "gymnasium".'
        ) from error
    for env_id in env_ids:
        check_envpool_has(env_id)


def _make_block(
    env_id: str,
    share: int,
    backend: str,
    observation: str,
    mission: bool,
    num_threads: int,
    render_mode: str | None,
) -> Block:
    fast = backend == "envpool" or (
        backend == "auto" and render_mode is None and envpool_has(env_id)
    )
    if fast:
        return EnvPoolBlock(
            env_id=env_id,
            n_envs=share,
            observation=observation,
            mission=mission,
            num_threads=num_threads,
        )
    return GymnasiumBlock(
        env_id=env_id,
        n_envs=share,
        observation=observation,
        mission=mission,
        render_mode=render_mode,
    )


def _check_spaces(blocks: list[Block]) -> None:
    """Raise ValueError, with a table, if the spaces of `blocks` differ."""
    first = blocks[0]
    for other in blocks[1:]:
        rows = compare_spaces(*_compared(first), *_compared(other))
        if not all(row.fits for row in rows):
            for block in blocks:
                block.close()
            raise ValueError(
                f"{first.env_id!r} and {other.env_id!r} cannot share one agent:\n"
                + space_table(rows, first.env_id, other.env_id)
            )


def _compared(block: Block) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """A block's spaces, discrete ones with the `start` that the environment gave them."""
    if block.envs:
        return compared_spaces(block.envs[0])
    return block.observation_space, block.action_space
