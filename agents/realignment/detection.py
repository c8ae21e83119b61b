"""Do the target's sensors differ from the source's? The test on the source's latent dynamics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from contrastive_distillation.losses import (
    SourceDynamics,
    action_vectors,
    latent_dynamics_losses,
)
from contrastive_distillation.memory import Trajectories

MARGIN = 0.1
"""Nats by which `L_dyn` must surely be higher in the target than in the source."""

FORGOTTEN = 0.85
"""Share of the rise in `L_dyn` that a realigned encoder shows on the source's own observations
where it is sensors that differ; below, the old sensors are still read and rooms or dynamics differ.
"""

_SHARPNESS = 0.5
_MOST_WINDOWS = 512
_MOST_KEYS = 256
_N_RESAMPLES = 1_000


@dataclass(frozen=True)
class Detection:
    """What the test found."""

    loss_source: float
    """`L_dyn` on the source's held-out episodes."""
    loss_target: float
    """`L_dyn` in the target, with as many keys."""
    low: float
    """Lower end of the 95 % interval of their difference."""
    high: float
    n_keys: int
    """Distinct observations that were keys on either side."""

    @property
    def differs(self) -> bool:
        """Whether the sensors differ: the difference is surely above `MARGIN`."""
        return self.low > MARGIN


def reads_other_sensors(before: Detection, back: Detection) -> bool:
    """Whether a realigned encoder reads other sensors than the source's, or another room.

    An encoder that was moved to read other sensors no longer reads the source's: its `L_dyn` on the
    source's own observations is as high as that of the source's encoder on the target's was. One
    that learnt another room through the same sensors still reads the source's observations.

    Args:
        before: the source's encoder in the target.
        back: the realigned encoder, as `loss_target`, on the source's own held-out steps.
    """
    forgotten = back.loss_target - back.loss_source
    return forgotten >= FORGOTTEN * (before.loss_target - before.loss_source)


def detect(
    source_features: Tensor,
    source_steps: Trajectories,
    target_features: Tensor,
    target_steps: Trajectories,
    dynamics: SourceDynamics,
    *,
    generator: np.random.Generator,
) -> Detection:
    """Compare `L_dyn` of the source's dynamics on both sides, with equally many distinct keys.

    The interval is a bootstrap over episodes. Both sides are cut to the length of the target's
    longest piece of an episode, since later steps see other observations.

    Args:
        source_features: (M_s, D) of the source's distinct observations, by the source's encoder.
        source_steps: held-out episodes of the source.
        target_features: (M_t, D) of the target's, by the student's encoder.
        target_steps: steps in the target.
        dynamics: of the source.
        generator: the only source of random numbers.

    Raises:
        ValueError: either side has no window.
        FloatingPointError: a feature is not finite.
    """
    settings = dynamics.settings
    longest = int(np.bincount(target_steps.episodes).max(initial=0))
    sides = [(source_features, _beginning(source_steps, longest)), (target_features, target_steps)]
    starts = [steps.windows(settings.n_steps, changing=settings.changing) for _, steps in sides]
    for name, found in zip(("source", "target"), starts, strict=True):
        if not len(found):
            raise ValueError(
                f"the {name}'s steps hold no window of {settings.n_steps} steps within one "
                "episode in which the first changes the observation; gather more frames"
            )
    pools = [
        np.unique(steps.indices[found[:, None] + np.arange(1, settings.n_steps + 1)])
        for (_, steps), found in zip(sides, starts, strict=True)
    ]
    n_keys = min(_MOST_KEYS, *(len(pool) for pool in pools))
    means, resampled = [], []
    named = zip(("source", "target"), sides, starts, pools, strict=True)
    for name, (features, steps), found, pool in named:
        chosen = generator.permutation(found)[:_MOST_WINDOWS]
        keys = generator.choice(pool, n_keys, replace=False)
        losses = _losses(features, steps, chosen, keys, dynamics)
        if not np.isfinite(losses).all():
            raise FloatingPointError(
                f"L_dyn is not finite for the {name}'s observations: the encoder gives NaN or "
                "infinite features for some of them; nothing of the model was changed. Check the "
                "observations"
            )
        means.append(float(losses.mean()))
        resampled.append(_bootstrap(losses, steps.episodes[chosen], generator))
    low, high = np.quantile(resampled[1] - resampled[0], (0.025, 0.975))
    return Detection(means[0], means[1], float(low), float(high), n_keys)


def _beginning(steps: Trajectories, longest: int) -> Trajectories:
    """The first `longest` steps of each episode."""
    lengths = np.bincount(steps.episodes)
    begins = np.cumsum(lengths) - lengths
    return steps.of_steps(np.arange(len(steps)) - begins[steps.episodes] < longest)


@torch.no_grad()
def _losses(
    features: Tensor,
    steps: Trajectories,
    starts: np.ndarray,
    keys: np.ndarray,
    dynamics: SourceDynamics,
) -> np.ndarray:
    """`L_dyn` (W,) of each window, with `keys` as its negatives."""
    centred = features - dynamics.mean
    actions = action_vectors(dynamics.action_space, steps.actions)
    rows = starts[:, None] + np.arange(dynamics.settings.n_steps + 1)
    seen = steps.indices[rows]
    visited = centred[torch.as_tensor(seen)]
    acted = torch.as_tensor(actions[rows[:, :-1]], device=features.device)
    predicted = dynamics.dynamics.predict(visited[:, 0], acted)
    numbers, inverse = np.unique(np.concatenate([keys, seen.ravel()]), return_inverse=True)
    later = torch.as_tensor(inverse[len(keys) :].reshape(seen.shape)[:, 1:].T).to(features.device)
    weights = torch.full((len(numbers),), -torch.inf, device=features.device)
    weights[torch.as_tensor(inverse[: len(keys)], device=features.device)] = 0.0
    losses = latent_dynamics_losses(
        predicted,
        centred[torch.as_tensor(numbers)][None],
        later,
        weights.expand(*later.shape, -1).scatter(-1, later[..., None], 0.0),
        temperature=dynamics.settings.temperature,
        widths=dynamics.widths(_SHARPNESS),
    )
    means: np.ndarray = losses.mean(dim=0).numpy(force=True)
    return means


def _bootstrap(
    losses: np.ndarray, episodes: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """(n,) means of losses over episodes drawn with replacement."""
    _, places = np.unique(episodes, return_inverse=True)
    sums, counts = np.bincount(places, losses), np.bincount(places)
    drawn = generator.integers(len(sums), size=(_N_RESAMPLES, len(sums)))
    means: np.ndarray = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means
