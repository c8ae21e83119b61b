"""Contrast through the source's latent dynamics, while the agent learns in other sensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from contrastive_distillation.memory import Memory, Observations, Trajectories

from . import checks
from .auxiliary import Learner, Teacher
from .baselines.source_agent import TeacherLoss, required_memory
from .latent_dynamics import action_vectors
from .realignment import OBJECTIVES, WindowBatch, realignment_terms, weighted_sum
from .source_dynamics import DynamicsSettings, SourceDynamics, fit_source_dynamics

_OBJECTIVE = OBJECTIVES["contrast_statistics"]


@dataclass(frozen=True)
class Windows:
    """B windows of k steps of the agent's memory, over their m distinct observations."""

    observations: Observations
    """(m, ...)"""
    seen: np.ndarray
    """(B, k + 1) int64: the observation at each step, a number in [0, m)."""
    actions: np.ndarray
    """(B, k, A) float32, of `action_vectors`."""


class LatentDynamicsLoss(TeacherLoss):
    """`L = L_dyn(f; g) + λ L_stat(f)`, for a target whose observations changed, not its dynamics.

    * `L_dyn = 1/k Σ_i InfoNCE( ẑ_i ; f(o_{t+i}) - μ )`, `ẑ_0 = f(o_t) - μ`,
      `ẑ_i = g(ẑ_{i-1}, a_{t+i-1})`: the positives of the batch's other rows are the negatives, but
      those that show the row's own positive. Both sides are the agent's present features, with
      gradient.
    * `L_stat = |mean f - μ_s|² / tr Σ_T + |cov f - Σ_T|² / |Σ_T|²`, over the anchors.

    g, μ, μ_s and Σ_T are of the source's encoder T. They are fitted to the source's memory at the
    first `sample`, and frozen. Neither T nor the source's memory is used afterwards, so the
    source's observations may be of another space than the agent's; the features must have one
    width, the actions one space. `agents.realign` minimises the same before the agent learns.

    The windows are drawn uniformly from the agent's memory, with replacement, `n_anchors` of them;
    none crosses an episode's end, and each begins with a step that changes the observation.
    Compare Sun et al. 2022, https://arxiv.org/abs/2201.00248, who predict without contrast.

    Metrics: `contrast` and `statistics`, the two terms without λ.
    """

    name: ClassVar[str] = "latent_dynamics"
    source_may_differ: ClassVar[bool] = True

    def __init__(
        self,
        *,
        teacher: Teacher | None = None,
        dynamics: SourceDynamics | None = None,
        statistics_weight: float = 3.0,
        n_steps: int = 3,
        residual: bool = False,
        temperature: float = 0.1,
        n_fit_updates: int = 700,
    ) -> None:
        """
        Args:
            teacher: T, the frozen source encoder.
            dynamics: what `fit_source_dynamics` gave, in place of a teacher and a source's
                memory; its settings then count, not those below.
            statistics_weight: λ, of the statistics; >= 0.
            n_steps: k, steps of a window; >= 1. For vectors 5 is better.
            residual: whether g gives the change of the features. For vectors true is better.
            temperature: cosines are divided by it; > 0.
            n_fit_updates: of the fit to the source's memory; >= 0.

        Raises:
            ValueError: one is outside its range.
        """
        super().__init__(teacher)
        (self.statistics_weight,) = checks.numbers(0, statistics_weight=statistics_weight)
        (self.n_steps,) = checks.integers(1, n_steps=n_steps)
        (self.n_fit_updates,) = checks.integers(0, n_fit_updates=n_fit_updates)
        self.residual = checks.boolean("residual", residual)
        self.temperature = checks.temperature(temperature)
        if dynamics is not None and not isinstance(dynamics, SourceDynamics):
            raise ValueError(
                f"dynamics is a {type(dynamics).__name__}; expected SourceDynamics, see "
                "losses.fit_source_dynamics"
            )
        self.dynamics = dynamics
        self.is_given = dynamics is not None
        self.register_buffer("is_fitted", torch.tensor(self.is_given))

    def build(self, learner: Learner) -> None:
        """
        Raises:
            ValueError: there are neither teacher nor dynamics, or they have another width of
                features or other actions than the agent.
        """
        space = learner.policy.action_space
        assert isinstance(space, gym.Space)
        given = self.dynamics if self.is_given else None
        n_features = len(given.mean) if given is not None else self.required_teacher().n_features
        if n_features != learner.n_features:
            raise ValueError(
                f"{self.name} needs features of one width: the source's encoder gives "
                f"{n_features}, the agent's {learner.n_features}; use the same architecture"
            )
        if given is not None and given.action_space != space:
            raise ValueError(
                f"the source's dynamics are of the actions {given.action_space}, the agent's "
                f"actions are {space}; take a source with the same actions"
            )
        if given is None:
            self.dynamics = SourceDynamics(n_features, space, self._settings()).requires_grad_(
                False
            )
        self.is_fitted = torch.tensor(self.is_given)
        self.to(learner.device)

    def _settings(self) -> DynamicsSettings:
        return DynamicsSettings(
            n_steps=self.n_steps,
            residual=self.residual,
            n_updates=self.n_fit_updates,
            temperature=self.temperature,
        )

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> Windows | None:
        """`n_anchors` windows, at least 2; None while the memory holds fewer than two.

        Raises:
            ValueError: at the first call, the source's memory is missing, or it or the teacher
                does not suit, see `fit_source_dynamics`.
        """
        if not self.is_fitted:
            self._fit(required_memory(source_memory, self.name), generator)
        assert self.dynamics is not None
        k = self.dynamics.settings.n_steps
        starts = _window_starts(memory, k, changing=self.dynamics.settings.changing)
        if len(starts) < 2:
            return None
        chosen = generator.choice(starts, max(n_anchors, 2))
        offsets = np.tile(np.arange(k + 1), len(chosen))
        paths, _ = memory.later_rows(np.repeat(chosen, k + 1), offsets)
        acted = paths.reshape(-1, k + 1)[:, :-1]
        actions = action_vectors(self.dynamics.action_space, memory.actions(acted.ravel()))
        _, first, inverse = np.unique(memory.hashes(paths), return_index=True, return_inverse=True)
        return Windows(
            observations=memory.observations(paths[first]),
            seen=inverse.reshape(-1, k + 1).astype(np.int64),
            actions=actions.reshape(*acted.shape, -1),
        )

    def _fit(self, source_memory: Memory, generator: np.random.Generator) -> None:
        assert self.dynamics is not None
        found = fit_source_dynamics(
            self.required_teacher(),
            Trajectories.from_memory(source_memory),
            action_space=self.dynamics.action_space,
            settings=self.dynamics.settings,
            generator=generator,
        )
        self.dynamics.load_state_dict(found.state_dict())
        self.dynamics.behaviour, self.dynamics.criterion = found.behaviour, found.criterion
        self.is_fitted.fill_(True)

    def forward(self, learner: Learner, batch: Windows) -> Mapping[str, Tensor]:
        assert self.dynamics is not None
        features = learner.encoder(batch.observations)
        seen = torch.as_tensor(batch.seen, device=features.device)
        actions = torch.as_tensor(batch.actions, device=features.device)
        windows = WindowBatch(seen=seen, actions=actions, usual=seen[:, 0])
        terms = realignment_terms(_OBJECTIVE, features[None], windows, self.dynamics)
        self.metrics = {name: float(value.detach()) for name, value in terms.items()}
        return {self.name: weighted_sum(_OBJECTIVE, terms, self.statistics_weight)[0]}

    def n_encoded(self, n_anchors: int, *, with_source_memory: bool) -> int:
        """The windows' observations, if all are distinct."""
        settings: Any = self if self.dynamics is None else self.dynamics.settings
        return int(n_anchors * (settings.n_steps + 1))


def _window_starts(memory: Memory, n_steps: int, *, changing: bool) -> np.ndarray:
    """(W,) the rows of a memory with which windows begin, see `Trajectories.windows`."""
    rows: np.ndarray = memory.rows()
    if not len(rows):
        return rows
    rows = rows[memory.later_rows(rows, np.full(len(rows), n_steps))[1]]
    if changing and len(rows):
        following, _ = memory.later_rows(rows, np.ones(len(rows), dtype=np.int64))
        rows = rows[memory.hashes(rows) != memory.hashes(following)]
    return rows
