"""What a source agent knows of its world in its own features: fitted once, then frozen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import gymnasium as gym
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from contrastive_distillation.memory import Observations, Trajectories, n_observations, take

from .latent_dynamics import (
    InverseDynamics,
    LatentDynamics,
    action_vectors,
    keys_in_batch,
    latent_dynamics_losses,
)

Criterion = Literal["contrast", "squared_error", "none"]
"""The loss that fits g; "none" leaves it as it was drawn."""

VERSION = 1
_ENCODED_AT_ONCE = 2048
_RATE = 1e-3


@dataclass(frozen=True, kw_only=True)
class DynamicsSettings:
    """How latent dynamics are fitted; the defaults are for grids."""

    n_steps: int = 3
    """k, steps of a window."""
    changing: bool = True
    """Whether only steps that change the observation begin a window."""
    hidden: int = 128
    residual: bool = False
    n_updates: int = 1_000
    batch_size: int = 256
    temperature: float = 0.1


class SourceDynamics(nn.Module):
    """A source's frozen latent dynamics g, inverse dynamics, and statistics of its features.

    `fit_source_dynamics` makes one.
    """

    mean: Tensor
    """(D,): μ, mean of the source's features over all its steps."""
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
        self.register_buffer("random_mean", torch.zeros(n_features))
        self.register_buffer("covariance", torch.eye(n_features))
        self.behaviour: Literal["random", "all"] = "all"
        """Of which steps μ_s and Σ_T are: those with random actions, or all."""
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

    def save(self, path: Path) -> None:
        """Write it to a safetensors file."""
        metadata = {
            "version": VERSION,
            "n_features": len(self.mean),
            "settings": asdict(self.settings),
            "behaviour": self.behaviour,
            "criterion": self.criterion,
            "encoder_sha256": self.encoder_sha256,
        }
        save_file(dict(self.state_dict()), path, {"source_dynamics": json.dumps(metadata)})

    @classmethod
    def load(cls, path: Path, *, action_space: gym.Space[Any]) -> Self:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is broken, of another version, or of another action space.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads((file.metadata() or {})["source_dynamics"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if metadata["version"] != VERSION:
                raise ValueError(f"it is of version {metadata['version']}, expected {VERSION}")
            settings = DynamicsSettings(**metadata["settings"])
            found = cls(int(metadata["n_features"]), action_space, settings)
            found.load_state_dict(tensors)
            found.behaviour, found.criterion = metadata["behaviour"], metadata["criterion"]
            found.encoder_sha256 = str(metadata["encoder_sha256"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{path}: cannot be read as a source's latent dynamics: "
                f"{str(error).splitlines()[0][:160]}"
            ) from error
        return found.requires_grad_(False)


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
        ValueError: no window of `settings.n_steps` steps lies within one episode, or a loss is
            not finite.
    """
    features = encode_all(encoder, trajectories.observations)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator.integers(2**31)))
        found = SourceDynamics(features.shape[1], action_space, settings).to(features.device)
    starts = trajectories.windows(settings.n_steps, changing=settings.changing)
    if len(starts) < 2:
        raise ValueError(
            f"the source's memory has {len(starts)} windows of {settings.n_steps} consecutive "
            "steps within one episode; latent dynamics need many: use an EpisodicMemory that "
            "was written while the source played, or gather_memory(source, env)"
        )
    usual = usual_steps(trajectories, settings)
    found.behaviour = "random" if trajectories.random[usual].all() else "all"
    seen = features[torch.as_tensor(trajectories.indices[usual], device=features.device)]
    found.mean.copy_(_mean_of_steps(features, trajectories.indices))
    found.random_mean.copy_(seen.mean(dim=0))
    found.covariance.copy_(seen.T.cov())
    found.criterion = criterion
    actions = action_vectors(action_space, trajectories.actions)
    if shuffled_actions:
        actions = actions[generator.permutation(len(actions))]
    _fit(found, features - found.mean, trajectories, torch.as_tensor(actions), starts, generator)
    return found.requires_grad_(False)


def usual_steps(trajectories: Trajectories, settings: DynamicsSettings) -> np.ndarray:
    """The steps whose observations statistics are of, (n,) int64.

    Those that begin a window where only changing steps do, else all; of them those with random
    actions, where there are any.
    """
    steps = np.arange(len(trajectories))
    if settings.changing:
        steps = trajectories.windows(settings.n_steps)
    is_random = trajectories.random[steps]
    return steps[is_random] if is_random.any() else steps


def _mean_of_steps(features: Tensor, indices: np.ndarray) -> Tensor:
    counts = torch.bincount(torch.as_tensor(indices), minlength=len(features))
    return counts.to(features) @ features / len(indices)


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
    for rows in _batches(starts, trajectories.random[starts], settings, generator):
        steps = rows[:, None] + np.arange(settings.n_steps + 1)
        numbers, inverse = np.unique(trajectories.indices[steps], return_inverse=True)
        keys = features[torch.as_tensor(numbers, device=features.device)]
        seen = torch.as_tensor(inverse.reshape(steps.shape), device=features.device)
        acted = actions[torch.as_tensor(steps[:, :-1], device=features.device)]
        visited = keys[seen]
        n = 1 if settings.changing else settings.n_steps
        inverse_losses = [
            found.inverse.loss(visited[:, i], visited[:, i + 1], acted[:, i]) for i in range(n)
        ]
        loss = torch.stack(inverse_losses).mean()
        if found.criterion != "none":
            predicted = found.dynamics.predict(visited[:, 0], acted)
            later = seen[:, 1:].T
            if found.criterion == "contrast":
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
            raise ValueError(
                "the loss of the source's latent dynamics is not finite: its encoder gives NaN or "
                "infinite features for some observation in its memory"
            )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()


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
