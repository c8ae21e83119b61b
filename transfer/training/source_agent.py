"""A finished source for a realignment: its agent, its steps and its latent dynamics."""

import functools
from pathlib import Path

from safetensors.numpy import load_file, save_file
from stable_baselines3.common.base_class import BaseAlgorithm

from contrastive_distillation.agents import (
    FrozenTeacher,
    SourceAgent,
    encoder_sha256,
    fit_dynamics,
    gather_memory,
    read_weights,
)
from contrastive_distillation.losses import SourceDynamics
from contrastive_distillation.memory import MEMORIES, Memory, Trajectories

from ..run_directory.atomic_files import write_with
from ..run_directory.directory import (
    BEST,
    DYNAMICS,
    MEMORY,
    RANDOM_STEPS,
    Chosen,
    agent_file,
    read_config,
)
from ..settings.source_run import read_spec
from ..settings.spec import TrainingSpec
from .build import build, make_env


def keep_source_dynamics(
    spec: TrainingSpec, directory: Path, model: BaseAlgorithm, memory: Memory
) -> None:
    """Play random actions with a trained agent, and keep these and the latent dynamics.

    Writes the distinct observations with their steps, and the dynamics of the best agent's
    features, both as safetensors.

    Args:
        spec: the training.
        directory: its run directory, with the best agent in it.
        model: the trained agent, with its environments.
        memory: of the training.
    """
    weights = {name: values.clone() for name, values in model.policy.state_dict().items()}
    model.policy.load_state_dict(read_weights(directory / BEST))
    gathered = gather_memory(model, frames=spec.random_frames, seed=spec.seed)
    random = Trajectories.from_memory(gathered)
    tensors = random.tensors()
    write_with(directory / RANDOM_STEPS, functools.partial(save_file, tensors))
    steps = Trajectories.join([random, Trajectories.from_memory(memory)])
    dynamics = fit_dynamics(model, steps, seed=spec.seed)
    write_with(directory / DYNAMICS, dynamics.save)
    model.policy.load_state_dict(weights)


def load_source(
    run: str | Path, *, checkpoint: Chosen = "best", trust: bool = False
) -> SourceAgent:
    """What a run directory keeps of a source: for `agents.realign(model, source=…)`.

    Args:
        run: the directory of a finished `train`, or of one source of a study.
        checkpoint: which of its agents.
        trust: import the modules that the run names, though it is not your own.

    Returns:
        Its agent with its environments, its steps, and its latent dynamics if they belong to the
        agent; they are fitted when they are needed otherwise.

    Raises:
        ValueError: the directory holds no finished run, or a file is broken.
    """
    directory = Path(run)
    spec = read_spec(directory, trust=trust)
    model = build(spec, make_env(spec))
    model.policy.load_state_dict(read_weights(agent_file(directory, checkpoint)))
    kind = MEMORIES[read_config(directory)["memory"]]
    parts = [Trajectories.from_memory(kind.load(directory / MEMORY))]
    random, dynamics = directory / RANDOM_STEPS, None
    if random.is_file():
        parts.insert(0, Trajectories.from_tensors(load_file(random)))
    if (directory / DYNAMICS).is_file():
        found = SourceDynamics.load(directory / DYNAMICS, action_space=model.action_space)
        if found.encoder_sha256 == encoder_sha256(FrozenTeacher.from_model(model).encoder):
            dynamics = found
    steps = Trajectories.join(parts) if len(parts) > 1 else parts[0]
    return SourceAgent(model=model, trajectories=steps, dynamics=dynamics)
