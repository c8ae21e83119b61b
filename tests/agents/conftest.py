"""A look at the encoder's gradient before and after an auxiliary loss has joined it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from contrastive_distillation.agents import AuxiliaryLossCallback, FrozenPolicy, FrozenTeacher
from contrastive_distillation.losses import LOSSES, AuxiliaryLoss, make_loss


class Look(BaseCallback):
    """Copies the encoder's gradient in a step pre-hook of its own; these run in order of the list.

    It asks Stable-Baselines3 alone (and `joined.learner.encoder` for the parameters), so that it
    sees what the optimiser will get, whatever the callback does.
    """

    def __init__(self, joined: AuxiliaryLossCallback) -> None:
        super().__init__()
        self.joined = joined
        self.seen: list[Tensor] = []
        self._handles: list[Any] = []

    def _on_rollout_end(self) -> None:
        wanted = {id(p) for p in self._parameters()}
        modules = self.model.policy.modules()
        owners = [m.optimizer for m in modules if hasattr(m, "optimizer")]
        holds = [o for o in owners if wanted & {id(p) for g in o.param_groups for p in g["params"]}]
        self._handles.append(holds[0].register_step_pre_hook(self._look))

    def _look(self, *_: object) -> None:
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters()]
        self.seen.append(torch.cat([g.detach().flatten() for g in grads]).clone())

    def _parameters(self) -> list[torch.nn.Parameter]:
        assert self.joined.learner is not None
        return list(self.joined.learner.encoder.parameters())

    def _on_rollout_start(self) -> None:
        while self._handles:
            self._handles.pop().remove()

    _on_training_end = _on_rollout_start

    def _on_step(self) -> bool:
        return True


Trains = Callable[..., tuple[list[Tensor], list[Tensor]]]


@pytest.fixture
def gradients() -> Trains:
    """`gradients(model, joined, frames, **learn)`: trains, gives the gradients before and after."""

    def trained(
        model: BaseAlgorithm,
        joined: AuxiliaryLossCallback,
        frames: int,
        *,
        also: tuple[BaseCallback, ...] = (),
        **settings: Any,
    ) -> tuple[list[Tensor], list[Tensor]]:
        before, after = Look(joined), Look(joined)
        model.learn(frames, callback=[*also, before, joined, after], **settings)
        return before.seen, after.seen

    return trained


@pytest.fixture
def assert_changed(gradients: Trains) -> Callable[..., None]:
    """Trains and asserts that the encoder's gradient changed by `weight` of its own norm or more.

    More where it is small: the reference then has a floor. It holds for a loss of one term.
    """

    def check(model: BaseAlgorithm, joined: AuxiliaryLossCallback, frames: int, **how: Any) -> None:
        before, after = gradients(model, joined, frames, **how)
        assert len(before) == len(after) > 0
        added = torch.stack([(b - a).norm() for a, b in zip(before, after, strict=True)])
        own = torch.stack([gradient.norm() for gradient in before])
        changed = added > 0
        assert int(changed.sum()) == joined.n_updates > 0
        assert torch.isfinite(added).all()
        assert isinstance(joined.weight, float)
        assert (added[changed] >= joined.weight * own[changed] * 0.999).all()

    return check


@pytest.fixture
def make_rival() -> Callable[[str, BaseAlgorithm | None], AuxiliaryLoss]:
    """`make_rival(name, source)`: a registered loss, with what it takes of a source agent."""

    def make(name: str, source: BaseAlgorithm | None) -> AuxiliaryLoss:
        taken = inspect.signature(LOSSES[name]).parameters
        given: dict[str, Any] = {}
        if source is not None and "teacher" in taken:
            given["teacher"] = FrozenTeacher.from_model(source)
        if source is not None and "source_policy" in taken:
            given["source_policy"] = FrozenPolicy.from_model(source)
        if "n_fit_updates" in taken:
            given["n_fit_updates"] = 3
        return make_loss(name, **given)

    return make
