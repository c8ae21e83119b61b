"""What a source agent knows of its world in its own features: fitted once, then frozen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import gymnasium as gym
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from contrastive_distillation.memory import (
    Observations,
    Trajectories,
    n_observations,
    replace_file,
    take,
)

from . import checks
from .latent_dynamics import (
    InverseDynamics,
    LatentDynamics,
    action_vectors,
    keys_in_batch,
    latent_dynamics_losses,
)

Criterion = Literal["contrast", "squared_error", "none"]
"""The loss that fits g; "none" leaves it as it was drawn."""

Behaviour = Literal["random", "all"]
"""Of which steps statistics are: those with random actions, or all."""

VERSION = 1
_METADATA = "source_dynamics"
_UNREADABLE = "cannot be read as a source's latent dynamics"
_NOT_FINITE = (
    "the loss of the source's latent dynamics is not finite: its encoder gives NaN or infinite "
    "features for some observation in its memory"
)
_ALIKE = 1e-12  # of features' squared length: below it, they differ by rounding
_ENCODED_AT_ONCE = 2048
_RATE = 3e-3  # the highest, after a third of the updates
_SMALLEST_ERROR = 1e-3


@dataclass(frozen=True, kw_only=True)
class DynamicsSettings:
    """How latent dynamics are fitted; the defaults are for grids."""

    n_steps: int = 3
    """k, steps of a window."""
    changing: bool = True
    """Whether only steps that change the observation begin a window."""
    hidden: int = 128
    residual: bool = False
    n_updates: int = 700
    batch_size: int = 128
    temperature: float = 0.1
    by_distance: bool = False
    """Whether `L_dyn` compares by distance, in units of g's own error, in place of cosine."""

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: a setting is out of its range.
        """
        checks.integers(1, n_steps=self.n_steps, hidden=self.hidden)
        checks.integers(0, n_updates=self.n_updates)
        checks.integers(2, batch_size=self.batch_size)
        checks.boolean("changing", self.changing)
        checks.boolean("residual", self.residual)
        checks.boolean("by_distance", self.by_distance)
        checks.temperature(self.temperature)


class SourceDynamics(nn.Module):
    """A source's frozen latent dynamics g, inverse dynamics, and statistics of its features.

    `fit_source_dynamics` makes one.
    """

    mean: Tensor
    """(D,): μ, mean of the source's features over all its steps."""
    errors: Tensor
    """(k, D): root mean square of what g misses after i steps; only with `by_distance`."""
    random_mean: Tensor
    """(D,): μ_s, their mean where windows of random actions begin."""
    covariance: Tensor
    """(D, D): Σ_T, their covariance there."""

    def __init__(
        self, n_features: int, action_space: gym.Space[Any], settings: DynamicsSettings
    ) -> None:
        super().__init__()
        self.settings = settings
        self.action_space = action_space
        self.register_buffer("mean", torch.zeros(n_features))
        self.dynamics = self.fresh_dynamics()
        self.inverse = InverseDynamics(n_features, action_space, hidden=settings.hidden)
        if settings.by_distance:
            self.register_buffer("errors", torch.ones(settings.n_steps, n_features))
        self.register_buffer("random_mean", torch.zeros(n_features))
        self.register_buffer("covariance", torch.eye(n_features))
        self.behaviour: Behaviour = "all"
        """Of which steps μ_s and Σ_T are."""
        self.criterion: Criterion = "none"
        self.encoder_sha256 = ""
        """Of the encoder that it belongs to."""

    def fresh_dynamics(self) -> LatentDynamics:
        """Dynamics of the same shape, as they are drawn at random."""
        return LatentDynamics(
            len(self.mean),
            gym.spaces.flatdim(self.action_space),
            hidden=self.settings.hidden,
            residual=self.settings.residual,
        )

    def widths(self, sharpness: float = 1.0) -> Tensor | None:
        """Of the kernel of `latent_dynamics_losses`, (k, D): from 1 to `errors`; None: cosine.

        Args:
            sharpness: 0, as wide as whitened data; 1, as narrow as g is exact.
        """
        if not self.settings.by_distance:
            return None
        return self.errors.clamp(_SMALLEST_ERROR, 1.0).pow(sharpness)

    def save(self, path: Path) -> None:
        """Write it to a safetensors file, whole or not at all."""
        metadata = {
            "version": VERSION,
            "n_features": len(self.mean),
            "action_space": str(self.action_space),
            "settings": asdict(self.settings),
            "behaviour": self.behaviour,
            "criterion": self.criterion,
            "encoder_sha256": self.encoder_sha256,
        }
        texts = {_METADATA: json.dumps(metadata)}
        replace_file(path, lambda part: save_file(dict(self.state_dict()), part, texts))

    @classmethod
    def load(cls, path: Path, *, action_space: gym.Space[Any]) -> Self:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is broken, of another version, or of another action space.
        """
        try:
            with safe_open(path, framework="pt") as file:
                texts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if _METADATA not in texts:
                raise ValueError("it is another safetensors file")
            found = cls._of(json.loads(texts[_METADATA]), tensors, action_space)
        except KeyError as error:
            raise ValueError(f"{path}: {_UNREADABLE}: it lacks {error}") from error
        except (OSError, SafetensorError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"{path}: {_UNREADABLE}: {reason}") from error
        return found.requires_grad_(False)

    @classmethod
    def _of(
        cls, metadata: dict[str, Any], tensors: dict[str, Tensor], action_space: gym.Space[Any]
    ) -> Self:
        """Those of a file's metadata and tensors; KeyError where the metadata lacks an entry."""
        if metadata["version"] != VERSION:
            raise ValueError(f"it is of version {metadata['version']}, expected {VERSION}")
        if metadata["action_space"] != str(action_space):
            raise ValueError(
                f"it is of the action space {metadata['action_space']}, not {action_space}"
            )
        behaviour, criterion = metadata["behaviour"], metadata["criterion"]
        checks.one_of(get_args(Behaviour), "behaviour", behaviour)
        checks.one_of(get_args(Criterion), "criterion", criterion)
        (n_features,) = checks.integers(1, n_features=metadata["n_features"])
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise ValueError("some of its numbers are not finite")
        found = cls(n_features, action_space, DynamicsSettings(**metadata["settings"]))
        found.load_state_dict(tensors)
        found.behaviour, found.criterion = behaviour, criterion
        found.encoder_sha256 = str(metadata["encoder_sha256"])
        return found


@torch.no_grad()
def encode_all(encoder: Callable[[Observations], Tensor], observations: Observations) -> Tensor:
    """Features (N, D) of N observations, a few thousand at once, without gradient."""
    n = n_observations(observations)
    parts = [
        encoder(take(observations, slice(i, i + _ENCODED_AT_ONCE)))
        for i in range(0, n, _ENCODED_AT_ONCE)
    ]
    return torch.cat(parts).float()


def fit_source_dynamics(
    encoder: Callable[[Observations], Tensor],
    trajectories: Trajectories,
    *,
    action_space: gym.Space[Any],
    settings: DynamicsSettings,
    generator: np.random.Generator,
    criterion: Criterion = "contrast",
    shuffled_actions: bool = False,
) -> SourceDynamics:
    """Fit g, the inverse dynamics and the statistics of a frozen encoder.

    Half of each batch are windows of random actions and half the others, where both exist.

    Args:
        encoder: T, of the source: observations (N, ...) to features (N, D).
        trajectories: the source's steps.
        action_space: of the actions.
        settings: of the fit.
        generator: the only source of random numbers.
        criterion: the loss that fits g.
        shuffled_actions: fit g with the actions permuted over all steps: a control.

    Raises:
        ValueError: fewer than two windows of `settings.n_steps` steps lie within one episode, all
            features are alike or one is not finite, or the actions are of another space.
    """
    starts = trajectories.windows(settings.n_steps, changing=settings.changing)
    if len(starts) < 2:
        raise ValueError(
            f"the source's memory has {len(starts)} windows of {settings.n_steps} consecutive "
            "steps within one episode; latent dynamics need many: use an EpisodicMemory that "
            "was written while the source played, or gather_memory(source, env)"
        )
    features = encode_all(encoder, trajectories.observations)
    with torch.random.fork_rng(devices=[features.device] if features.is_cuda else []):
        torch.manual_seed(int(generator.integers(2**31)))
        found = SourceDynamics(features.shape[1], action_space, settings).to(features.device)
    usual = usual_steps(trajectories, settings)
    found.behaviour = "random" if trajectories.random[usual].all() else "all"
    seen = features[torch.as_tensor(trajectories.indices[usual], device=features.device)]
    found.mean.copy_(_mean_of_steps(features, trajectories.indices))
    found.random_mean.copy_(seen.mean(dim=0))
    found.covariance.copy_(seen.T.cov())
    if not torch.isfinite(found.covariance).all():
        raise ValueError(_NOT_FINITE)
    if found.covariance.trace() <= _ALIKE * seen.square().sum(dim=1).mean():
        raise ValueError(
            "the source's encoder gives the same features for all observations in its memory; "
            "latent dynamics need a trained encoder that tells them apart"
        )
    found.criterion = criterion
    actions = action_vectors(action_space, trajectories.actions)
    if shuffled_actions:
        actions = actions[generator.permutation(len(actions))]
    _fit(found, features - found.mean, trajectories, torch.as_tensor(actions), starts, generator)
    return found.requires_grad_(False)


def usual_steps(trajectories: Trajectories, settings: DynamicsSettings) -> np.ndarray:
    """The steps whose observations statistics are of, (n,) int64.

    Those that begin a window where only changing steps do, else all; of them those with random
    actions, where there are two or more.
    """
    steps = np.arange(len(trajectories))
    if settings.changing:
        steps = trajectories.windows(settings.n_steps)
    is_random = trajectories.random[steps]
    return steps[is_random] if is_random.sum() > 1 else steps


def _mean_of_steps(features: Tensor, indices: np.ndarray) -> Tensor:
    counts = torch.bincount(torch.as_tensor(indices), minlength=len(features))
    return counts.to(features) @ features / len(indices)


@torch.enable_grad()
def _fit(
    found: SourceDynamics,
    features: Tensor,
    trajectories: Trajectories,
    actions: Tensor,
    starts: np.ndarray,
    generator: np.random.Generator,
) -> None:
    """Fit g and the inverse dynamics together: they share no parameter."""
    settings = found.settings
    parameters = [*found.dynamics.parameters(), *found.inverse.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=_RATE, fused=features.device.type == "cpu")
    actions = actions.to(features.device)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=settings.n_updates + 2)
    for rows in _batches(starts, trajectories.random[starts], settings, generator):
        steps = rows[:, None] + np.arange(settings.n_steps + 1)
        numbers, inverse = np.unique(trajectories.indices[steps], return_inverse=True)
        keys = features[torch.as_tensor(numbers, device=features.device)]
        seen = torch.as_tensor(inverse.reshape(steps.shape), device=features.device)
        acted = actions[torch.as_tensor(steps[:, :-1], device=features.device)]
        visited = keys[seen]
        loss = found.inverse.loss(visited[:, 0], visited[:, 1], acted[:, 0]).mean()
        if found.criterion != "none":
            n = 1 if settings.by_distance else settings.n_steps
            predicted = found.dynamics.predict(visited[:, 0], acted[:, :n])
            later = seen[:, 1:].T
            if settings.by_distance:  # one step; steps of the data are equally long
                loss = loss + (predicted[0] - keys[later[0]]).square().mean()
            elif found.criterion == "contrast":
                usable = keys_in_batch(keys, later)
                losses = latent_dynamics_losses(
                    predicted,
                    usable.keys,
                    usable.positives,
                    usable.log_weights,
                    temperature=settings.temperature,
                )
                loss = loss + losses.mean()
            else:
                loss = loss + (predicted - keys[later]).square().mean()
        if not torch.isfinite(loss):
            raise ValueError(_NOT_FINITE)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        rate.step()
    if settings.by_distance:
        random = starts[trajectories.random[starts]]
        rows = generator.choice(random if len(random) else starts, _ENCODED_AT_ONCE)
        steps = rows[:, None] + np.arange(settings.n_steps + 1)
        visited = features[torch.as_tensor(trajectories.indices[steps])]
        with torch.no_grad():
            predicted = found.dynamics.predict(
                visited[:, 0], actions[torch.as_tensor(steps[:, :-1])]
            )
        missed = predicted - visited[:, 1:].transpose(0, 1)
        found.errors.copy_(missed.square().mean(dim=1).sqrt())


def _batches(
    starts: np.ndarray,
    is_random: np.ndarray,
    settings: DynamicsSettings,
    generator: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Windows (B,) of each update, drawn with replacement, half of them with random actions."""
    parts = [part for part in (starts[is_random], starts[~is_random]) if len(part)]
    for _ in range(settings.n_updates):
        sizes = [settings.batch_size // len(parts)] * len(parts)
        yield np.concatenate(
            [generator.choice(part, size) for part, size in zip(parts, sizes, strict=True)]
        )
