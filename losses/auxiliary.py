"""The base class of auxiliary losses, and its interface to the agent."""

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
"""The meaning of an agent's logits: log-probabilities or values Q(o, a) of discrete actions."""


@dataclass(frozen=True, kw_only=True)
class Joining:
    """Settings of the callback that a loss's paper gives."""

    weight: float
    """Coefficient of the loss in the plain weighted sum."""
    balance: str = "none"
    every: int = 1


class Encoder(Protocol):
    """The part of the agent that turns observations into features, gradients included."""

    @property
    def n_features(self) -> int:
        """Width of the features."""

    @property
    def device(self) -> torch.device:
        """Where its parameters are, and where heads belong."""

    def __call__(self, observations: Observations) -> Tensor:
        """numpy observations (N, ...) or a dict of such -> features (N, n_features)."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """Its parameters, which the agent's own optimiser steps."""


class AveragedEncoder(Protocol):
    """A moving average of an encoder. It gives no gradient."""

    def __call__(self, observations: Observations) -> Tensor:
        """numpy observations (N, ...) or a dict of such -> features (N, n_features)."""

    def update(self) -> None:
        """average <- momentum * average + (1 - momentum) * encoder."""

    def copy_from(self, other: Any) -> None:
        """Copy the current state of `other`; the next `update` or `copy_from` changes it."""


class Teacher(Protocol):
    """A frozen encoder of another agent. It gives no gradient."""

    @property
    def n_features(self) -> int:
        """Width of the features."""

    def __call__(self, observations: Observations) -> Tensor:
        """numpy observations (N, ...) or a dict of such -> features (N, n_features)."""


class SourcePolicy(Protocol):
    """The whole frozen policy of a source agent. It gives no gradient and uses no randomness."""

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Its parameters, by their names in the policy."""

    @property
    def acts_by(self) -> ActsBy:
        """The meaning of its logits."""

    def logits(self, observations: Observations) -> Tensor:
        """Logits of its discrete actions, or Q-values, (B, A), of B raw observations.

        Raises:
            ValueError: the policy has neither.
        """

    def fisher_information(self, observations: Observations) -> Mapping[str, Tensor]:
        """`mean_o E_a[ (∂ log π(a|o) / ∂w)² ]` by name, for weights that the logits depend on.

        Raises:
            ValueError: it has no logits.
        """


class Learner(Protocol):
    """The agent, as a loss sees it."""

    @property
    def policy(self) -> nn.Module:
        """The whole policy, for losses on more than the encoder."""

    @property
    def encoder(self) -> Encoder:
        """f: raw observations (B, ...) to features (B, n_features), float32, with gradient."""

    @property
    def n_features(self) -> int:
        """Width of the features."""

    @property
    def device(self) -> torch.device:
        """The device of the encoder."""

    @property
    def gamma(self) -> float:
        """The agent's discount per step, in [0, 1]."""

    @property
    def progress(self) -> float:
        """The completed share of the current `learn()`, in [0, 1]."""

    @property
    def acts_by(self) -> ActsBy:
        """The meaning of its logits."""

    def logits(self, observations: Observations) -> Tensor:
        """Logits of its discrete actions, or Q-values, (B, A), float32, with gradient.

        Raises:
            ValueError: the agent has neither.
        """

    def logit_parameters(self) -> list[nn.Parameter]:
        """The policy's parameters that `logits` depend on."""

    def named_parameters(self) -> Mapping[str, nn.Parameter]:
        """The policy's parameters that the encoder's optimiser steps, by name."""

    def moving_average(self, momentum: float) -> AveragedEncoder:
        """A new moving average of the encoder, which starts as a copy of it."""

    def prediction_errors(self, memory: Memory, rows: np.ndarray) -> np.ndarray:
        """(n,) float32 >= 0: the errors of the value function in rows (n,) of a memory.

        `|G - V(o)|` (or Q(o, a)) where the return is known, else the temporal difference
        `|r + gamma V(o') - V(o)|` where the next observation is stored, else 0.

        Raises:
            ValueError: the agent has no value function of this kind.
        """


class AuxiliaryLoss(nn.Module):
    """A loss on the agent's encoder, computed from its memory while it learns.

    To write a new loss, subclass this class and implement `forward`:

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

    Pass an instance in Python, or use `--loss package.module:Inverse` on the command line.

    `build` is called once, before the first update, with the global random state forked and
    seeded, so heads can be created as usual. Each auxiliary step then calls `sample` (in numpy,
    with `generator` as the only source of randomness), `forward` (without randomness; it may
    change `metrics` alone) and, after the optimisers' step, `after_step`. State that must survive
    a checkpoint belongs in `state_dict()`.

    During a transfer, the command line passes the source's frozen encoder as `teacher` and its
    whole policy as `source_policy` to a constructor that has such a keyword (`takes_teacher`,
    `takes_source_policy`). A loss that changes more than the encoder declares it in
    `changed_parameters`.
    """

    name: ClassVar[str]
    """Name in the registry, in logs and in tables."""
    published: ClassVar[Joining | None] = None
    """Weight, balance and frequency in its paper; None if no paper gives them."""
    needs_source: ClassVar[bool] = False
    """Whether the loss requires a source agent: its encoder, its policy or its memory."""
    source_may_differ: ClassVar[bool] = False
    """Whether the source may have other observations than the agent: the loss shows the teacher
    nothing but the source's memory."""
    takes_teacher: ClassVar[bool] = False
    """Whether the constructor has a keyword `teacher`. Set when a subclass is defined."""
    takes_source_policy: ClassVar[bool] = False
    """Whether the constructor has a keyword `source_policy`. Set when a subclass is defined."""
    agents: ClassVar[tuple[str, ...] | None] = None
    """Agents of the command line that the loss supports; None: all."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        parameters = inspect.signature(cls).parameters
        for flag, name in (("takes_teacher", "teacher"), ("takes_source_policy", "source_policy")):
            if flag not in cls.__dict__:
                setattr(cls, flag, name in parameters)
        if "sample_many" in cls.__dict__:
            raise TypeError(f"{cls.__name__}: sample_many was removed; override sample instead")

    def __init__(self) -> None:
        super().__init__()
        self.metrics: dict[str, float] = {}
        """Metrics of the last `forward`, for the log."""

    def keywords(self) -> dict[str, Any]:
        """The constructor's keywords that attributes of the same names hold as plain values.

        `make_loss(name, **keywords)` makes the loss again, where it needs no source agent.
        """
        names = inspect.signature(type(self)).parameters
        values = {name: getattr(self, name, None) for name in names}
        return {n: value for n, value in values.items() if isinstance(value, int | float | str)}

    def build(self, learner: Learner) -> None:
        """Create heads, on `learner.device`, and forget what earlier trainings left.

        A loss object may be used for several models, one after the other: each training starts as
        with a new object.
        """

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> Any | None:
        """The batch for `forward`: by default up to `n_anchors` rows, as a `MemoryBatch`.

        `source_memory` is the source agent's memory, during a transfer. If the memory has too few
        rows, return None to skip the step.
        """
        return memory.sample(n_anchors, generator) if len(memory) else None

    def forward(self, learner: Learner, batch: Any) -> Mapping[str, Tensor]:
        """One scalar tensor, float32, for each term of the loss, by the term's name.

        Args:
            learner: the agent; `learner.encoder(observations)` gives features with gradient.
            batch: the result of `sample`: by default a `memory.MemoryBatch` of B rows, in numpy:
                observations and next observations (B, ...), actions, rewards, returns and
                `return_known` (B,), tasks, episodes, steps, and `has_next` (B,), False where the
                next observation is not stored.

        Raises:
            NotImplementedError: a subclass does not implement it. A term that is not finite
                stops the training with a FloatingPointError.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a forward(learner, batch)")

    def term_weights(self, progress: float) -> Mapping[str, float]:
        """The weight of each term at `progress` in [0, 1]; 1 for terms without an entry."""
        return {}

    def changed_parameters(self, learner: Learner) -> list[nn.Parameter]:
        """The agent's parameters that the loss may change: by default those of the encoder."""
        return list(learner.encoder.parameters())

    def head_parameters(self) -> list[nn.Parameter]:
        """The loss's own trainable parameters: by default all that require a gradient."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def n_encoded(self, n_anchors: int, *, with_source_memory: bool) -> int:
        """The number of observations that one auxiliary step encodes with gradient.

        By default the number of anchors. The equal-compute control trains the agent on as many
        additional observations.

        Args:
            n_anchors: the argument of `sample`.
            with_source_memory: whether the loss has a source agent's memory and a teacher.
        """
        return n_anchors

    def after_step(self, learner: Learner) -> None:
        """Called after the optimisers' step, for example to update moving averages."""
