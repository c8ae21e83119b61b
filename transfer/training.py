"""One cell trained: environments, agent, loss, checkpoints, files."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from contrastive_distillation.agents import (
    TRANSFER_MODES,
    AuxiliaryLossCallback,
    EncoderRate,
    FrozenTeacher,
    build_agent,
    carry_weights,
    default_callbacks,
    policy_sha256,
    read_weights,
)
from contrastive_distillation.envs import episode_seed, make_vec
from contrastive_distillation.losses import make_loss
from contrastive_distillation.memory import MEMORIES

from .cells import Cell
from .checkpoints import Checkpoints, measures, play
from .choices import takes_teacher
from .evaluation import Evaluator
from .information import measure_information
from .progress import Report, Stop
from .protocol import FINAL_INDEX, episodes_at_end
from .runs import (
    AUXILIARY,
    CARRIED,
    FINAL,
    INTERRUPTED,
    MEMORY,
    RESULT,
    clear_directory,
    read_config,
    start_directory,
    write_json,
    write_text,
)

Status = Literal["finished", "interrupted"]
Weights = Mapping[str, torch.Tensor]

_ROWS_PER_RUN = 2048
_NUMBERS = (
    "gamma", "learning_rate", "n_steps", "batch_size", "n_epochs", "gae_lambda", "ent_coef",
    "max_grad_norm", "buffer_size", "learning_starts", "gradient_steps", "target_update_interval",
    "exploration_fraction", "exploration_initial_eps", "exploration_final_eps",
)  # fmt: skip


def train_cell(
    cell: Cell, directory: Path, *, command: Sequence[str], report: Report, stop: Stop
) -> Status:
    """Train one cell, and leave a whole run in its directory.

    Args:
        cell: what to train.
        directory: where; what an unfinished run left there is cleared first.
        command: the command line, for the manifest.
        report: told the frames done, a few times a second.
        stop: asked, as often, whether to stop; then what there is, is saved.

    Returns:
        ``finished``, or ``interrupted`` where `stop` said so.
    """
    torch.set_num_threads(cell.threads)
    clear_directory(directory)
    start_directory(directory, cell.config(), command=command)
    env = _make_env(cell)
    try:
        return _train(cell, directory, env, command=command, report=report, stop=stop)
    finally:
        env.close()


def _make_env(cell: Cell) -> VecEnv:
    return make_vec(
        cell.env_ids,
        cell.n_envs,
        _env_seed(cell),
        cell.backend,
        observation=cell.suite.observation,
        mission=cell.mission,
        num_threads=cell.threads,
    )


def _train(
    cell: Cell,
    directory: Path,
    env: VecEnv,
    *,
    command: Sequence[str],
    report: Report,
    stop: Stop,
) -> Status:
    model = build(cell, env)
    start_directory(directory, cell.config(), command=command, agent_settings=_numbers(model))
    weights = _carry(cell, directory, model)
    joined = _join_loss(cell, directory, model, weights)
    checkpoints = Checkpoints(cell, directory, report=report, stop=stop)
    callbacks: list[BaseCallback] = [*default_callbacks(model), joined, checkpoints]
    if TRANSFER_MODES[cell.mode].encoder_rate != 1.0:
        callbacks.insert(0, EncoderRate(TRANSFER_MODES[cell.mode].encoder_rate))
    model.set_logger(configure(str(directory), ["csv", "tensorboard"]))
    started = time.perf_counter()
    with joined, checkpoints:
        model.learn(cell.frames, callback=CallbackList(callbacks), log_interval=_interval(model))
    seconds = time.perf_counter() - started
    model.logger.close()
    _save(
        directory, model, joined, with_loss=cell.loss.name != "none", whole=not checkpoints.stopped
    )
    if checkpoints.stopped:
        return "interrupted"
    _finish(cell, directory, model, joined, checkpoints, weights, seconds)
    return "finished"


def build(cell: Cell, env: VecEnv) -> BaseAlgorithm:
    """The cell's agent, untrained."""
    gamma = {} if cell.gamma is None else {"gamma": cell.gamma}
    model = build_agent(cell.agent, env, seed=cell.seed, device=cell.device, **gamma)
    env.seed(_env_seed(cell))  # the model has seeded it with its own
    return model


def _env_seed(cell: Cell) -> int:
    return episode_seed(cell.seed, "train", cell.stream)


def _source_directory(cell: Cell, directory: Path) -> Path | None:
    """The source's directory: relative to the cell's own, unless the user named it."""
    if cell.source is None:
        return None
    return directory / cell.source if cell.needs is not None else Path(cell.source)


def _carry(cell: Cell, directory: Path, model: BaseAlgorithm) -> Weights | None:
    """Give the model its source's weights; returns them."""
    source = _source_directory(cell, directory)
    if source is None:
        return None
    weights = read_weights(source)
    carried = carry_weights(model, weights, mode=cell.mode)
    write_text(directory / CARRIED, f"{carried}\n")
    return weights


def _join_loss(
    cell: Cell, directory: Path, model: BaseAlgorithm, weights: Weights | None
) -> AuxiliaryLossCallback:
    """The callback that fills the memory, and joins the loss where there is one.

    Without a loss its weight is 0, which leaves the agent bit-identical to one without it.
    """
    choice = cell.loss
    settings: dict[str, Any] = dict(choice.settings)
    source_memory = None
    if choice.name != "none" and cell.teacher and weights is not None:
        source = _source_directory(cell, directory)
        assert source is not None
        kind = MEMORIES[read_config(source)["memory"]]
        source_memory = kind.load(source / MEMORY)
        if takes_teacher(choice.name):
            settings["teacher"] = FrozenTeacher.from_weights(weights, like=model)
    name = "contrastive_distillation" if choice.name == "none" else choice.name
    return AuxiliaryLossCallback(
        make_loss(name, **settings),
        memory=MEMORIES[choice.memory](capacity=choice.memory_capacity, keep=choice.keep),
        weight=choice.weight if choice.name != "none" else 0.0,
        balance=choice.balance,
        every=choice.every,
        source_memory=source_memory,
        seed=cell.seed,
    )


def _interval(model: BaseAlgorithm) -> int:
    """How often a row is logged: in rollouts on-policy, in episodes off-policy."""
    if isinstance(model, OnPolicyAlgorithm):
        return max(1, _ROWS_PER_RUN // (model.n_steps * model.n_envs))
    return 16


def _numbers(model: BaseAlgorithm) -> dict[str, float]:
    """The agent's settings that are plain numbers."""
    found = {name: getattr(model, name, None) for name in _NUMBERS}
    return {name: value for name, value in found.items() if isinstance(value, (int, float))}


def _save(
    directory: Path,
    model: BaseAlgorithm,
    joined: AuxiliaryLossCallback,
    *,
    with_loss: bool,
    whole: bool,
) -> None:
    """Save agent, memory and loss, each file at once."""
    path = directory / (FINAL if whole else INTERRUPTED)
    temporary = path.with_name("writing.zip")
    model.save(temporary)
    os.replace(temporary, path)
    temporary = directory / "writing.safetensors"
    joined.memory.save(temporary)
    os.replace(temporary, directory / MEMORY)
    if with_loss:
        joined.save(temporary)
        os.replace(temporary, directory / AUXILIARY)


def _finish(
    cell: Cell,
    directory: Path,
    model: BaseAlgorithm,
    joined: AuxiliaryLossCallback,
    checkpoints: Checkpoints,
    weights: Weights | None,
    seconds: float,
) -> None:
    """Judge the agent in the reference environment, and write the result."""
    started = time.perf_counter()
    final = evaluate_at_end(cell, model)
    evaluation = checkpoints.seconds + time.perf_counter() - started
    learning = seconds - checkpoints.seconds
    started = time.perf_counter()
    source = None if weights is None else FrozenTeacher.from_weights(weights, like=model)
    information = measure_information(joined, source, seed=cell.seed)
    write_json(
        directory / RESULT,
        {
            "weights_sha256": policy_sha256(model),
            "frames": checkpoints.frames,
            "frames_per_second": round(checkpoints.frames / learning, 1),
            "seconds": round(learning + evaluation, 3),
            "evaluation_seconds": round(evaluation, 3),
            "learnt": checkpoints.learnt,
            "scores": checkpoints.scores,
            "final": final,
            "information": information,
            "information_seconds": round(time.perf_counter() - started, 3),
        },
    )


def evaluate_at_end(cell: Cell, model: BaseAlgorithm) -> dict[str, dict[str, Any]]:
    """Environment id → score and returns in the reference environment."""
    longest = [cell.suite.task(env_id).max_episode_steps for env_id in cell.env_ids]
    evaluator = Evaluator(
        env_ids=cell.env_ids,
        n_episodes=episodes_at_end(cell.frames, longest),
        backend="gymnasium",
        observation=cell.suite.observation,
        mission=cell.mission,
    )
    try:
        return {
            episodes.env_id: {
                **measures(cell.suite, episodes),
                "episodes": len(episodes.returns),
                "backend": episodes.backend,
            }
            for episodes in play(model, evaluator, seed=cell.seed, index=FINAL_INDEX)
        }
    finally:
        evaluator.close()
