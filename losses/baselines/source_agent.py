"""Base classes of losses on a source agent's encoder or policy, and draws from both memories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from contrastive_distillation.memory import Memory, Observations, concatenate

from ..auxiliary import ActsBy, AuxiliaryLoss, Learner, SourcePolicy, Teacher
from ..teacher_keys import FrozenKeys


class TeacherLoss(AuxiliaryLoss):
    """A loss that needs the frozen encoder of a source agent."""

    needs_source: ClassVar[bool] = True

    def __init__(self, teacher: Teacher | None) -> None:
        super().__init__()
        self.teacher = teacher

    def required_teacher(self) -> Teacher:
        """The teacher; ValueError if there is none."""
        if self.teacher is None:
            raise ValueError(
                f"{self.name} needs the frozen encoder of a source agent: pass teacher="
                "FrozenTeacher.from_model(source_model), or use the command transfer"
            )
        return self.teacher

    def sample(
        self,
        memory: Memory,
        n_anchors: int,
        generator: np.random.Generator,
        source_memory: Memory | None = None,
    ) -> Any | None:
        """Observations, up to (n_anchors, ...), half of them the source's if there are any."""
        if len(memory) == 0:
            return None
        return draw_from_both(memory, source_memory, n_anchors, generator).observations()


class SourcePolicyLoss(AuxiliaryLoss):
    """A loss that needs the frozen policy of a source agent."""

    needs_source: ClassVar[bool] = True
    kinds_of_logits: ClassVar[tuple[ActsBy, ...]] = ()
    """The kinds of logits, one of which both agents must have; (): any agents will do."""
    advice: ClassVar[str] = ""
    """What to do where they have none of these."""

    def __init__(self, source_policy: SourcePolicy | None) -> None:
        super().__init__()
        self.source_policy = source_policy

    def required_policy(self) -> SourcePolicy:
        """The source policy; ValueError if there is none."""
        if self.source_policy is None:
            raise ValueError(
                f"{self.name} needs the policy of a source agent: pass source_policy="
                "FrozenPolicy.from_model(source_model), or use the command transfer"
            )
        return self.source_policy

    def build(self, learner: Learner) -> None:
        """
        Raises:
            ValueError: the source policy is missing, or it or the agent lacks the kinds of logits.
        """
        policy = self.required_policy()
        if self.kinds_of_logits:
            for whose, acts_by in (("agent", learner.acts_by), ("source policy", policy.acts_by)):
                check_acts_by(
                    acts_by, self.kinds_of_logits, loss=self.name, whose=whose, advice=self.advice
                )

    def changed_parameters(self, learner: Learner) -> list[nn.Parameter]:
        return learner.logit_parameters()


class PolicyDistillation(SourcePolicyLoss):
    """`L = mean_o KL( softmax(z_T/τ) ‖ softmax(z/τ) )`, z_T and z the logits of both policies.

    Metrics: `agreement`, the share of observations on which both prefer the same action.
    """

    temperature = 1.0

    def forward(self, learner: Learner, batch: Observations) -> Mapping[str, Tensor]:
        wanted = self.required_policy().logits(batch) / self.temperature
        found = learner.logits(batch) / self.temperature
        self.metrics = {"agreement": agreement(wanted, found)}
        return {self.name: kl_divergence(wanted, found).mean()}


def required_memory(source_memory: Memory | None, loss: str) -> Memory:
    """The source's memory; ValueError if there is none or it is empty."""
    if source_memory is None or len(source_memory) == 0:
        raise ValueError(
            f"{loss} needs the memory of a source agent, not empty: pass source_memory= to the "
            "callback, or use the command transfer"
        )
    return source_memory


def check_acts_by(
    acts_by: ActsBy, allowed: Sequence[ActsBy], *, loss: str, whose: str, advice: str
) -> None:
    """ValueError unless the agent or the source has one of the allowed kinds of logits."""
    if acts_by not in allowed:
        wanted = {"probabilities": "action probabilities", "values": "action values"}
        raise ValueError(
            f"{loss} needs the {' or '.join(wanted[kind] for kind in allowed)} of discrete "
            f"actions, which this {whose} does not have; {advice}"
        )


@dataclass(frozen=True)
class FromBoth:
    """Rows of the agent's own memory, and of the source's."""

    memory: Memory
    rows: np.ndarray
    source_memory: Memory | None
    source_rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows) + len(self.source_rows)

    def observations(self) -> Observations:
        """(n, ...): the own first, then the source's."""
        own = self.memory.observations(self.rows)
        if self.source_memory is None:
            return own
        return concatenate([own, self.source_memory.observations(self.source_rows)])

    def hashes(self) -> np.ndarray:
        """(n,) int64: hashes of the observations."""
        own = self.memory.hashes(self.rows)
        if self.source_memory is None:
            return own
        return np.concatenate([own, self.source_memory.hashes(self.source_rows)])

    def keys(self, keys: FrozenKeys) -> np.ndarray:
        """(n, D) float32: a frozen teacher's keys of the observations."""
        own = keys.keys(self.memory, self.rows)
        if self.source_memory is None:
            return own
        return np.concatenate([own, keys.keys(self.source_memory, self.source_rows)])


def draw_from_both(
    memory: Memory, source_memory: Memory | None, n: int, generator: np.random.Generator
) -> FromBoth:
    """Draw up to n rows, half of them from the source's memory unless it is None or empty."""
    if source_memory is None or len(source_memory) == 0:
        return FromBoth(memory, memory.sample_rows(n, generator), None, np.empty(0, np.int64))
    source_rows = source_memory.sample_rows(n // 2, generator)
    rows = memory.sample_rows(n - len(source_rows), generator)
    return FromBoth(memory, rows, source_memory, source_rows)


def kl_divergence(wanted: Tensor, found: Tensor) -> Tensor:
    """`KL( softmax(wanted) ‖ softmax(found) )` of each row: logits (B, A) -> (B,)."""
    wanted, found = wanted.log_softmax(dim=1), found.log_softmax(dim=1)
    return (wanted.exp() * (wanted - found)).sum(dim=1)


def agreement(wanted: Tensor, found: Tensor) -> float:
    """Share of rows in which two logits (B, A) prefer the same action."""
    return float((wanted.argmax(dim=1) == found.argmax(dim=1)).float().mean())
