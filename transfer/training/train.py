"""Run one training: build it, carry weights over, let it learn, and write its result."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from contrastive_distillation.agents import (
    TRANSFER_MODES,
    AuxiliaryLossCallback,
    EncoderDiagnostics,
    EncoderRate,
    FiniteGradients,
    FirstLayersOnly,
    FrozenPolicy,
    FrozenTeacher,
    MatchedPasses,
    RecordMemory,
    carry_weights,
    default_callbacks,
    default_n_anchors,
    random_weights,
    read_weights,
    reinitialise_first_layers,
)
from contrastive_distillation.losses import loss_class, make_loss
from contrastive_distillation.memory import MEMORIES

from ..console import Say
from ..evaluation.evaluation_callback import EvaluationCallback, Report, Stop
from ..evaluation.information import InformationProbe
from ..run_directory.atomic_files import write_text
from ..run_directory.directory import (
    CARRIED,
    CURVES,
    MEMORY,
    REALIGNMENT,
    agent_file,
    check_agent_settings,
    clear_directory,
    fingerprint,
    read_config,
    read_result,
    record_resume,
    start_directory,
)
from ..run_directory.locking import TRAINING_LOCK, locked
from ..run_directory.logger import EPISODES_PER_ROW, PROGRESS, PacedLog, make_logger
from ..settings.spec import LossSpec, TrainingSpec
from .build import build, make_env
from .checkpoint_callback import CheckpointCallback, load_auxiliary
from .checkpoints import CheckpointStore, fit_required
from .finish import finish, save_agent
from .realigning import realign_to_target
from .source_agent import keep_source_dynamics

Status = Literal["finished", "interrupted"]
Weights = Mapping[str, torch.Tensor]

_FIRST_TEACHER_SEED = 1_000_000  # those of agents lie below
_PATIENCE_SECONDS = 90.0  # a process whose parent was killed finishes its rollout first
_NUMBERS = (
    "gamma", "learning_rate", "n_steps", "batch_size", "n_epochs", "gae_lambda", "ent_coef",
    "max_grad_norm", "buffer_size", "learning_starts", "gradient_steps", "target_update_interval",
    "tau", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps",
)  # fmt: skip


def run_training(
    spec: TrainingSpec,
    directory: Path,
    *,
    command: Sequence[str],
    report: Report,
    stop: Stop,
    resume: str = "auto",
    trust: bool = False,
    say: Say = print,
) -> Status:
    """Train one agent and write its run directory.

    Args:
        spec: the training.
        directory: the run directory. An interrupted training there is resumed.
        command: the command line, for the manifest.
        report: called with the number of frames done, a few times a second.
        stop: called as often; when it returns True, the training finishes its rollout, writes a
            checkpoint and ends.
        resume: ``auto`` resumes from the newest checkpoint if there is one, ``never`` starts from
            the seed, ``require`` raises if there is no checkpoint.
        trust: unpickle the environments of a checkpoint that this user has not signed.
        say: prints one line for the user.

    Returns:
        ``finished``, or ``interrupted`` if `stop` ended the training.

    Raises:
        LockedError: another process trains in the directory.
        CheckpointError: the checkpoint does not fit the training, or none exists with ``require``.
    """
    torch.set_num_threads(spec.runtime.threads)
    with locked(directory, TRAINING_LOCK, patience_seconds=_PATIENCE_SECONDS):
        spec = _with_extra_frames(spec, directory)
        store = CheckpointStore(directory / "checkpoints", identity=fingerprint(spec.config()))
        begun = (directory / CURVES).is_file()
        checkpoint = store.find(resume, begun=begun, say=say)
        if checkpoint is None:
            store.clear()
            clear_directory(directory)
            start_directory(directory, spec.config(), command=command)
        else:
            record_resume(directory, frames=checkpoint.frames, command=command)

        with contextlib.closing(make_env(spec)) as env:
            model = build(spec, env)
            source = source_directory(spec, directory)
            weights = None
            if source is not None:
                weights = read_weights(agent_file(source, spec.source.checkpoint))
            numbers = _numbers(model)
            if checkpoint is None:
                start_directory(directory, spec.config(), command=command, agent_settings=numbers)
                if weights is not None and (spec.realign is None or _fits(model, weights)):
                    carried = carry_weights(model, weights, mode=spec.source.mode)
                    write_text(directory / CARRIED, f"{carried}\n")
                    if spec.source.mode == "new_first_layers":
                        reinitialise_first_layers(model, seed=spec.seed)
            else:
                check_agent_settings(directory, numbers)
                spec = _with_loss_where_unchanged(spec, directory)
            realigned = None
            if spec.realign is not None and checkpoint is None:
                assert source is not None
                carried_score = EvaluationCallback.score_before(spec, directory, model)
                realigned = realign_to_target(spec, directory, model, source, say=say)
                spec = _with_loss_where_unchanged(spec, directory)

            auxiliary = join_loss(spec, source, model, weights)
            if checkpoint is None:
                model.set_logger(make_logger(directory))
            else:
                auxiliary = load_auxiliary(checkpoint, auxiliary)
                progress, frames = checkpoint.read(PROGRESS).decode(), checkpoint.frames
                model.set_logger(make_logger(directory, earlier=progress, frames=frames))
            evaluation = EvaluationCallback(
                spec, directory, memory=auxiliary.memory, report=report, stop=stop
            )
            if realigned is not None:
                evaluation.begin_realigned(carried_score, frames=realigned.frames)
            of_source = None if spec.task.suite.sensors else weights
            information = InformationProbe(
                spec, directory, evaluation=evaluation, weights=of_source
            )
            saving = CheckpointCallback(
                spec,
                directory,
                store=store,
                env=env,
                auxiliary=auxiliary,
                evaluation=evaluation,
                information=information,
                say=say,
            )
            if checkpoint is not None:
                with fit_required(checkpoint):
                    saving.restore(checkpoint, model, trust=trust)

            callbacks = [*_agent_callbacks(spec, model), auxiliary]
            callbacks.append(FiniteGradients(spec.task.env_ids))
            if spec.loss.name == "none":  # else the loss's callback logs them
                callbacks.append(EncoderDiagnostics(auxiliary.memory))
            callbacks += [PacedLog(), evaluation, information, saving]
            log_interval: Any = None if isinstance(model, OnPolicyAlgorithm) else EPISODES_PER_ROW
            with contextlib.closing(evaluation), contextlib.closing(model.logger):
                if spec.zero_shot:
                    information.init_callback(model)
                    evaluation.evaluate_untrained(model)
                else:
                    model.learn(
                        max(spec.most_frames - model.num_timesteps, 0),
                        callback=CallbackList(callbacks),
                        log_interval=log_interval,
                        reset_num_timesteps=checkpoint is None and realigned is None,
                    )
                finished = not evaluation.stopped
                save_agent(spec, directory, model, auxiliary, finished=finished)
                if finished:
                    if spec.random_frames:
                        keep_source_dynamics(spec, directory, model, auxiliary.memory)
                    source_ids = []  # with other sensors its own environments say nothing
                    if source is not None and not spec.task.suite.sensors:
                        source_ids = read_config(source)["env"]
                    finish(
                        spec,
                        directory,
                        model,
                        evaluation,
                        information,
                        source_ids,
                        gathered=_gathered(spec, directory),
                    )
        return "finished" if finished else "interrupted"


def _fits(model: BaseAlgorithm, weights: Weights) -> bool:
    """Whether all weights of a source have the shapes of the model's."""
    own = model.policy.state_dict()
    return all(name in own and own[name].shape == w.shape for name, w in weights.items())


def _gathered(spec: TrainingSpec, directory: Path) -> int:
    """Frames that the training gathered before it learnt."""
    return 0 if spec.realign is None else int(_realignment(directory)["frames"])


def _realignment(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / REALIGNMENT).read_text(encoding="utf-8"))
    return found


def _with_loss_where_unchanged(spec: TrainingSpec, directory: Path) -> TrainingSpec:
    """The spec of a realigned training: without its loss where the sensors have changed."""
    if spec.realign is None or not _realignment(directory)["sensors_changed"]:
        return spec
    return replace(spec, loss=replace(spec.loss, name="none", settings={}))


def agent_settings(spec: TrainingSpec) -> dict[str, float]:
    """The settings of the spec's agent that are plain numbers."""
    with contextlib.closing(make_env(spec)) as env:
        return _numbers(build(spec, env))


def _agent_callbacks(spec: TrainingSpec, model: BaseAlgorithm) -> list[BaseCallback]:
    """The callbacks of the spec's agent; that of the auxiliary loss comes after them."""
    callbacks: list[BaseCallback] = [*default_callbacks(model)]
    if spec.matched_loss is not None:
        callbacks.insert(0, _matched_passes(spec, spec.matched_loss, model))
    if spec.source.mode == "first_layers_only":
        callbacks.insert(0, FirstLayersOnly())
    if TRANSFER_MODES[spec.source.mode].encoder_rate != 1.0:
        callbacks.insert(0, EncoderRate(TRANSFER_MODES[spec.source.mode].encoder_rate))
    return callbacks


def source_directory(spec: TrainingSpec, directory: Path) -> Path | None:
    """The run directory of the spec's source, where it has one."""
    name = spec.source.directory
    return None if name is None else _named_directory(spec, directory, name)


def _named_directory(spec: TrainingSpec, directory: Path, name: str) -> Path:
    """A directory that a spec names: relative to the spec's own, unless the user named it."""
    return directory / name if spec.needs is not None else Path(name)


def _with_extra_frames(spec: TrainingSpec, directory: Path) -> TrainingSpec:
    """The spec with the frames that it adds to its own, now that they are known."""
    if spec.source.adds_frames_of is None:
        return spec
    other = read_result(_named_directory(spec, directory, spec.source.adds_frames_of))
    return replace(spec, source=replace(spec.source, extra_frames=int(other["frames"])))


def _matched_passes(spec: TrainingSpec, loss: LossSpec, model: BaseAlgorithm) -> MatchedPasses:
    """More epochs in place of a loss, by as much as that would show the encoder.

    On a target the loss would have the source's memory beside its own.
    """
    n_anchors = min(default_n_anchors(model), loss.memory_capacity)
    counted = make_loss(loss.name, **loss.settings)
    return MatchedPasses(
        every=loss.every,
        n_encoded=counted.n_encoded(n_anchors, with_source_memory=spec.role == "target"),
    )


def join_loss(
    spec: TrainingSpec, source: Path | None, model: BaseAlgorithm, weights: Weights | None
) -> RecordMemory:
    """The callback that records the memory and, if the spec has a loss, adds its gradient.

    Args:
        spec: the training.
        source: the run directory of its source, if it has one.
        model: its agent.
        weights: the source's weights.
    """
    choice = spec.loss
    memory = MEMORIES[choice.memory](capacity=choice.memory_capacity, keep=choice.keep)
    if choice.name == "none":
        return RecordMemory(memory)
    settings: dict[str, Any] = dict(choice.settings)
    source_memory = None
    if spec.source.teacher and source is not None and weights is not None:
        kind = MEMORIES[read_config(source)["memory"]]
        source_memory = kind.load(source / MEMORY)
        loss = loss_class(choice.name)
        if loss.takes_teacher:
            teaching = weights
            if spec.source.random_teacher:
                teaching = random_weights(model, seed=_FIRST_TEACHER_SEED + spec.seed)
            settings["teacher"] = FrozenTeacher.from_weights(teaching, like=model)
        if loss.takes_source_policy:
            settings["source_policy"] = FrozenPolicy.from_weights(weights, like=model)
    return AuxiliaryLossCallback(
        make_loss(choice.name, **settings),
        memory=memory,
        weight=choice.weight,
        balance=choice.balance,
        every=choice.every,
        source_memory=source_memory,
        seed=spec.seed,
    )


def _numbers(model: BaseAlgorithm) -> dict[str, float]:
    """The agent's settings that are plain numbers."""
    found = {name: getattr(model, name, None) for name in _NUMBERS}
    found["train_freq"] = getattr(getattr(model, "train_freq", None), "frequency", None)
    return {name: value for name, value in found.items() if isinstance(value, (int, float))}
