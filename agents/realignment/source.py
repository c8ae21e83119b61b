"""The source of a realignment: its agent, its steps, and what was fitted to them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecFrameStack
from torch import Tensor, nn

from contrastive_distillation.losses import (
    OBJECTIVES,
    DynamicsSettings,
    Objective,
    SourceDynamics,
    fit_source_dynamics,
    usual_steps,
)
from contrastive_distillation.memory import Memory, Observations, Trajectories, take

from ..builders import observation_kind
from ..encoder_lookup import encoder_names
from ..observation_encoder import ObservationEncoder
from ..teachers import FrozenTeacher
from ..weights import read_weights
from .gathering import gather_memory
from .students import WhitenedInput

_N_USUAL = 8_192

DYNAMICS: dict[str, DynamicsSettings] = {
    "grid": DynamicsSettings(),
    "picture": DynamicsSettings(n_updates=1_500),
    "mixed": DynamicsSettings(n_updates=1_500),
    "vector": DynamicsSettings(n_steps=5, changing=False, residual=True, n_updates=1_500),
}
"""How the latent dynamics of a source are fitted, by the kind of its observations."""

OF_WHITENED = DynamicsSettings(
    n_steps=5,
    changing=False,
    hidden=64,
    residual=True,
    batch_size=256,
    n_updates=1_500,
    by_distance=True,
)
"""How those of whitened vectors are fitted."""


@dataclass
class Source:
    """A source agent, as a realignment sees it."""

    weights: dict[str, Tensor]
    """Its policy's state dict."""
    encoders: list[ObservationEncoder]
    """Its encoders, one for each of the student's."""
    trajectories: Trajectories
    """Its steps; those of every tenth of its episodes are held out."""
    action_space: Any
    kind: str
    """Of its observations, see `observation_kind`."""
    notes: tuple[str, ...] = ()
    n_frames: int = 1
    """Frames in a stack of vectors."""
    normalisation: Any = None
    """Statistics of observations in its VecNormalize, if it has one that is known."""
    is_mapped: bool = False
    """Whether vectors are mapped in front of the policy: their latent is then the input."""
    fitted: dict[tuple[str, bool], list[SourceDynamics]] = field(default_factory=dict)
    """Dynamics of each encoder, by their criterion and whether actions were shuffled."""

    def map_input(self) -> None:
        """Let the whitened input be the latent; dynamics that a run kept are of its features."""
        self.is_mapped = True
        self.fitted = {}

    def training(self) -> Trajectories:
        """The steps that dynamics are fitted to; all, if they are of one episode."""
        if self.trajectories.n_episodes == 1:
            return self.trajectories
        return self.trajectories.of_episodes(~_held_out(self.trajectories))

    def held_out(self) -> Trajectories:
        """The other steps: those with random actions, where there are any."""
        found = self.trajectories.of_episodes(_held_out(self.trajectories))
        return found.of_random_actions() if found.random.any() else found

    @cached_property
    def teachers(self) -> list[nn.Module]:
        """Raw observations of the source to the features whose dynamics are fitted."""
        if not self.is_mapped:
            return list(self.encoders)
        usual = usual_observations(self.training(), OF_WHITENED, np.random.default_rng(0))
        return [WhitenedInput(each, usual, n_frames=self.n_frames) for each in self.encoders]

    def dynamics(self, objective: Objective, *, seed: int) -> list[SourceDynamics]:
        """The dynamics of each encoder that an objective uses; fitted at the first call.

        Raises:
            ValueError: its steps hold too few windows.
        """
        key = (objective.criterion, objective.shuffled_actions)
        if key not in self.fitted:
            training = self.training()
            self.fitted[key] = [
                fit_source_dynamics(
                    teacher,
                    training,
                    action_space=self.action_space,
                    settings=OF_WHITENED if self.is_mapped else DYNAMICS[self.kind],
                    generator=np.random.default_rng([seed, i]),
                    criterion=objective.criterion,
                    shuffled_actions=objective.shuffled_actions,
                )
                for i, teacher in enumerate(self.teachers)
            ]
        return self.fitted[key]


@dataclass(frozen=True)
class SourceAgent:
    """A source with what was kept of it; `transfer.load_source` reads one from a run."""

    model: BaseAlgorithm
    trajectories: Trajectories
    """Its steps."""
    dynamics: SourceDynamics | None = None
    """Fitted to them; None: fitted when they are needed."""


def fit_dynamics(model: BaseAlgorithm, steps: Trajectories, *, seed: int) -> SourceDynamics:
    """The latent dynamics of a model's encoder, fitted to its steps; they carry its hash.

    Raises:
        ValueError: the steps hold too few windows.
    """
    names = encoder_names(model)[:1]
    agent = SourceAgent(model=model, trajectories=steps)
    opened = open_source(
        agent, like=model, names=names, memory=None, n_frames=frames_in_stack(model), seed=seed
    )
    fitted = opened.dynamics(OBJECTIVES["contrast"], seed=seed)[0]
    fitted.encoder_sha256 = encoder_sha256(opened.encoders[0])
    return fitted


def open_source(
    source: BaseAlgorithm | SourceAgent | str | Path,
    *,
    like: BaseAlgorithm,
    names: Sequence[str],
    memory: Memory | None,
    n_frames: int,
    seed: int,
) -> Source:
    """The source of a realignment.

    Args:
        source: a model, what a run kept, or a Stable-Baselines3 zip.
        like: the target model; has the architecture of a zip's.
        names: of the encoders that are realigned.
        memory: what the source saw and did.
        n_frames: frames in a stack of vectors.
        seed: of the random actions, where the source has to play.

    Raises:
        ValueError: there are no steps of the source, or a zip does not fit the target model.
    """
    fitted: dict[tuple[str, bool], list[SourceDynamics]] = {}
    parts = [] if memory is None else [Trajectories.from_memory(memory)]
    if isinstance(source, SourceAgent):
        if memory is None:
            parts = [source.trajectories]
            if source.dynamics is not None and len(names) == 1:
                fitted = {(source.dynamics.criterion, False): [source.dynamics]}
        source = source.model
    model = source if isinstance(source, BaseAlgorithm) else None
    if model is None:
        assert isinstance(source, str | Path)
        weights = read_weights(source)
        teachers = [FrozenTeacher.from_weights(weights, like=like, encoder=name) for name in names]
    else:
        weights = {n: value.clone() for n, value in model.policy.state_dict().items()}
        teachers = [FrozenTeacher.from_model(model, encoder=name) for name in names]
    notes: tuple[str, ...] = ()
    if not any(part.random.any() for part in parts) and model is not None and model.get_env():
        parts.append(Trajectories.from_memory(gather_memory(model, seed=seed)))
        notes = ("The source played 40,000 frames of random actions in its own environment.",)
    if not parts:
        raise ValueError(
            "nothing is known of what the source saw: pass source_memory=, which RecordMemory or "
            "AuxiliaryLossCallback write while it learns; or gather_memory(source, env); or give "
            "the source model its environment"
        )
    normalised = None if model is None else model.get_vec_normalize_env()
    if normalised is not None and not normalised.norm_obs:
        normalised = None
    return Source(
        weights=weights,
        encoders=[teacher.encoder for teacher in teachers],
        trajectories=Trajectories.join(parts) if len(parts) > 1 else parts[0],
        action_space=like.action_space if model is None else model.action_space,
        kind=observation_kind((like if model is None else model).observation_space),
        notes=notes,
        n_frames=n_frames,
        normalisation=None if normalised is None else copy.deepcopy(normalised.obs_rms),
        fitted=fitted,
    )


def frames_in_stack(model: BaseAlgorithm) -> int:
    """How many frames an observation of the model stacks; 1 where it stacks none.

    Also 1 for a Dict of vectors: a map of all its frames together is as good.
    """
    is_dict = isinstance(model.observation_space, gym.spaces.Dict)
    if is_dict and observation_kind(model.observation_space) == "vector":
        return 1
    env: Any = model.get_env()
    while env is not None:
        if isinstance(env, VecFrameStack):
            return int(env.stacked_obs.n_stack)
        env = getattr(env, "venv", None)
    space = model.observation_space
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 2:
        return int(space.shape[0])
    return 1


def usual_observations(
    steps: Trajectories, settings: DynamicsSettings, generator: np.random.Generator
) -> Observations:
    """The observations that statistics are of, as often as they are seen, a few thousand."""
    places = usual_steps(steps, settings)
    if len(places) > _N_USUAL:
        places = generator.choice(places, _N_USUAL, replace=False)
    return take(steps.observations, steps.indices[places])


def _held_out(trajectories: Trajectories) -> np.ndarray:
    """(n_episodes,) bool: every tenth episode, or the last of fewer than ten."""
    n = trajectories.n_episodes
    chosen: np.ndarray = np.arange(n) % 10 == 9 if n >= 10 else np.arange(n) == n - 1
    return chosen


def encoder_sha256(teacher: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of an encoder's tensors, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(teacher.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
