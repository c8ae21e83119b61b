"""Students that learn from pairs: layers that move, or one map in front of the source's encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn
from torch.func import functional_call

from contrastive_distillation.memory import Observations, take

from ..action_logits import action_logits, seen_by
from ..frozen_policy import FrozenPolicy
from ..observation_encoder import ObservationEncoder
from .copying import copy_what_fits
from .folding import fold, foldable_layers, synchronise_targets
from .students import MovedLayers, Restarts, flat


class PairStudent(Protocol):
    """What moves, in R restarts at once."""

    def restarts(self, n: int, seed: int) -> list[Restarts]:
        """Where n restarts begin, for each encoder (or the one map)."""

    def features(self, restarts: list[Restarts], shown: Observations) -> list[Tensor]:
        """(R, m, D) of each encoder, of m raw observations of the target."""

    def of_policy(self, model: BaseAlgorithm, source: FrozenPolicy) -> None:
        """Make `logits` ready."""

    def logits(self, restarts: list[Restarts], shown: Observations) -> Tensor:
        """(R, m, A) of the student's policy, of m raw observations of the target."""

    def write(self, model: BaseAlgorithm, values: list[Restarts]) -> tuple[str, ...]:
        """Write one restart's values into the model; the names of what moved."""


class PairedLayers:
    """Layers of the model's encoders.

    Args:
        encoders: the model's, with the source's weights where these fit.
        layers: see `parameters_to_move`.
        example: raw observations, to find the layers with.
    """

    def __init__(
        self,
        encoders: Sequence[ObservationEncoder],
        layers: str | Sequence[str],
        example: Observations,
    ) -> None:
        self._encoders = encoders
        self._students = [MovedLayers(each, layers=layers, example=example) for each in encoders]
        self.names = [student.names for student in self._students]
        self.names_in_policy: list[dict[str, list[str]]] = []
        """Of each encoder: a policy's names for each parameter that moves."""
        self.draw: Callable[[int], Mapping[str, Tensor]] | None = None
        """Draws initial weights of a policy from a seed, where the encoders are fresh."""

    def restarts(self, n: int, seed: int) -> list[Restarts]:
        """From the present values; others permuted, or drawn where the encoders are fresh."""
        if self.draw is None:
            return [s.restarts(n, np.random.default_rng(seed)) for s in self._students]
        found = [student.restarts(1, np.random.default_rng(seed)) for student in self._students]
        for r in range(1, n):
            drawn = self.draw(seed + r)
            for values, names in zip(found, self.names_in_policy, strict=True):
                for name, value in values.items():
                    values[name] = torch.cat([value, drawn[names[name][0]][None].to(value)])
        return found

    def features(self, restarts: list[Restarts], shown: Observations) -> list[Tensor]:
        """(R, m, D) of each encoder."""
        return [s.features(r, shown) for s, r in zip(self._students, restarts, strict=True)]

    def of_policy(self, model: BaseAlgorithm, source: FrozenPolicy) -> None:
        """Make `logits` ready.

        Raises:
            ValueError: the policy has several encoders, of which its actions show only one.
        """
        if len(self._students) > 1:
            raise ValueError(
                "objective 'policy' moves the encoder that acts alone, and this agent has "
                f"{len(self._students)}; use objective='contrast'"
            )
        self._policy = FrozenPolicy.from_model(model)
        self._logits = _Logits(self._policy.policy)

    def logits(self, restarts: list[Restarts], shown: Observations) -> Tensor:
        """(R, m, A) of the model's policy."""
        seen = seen_by(self._policy.policy, shown, self._policy.normalise)
        names = self.names_in_policy[0]
        n = len(next(iter(restarts[0].values())))
        each = [  # one name is enough for a tensor of several
            {f"policy.{names[name][0]}": value[r] for name, value in restarts[0].items()}
            for r in range(n)
        ]
        return torch.stack([functional_call(self._logits, values, (seen,)) for values in each])

    def write(self, model: BaseAlgorithm, values: list[Restarts]) -> tuple[str, ...]:
        """Copy the values into the model."""
        moved = []
        for encoder, each in zip(self._encoders, values, strict=True):
            own = dict(nn.Sequential(*encoder.stages).named_parameters())
            for name, value in each.items():
                own[name].data.copy_(value)
                moved.append(name)
        synchronise_targets(model.policy)
        return tuple(moved)


class _Logits(nn.Module):
    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, seen: Tensor) -> Tensor:
        return action_logits(self.policy, seen)


class PairedMap:
    """One linear map of vectors in front of the source's networks, from least squares on.

    Args:
        teacher: the source's encoder.
        target: the model's, which reads the target's observations.
        seen: raw observations of the source.
        shown: those of the target.
        n_frames: frames in a stack.
    """

    def __init__(
        self,
        teacher: ObservationEncoder,
        target: ObservationEncoder,
        seen: Observations,
        shown: Observations,
        *,
        n_frames: int,
    ) -> None:
        self._target, self._n_frames = target, n_frames
        self._example = take(shown, slice(0, 8))
        self._stages = nn.Sequential(*teacher.frozen_copy().eval().stages)
        rows, self._unflatten = flat(teacher.prepared(seen))
        wanted, given = self._framed(rows).flatten(0, 1), self._shown(shown).flatten(0, 1)
        self._mean, self._scale = given.mean(dim=0), given.std(dim=0).clamp(min=1e-6)
        self._centre, self._unit = wanted.mean(dim=0), wanted.std(dim=0).clamp(min=1e-6)
        whitened = ((given - self._mean) / self._scale).double()
        units = ((wanted - self._centre) / self._unit).double()
        self._start = (torch.linalg.pinv(whitened) @ units).T.to(wanted)
        self._weights: Mapping[str, Tensor] = {}

    def _framed(self, rows: Tensor) -> Tensor:
        return rows.view(len(rows), self._n_frames, -1)

    def _shown(self, shown: Observations) -> Tensor:
        return self._framed(flat(self._target.prepared(shown))[0])

    def prepare(self, model: BaseAlgorithm, weights: Mapping[str, Tensor]) -> None:
        """Copy the source's weights into the model, but for the layers that read the observation.

        Raises:
            ValueError: another layer does not fit.
        """
        found = foldable_layers(model, self._normalised())
        copy_what_fits(model.policy, weights, may_differ=[f"{name}.weight" for name in found])
        self._weights = weights

    def _normalised(self) -> Observations:
        normalise = self._target.normalise
        return self._example if normalise is None else normalise(self._example)

    def restarts(self, n: int, seed: int) -> list[Restarts]:
        """Least squares: one start, whatever n; contrast prefers maps that are wider than right."""
        turns = self._start[None].clone()
        return [{"turn": turns, "offset": torch.zeros(1, len(self._centre)).to(turns)}]

    def _mapped(self, restarts: Restarts, shown: Observations) -> Tensor | dict[str, Tensor]:
        """Observations of the source (R · m, ...), as its encoder takes them."""
        whitened = (self._shown(shown) - self._mean) / self._scale
        turned = torch.einsum("mfi,rji->rmfj", whitened, restarts["turn"])
        turned = turned + restarts["offset"][:, None, None]
        found: Tensor | dict[str, Tensor] = self._unflatten(
            (self._centre + turned * self._unit).flatten(0, 1).flatten(1)
        )
        return found

    def features(self, restarts: list[Restarts], shown: Observations) -> list[Tensor]:
        """(R, m, D) of the source's encoder behind the map."""
        features: Tensor = self._stages(self._mapped(restarts[0], shown))
        return [features.view(len(restarts[0]["turn"]), -1, features.shape[-1])]

    def of_policy(self, model: BaseAlgorithm, source: FrozenPolicy) -> None:
        """Make `logits` ready."""
        self._policy = source.policy

    def logits(self, restarts: list[Restarts], shown: Observations) -> Tensor:
        """(R, m, A) of the source's policy behind the map."""
        logits = action_logits(self._policy, self._mapped(restarts[0], shown))
        return logits.view(len(restarts[0]["turn"]), -1, logits.shape[-1])

    def write(self, model: BaseAlgorithm, values: list[Restarts]) -> tuple[str, ...]:
        """Fold the map into all networks of the model."""
        matrix = self._unit[:, None] * values[0]["turn"] / self._scale
        offset = self._centre + self._unit * values[0]["offset"] - matrix @ self._mean
        return tuple(
            fold(
                model,
                self._weights,
                matrix,
                offset,
                example=self._normalised(),
                n_frames=self._n_frames,
            )
        )
