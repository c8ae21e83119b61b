"""The base class of every auxiliary loss, and what it sees of the agent."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from contrastive_distillation.memory import Memory, Observations

ActsBy = Literal["probabilities", "values", "other"]
"""What an agent's logits are: log-probabilities of discrete actions, or their values Q(o, a)."""


@dataclass(frozen=True, kw_only=True)
class Joining:
    """How a loss joins the agent's update, where its paper says so: settings of the callback."""

    weight: float
    """Coefficient of the loss in the plain weighted sum."""
    balance: str = "none"
    every: int = 1


class Encoder(Protocol):
    """The part of the agent that turns observations into features, gradients included."""

    @property
    def n_features(self) -> int:
        """Width of the features."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its parameters are, and where heads belong."""
        ...

    def __call__(self, observations: Observations) -> Tensor:
        """numpy observations (N, ...) or a dict of such -> features (N, n_features)."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """Its parameters, which the agent's own optimiser steps."""
        ...


class AveragedEncoder(Protocol):
    """A moving average of an encoder. It gives no gradient."""

    def __call__(self, observations: Observations) -> Tensor:
        """numpy observations (N, ...) or a dict of such -> features (N, n_features)."""
        ...

    def update(self) -> None:
        """average <- momentum * average + (1 - momentum) * encoder."""
        ...

    def copy_from(self, other: Any) -> None:
        """Be what `other` is now, and stay so until the next `update` or `copy_from`."""
        ...


class Teacher(Protocol):
    """A frozen encoder of another agent. It gives no gradient."""

    @property
    def n_features(self) -> int:
        """Width of the features."""
        ...

    def __call__(self, observations: Observations) -> Tensor:
        """numpy observations (N, ...) or a dict of such -> features (N, n_features)."""
        ...


class SourcePolicy(Protocol):
    """The whole frozen policy of a source agent. It gives no gradient, and draws nothing."""

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Its parameters, by their names in the policy."""
        ...

    @property
    def acts_by(self) -> ActsBy:
        """What its logits are."""
        ...

    def logits(self, observations: Observations) -> Tensor:
        """Logits of its discrete actions, or Q-values, (B, A), of B raw observations.

        Raises:
            ValueError: it acts by neither.
        """
        ...

    def fisher_information(self, observations: Observations) -> Mapping[str, Tensor]:
        """`mean_o E_a[ (∂ log π(a|o) / ∂w)² ]` by name, for weights that the logits depend on.

        Raises:
            ValueError: it has no logits.
        """
        ...


class Learner(Protocol):
    """What a loss sees of the agent."""

    @property
    def policy(self) -> nn.Module:
        """The whole policy, for losses on more than the encoder."""
        ...

    @property
    def encoder(self) -> Encoder:
        """f: raw observations (B, ...) to features (B, n_features), float32, with gradient."""
        ...

    @property
    def n_features(self) -> int:
        """Width of the features."""
        ...

    @property
    def device(self) -> torch.device:
        """The encoder's."""
        ...

    @property
    def gamma(self) -> float:
        """The agent's discount per step, in [0, 1]."""
        ...

    @property
    def progress(self) -> float:
        """Share of the current `learn()` that is done, in [0, 1]."""
        ...

    @property
    def acts_by(self) -> ActsBy:
        """What its logits are."""
        ...

    def logits(self, observations: Observations) -> Tensor:
        """Logits of its discrete actions, or Q-values, (B, A), float32, with gradient.

        Raises:
            ValueError: the agent acts by neither.
        """
        ...

    def logit_parameters(self) -> list[nn.Parameter]:
        """The policy's parameters that `logits` depend on."""
        ...

    def named_parameters(self) -> Mapping[str, nn.Parameter]:
        """The policy's parameters that the encoder's optimiser steps, by name."""
        ...

    def moving_average(self, momentum: float) -> AveragedEncoder:
        """A new average of the encoder, starting as its copy."""
        ...

    def prediction_errors(self, memory: Memory, rows: np.ndarray) -> np.ndarray:
        """(n,) float32 >= 0: how far the value function is off in rows (n,) of a memory.

        `|G - V(o)|` (or Q(o, a)) where the return is known, else the temporal difference
        `|r + gamma V(o') - V(o)|` where the next observation is stored, else 0.

        Raises:
            ValueError: the agent has no such value function.
        """
        ...


class AuxiliaryLoss(nn.Module):
    """A loss on the agent's encoder, computed from its memory while it learns.

    One's own loss is one class; `forward` alone must be written:

        class Inverse(AuxiliaryLoss):                     # which action led from o to o'?
            name = "inverse"

            def build(self, learner):
                n_actions = learner.policy.action_space.n
                self.head = nn.Linear(2 * learner.n_features, n_actions).to(learner.device)

            def forward(self, learner, batch):
                now, then = batch.observations, batch.next_observations
                pairs = torch.cat([learner.encoder(now), learner.encoder(then)], dim=1)
                actions = torch.as_tensor(batch.actions, device=learner.device).long().flatten()
                losses = F.cross_entropy(self.head(pairs), actions, reduction="none")
                known = torch.as_tensor(batch.has_next, device=learner.device)
                return {"inverse": (losses * known).sum() / known.sum().clamp(min=1)}

    Use it by object in Python, or as `--loss package.module:Inverse` on the command line.

    What is called when: `build` once, before the first update, with the global random state
    forked and seeded, so that heads may be made in the usual way. Then, for each auxiliary step,
    `sample` (numpy; only `generator` may be drawn from), `forward` (draws nothing, changes
    nothing but `metrics`) and, after the optimisers' step, `after_step`. All that must survive a
    checkpoint is in `state_dict()`.

    During a transfer, the command line passes the source's frozen encoder as `teacher` and its
    whole policy as `source_policy` to a constructor that has such a keyword (`takes_teacher`,
    `takes_source_policy`). A loss that changes more than the encoder declares it in
    `changed_parameters`.
    """

    name: ClassVar[str]
    """Its name in the registry, in logs and in tables."""
    published: ClassVar[Joining | None] = None
    """Weight, balance and frequency of its paper; None: there is none, or it names no numbers."""
    needs_source: ClassVar[bool] = False
    """Whether it is nothing without a source agent: its encoder, its policy or its memory."""
    takes_teacher: ClassVar[bool] = False
    """Whether the constructor has a keyword `teacher`. Set when a subclass is defined."""
    takes_source_policy: ClassVar[bool] = False
    """Whether the constructor has a keyword `source_policy`. Set when a subclass is defined."""
    agents: ClassVar[tuple[str, ...] | None] = None
    """The agents of the command line that it is for; None: all."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        parameters = inspect.signature(cls).parameters
        cls.takes_teacher = "teacher" in parameters
        cls.takes_source_policy = "source_policy" in parameters

    def __init__(self) -> None:
        super().__init__()
        self.metrics: dict[str, float] = {}
        """What the last `forward` found worth logging."""

    def build(self, learner: Learner) -> None:
        """Makes heads, on `learner.device`."""

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> Any | None:
        """What `forward` will get: by default up to `n_anchors` rows, as a `MemoryBatch`.

        `source_memory` holds what the source agent saw, while transferring. None means that the
        memory has not enough rows yet: the step is then left out.
        """
        return memory.sample(n_anchors, generator) if len(memory) else None

    def forward(self, learner: Learner, batch: Any) -> Mapping[str, Tensor]:
        """One scalar tensor, float32, for each term of the loss, by the term's name.

        Args:
            learner: the agent; `learner.encoder(observations)` gives features with gradient.
            batch: what `sample` gave: by default a `memory.MemoryBatch` of B rows, in numpy:
                observations and next observations (B, ...), actions, rewards, returns and
                `return_known` (B,), tasks, episodes, steps, and `has_next` (B,), False where the
                next observation is not stored.

        Raises:
            NotImplementedError: a subclass has not written it. A term that is not finite stops
                the training with a FloatingPointError.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a forward(learner, batch)")

    def term_weights(self, progress: float) -> Mapping[str, float]:
        """The weight of each term at `progress` in [0, 1]; a term not named weighs 1."""
        return {}

    def changed_parameters(self, learner: Learner) -> list[nn.Parameter]:
        """The agent's parameters that it may change: by default those of the encoder."""
        return list(learner.encoder.parameters())

    def head_parameters(self) -> list[nn.Parameter]:
        """Its own parameters to be learnt: by default all that want a gradient."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def n_encoded(self, n_anchors: int, *, with_source_memory: bool) -> int:
        """Observations that one auxiliary step gives the encoder to learn from: its anchors.

        The control of equal compute lets the agent learn from as many more instead.

        Args:
            n_anchors: as `sample` gets it.
            with_source_memory: whether it gets a source agent's memory, and a teacher, too.
        """
        return n_anchors

    def after_step(self, learner: Learner) -> None:
        """Called after the optimisers' step: the place to update averages."""
