"""Realign on pairs: what both sensors show of the same states, without a frame in the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from contrastive_distillation.losses import encode_all
from contrastive_distillation.memory import (
    Memory,
    Observations,
    hash_observations,
    n_observations,
    nearest_names,
    take,
)

from ..builders import observation_kind
from ..encoder_lookup import read_encoder
from ..frozen_policy import FrozenPolicy
from ..teachers import FrozenTeacher
from ..weight_names import same_tensors, with_every_name
from ..weights import random_weights, read_weights
from .all_or_nothing import all_or_nothing
from .copying import check_source_fits, copy_what_fits, policy_names
from .pair_students import PairedLayers, PairedMap, PairStudent
from .report import RealignReport, RestartResult
from .source import SourceAgent, frames_in_stack, open_source

PAIR_OBJECTIVES = ("contrast", "squared_error", "policy")
"""What is asked of the student's features of a pair, or of its actions."""

View = Callable[[Any], Any]

_MOST_PAIRS = 8_192
_BATCH_SIZE = 192
_RESTARTS = 3
_UPDATES = 500
_RATE = 1e-3
_TEMPERATURE = 0.1
_MEASURE_EVERY = 20


def realign_on_pairs(
    model: BaseAlgorithm,
    *,
    source: BaseAlgorithm | SourceAgent | str | Path,
    source_memory: Memory | None,
    view: View | None,
    pairs: tuple[Observations, Observations] | None,
    names: Sequence[str],
    objective: str,
    layers: str | Sequence[str],
    restarts: int | None,
    updates: int | None,
    seed: int,
) -> RealignReport:
    """`realign` with `view` or `pairs`; the arguments are those of `realign`.

    Raises:
        ValueError: an unknown objective, pairs that do not fit, or a source that does not.
        FloatingPointError: a loss is not finite; the model is as it was.
    """
    objective = _pair_objective(objective)
    opened = _Opened(model, source, names)
    check_source_fits(model, names, action_space=opened.action_space, encoders=opened.encoders)
    if pairs is None:
        assert view is not None
        found = open_source(
            source, like=model, names=names, memory=source_memory, n_frames=1, seed=seed
        ).trajectories.observations
        pairs = found, view(found)
    seen, shown = _checked(model, pairs)
    with all_or_nothing(model):
        student = _student(model, opened, names, layers, seen, shown)
        job = _Pairs(model, opened, student, objective, seen, shown, seed)
        finalists = job.search(restarts or _RESTARTS, updates or _UPDATES)
        moved = student.write(model, finalists[0][0])
    n_held_out = len(job.held_out)
    note = (
        f"The student learnt by {objective} from {len(job.training):,} pairs of observations; on "
        f"{n_held_out:,} others the loss is {finalists[0][1]:.3f}."
    )
    return RealignReport(
        sensors_changed=None,
        aligned=None,
        frames=0,
        objective=objective,
        moved=moved,
        restarts=[
            RestartResult(number=number, loss=loss, terms={objective: loss})
            for _, loss, number in finalists
        ],
        notes=(note,),
    )


class _Opened:
    """A source's networks: no step of it is needed."""

    def __init__(
        self,
        like: BaseAlgorithm,
        source: BaseAlgorithm | SourceAgent | str | Path,
        names: Sequence[str],
    ) -> None:
        model = source.model if isinstance(source, SourceAgent) else source
        if isinstance(model, BaseAlgorithm):
            self.weights = dict(model.policy.state_dict())
            self.action_space: Any = model.action_space
            self.policy = FrozenPolicy.from_model(model)
            teachers = [FrozenTeacher.from_model(model, encoder=name) for name in names]
        else:
            self.weights = read_weights(model)
            self.action_space = like.action_space
            self.policy = FrozenPolicy.from_weights(self.weights, like=like)
            teachers = [
                FrozenTeacher.from_weights(self.weights, like=like, encoder=name) for name in names
            ]
        self.encoders = [teacher.encoder for teacher in teachers]


def _student(
    model: BaseAlgorithm,
    opened: _Opened,
    names: Sequence[str],
    layers: str | Sequence[str],
    seen: Observations,
    shown: Observations,
) -> PairStudent:
    """Copy the source's head and, where it fits, its encoder; what then moves."""
    policy = model.policy
    weights = with_every_name(opened.weights, policy)
    encoders = [read_encoder(model, name)[0] for name in names]
    is_vector = observation_kind(model.observation_space) == "vector"
    own = getattr(encoders[0].stages[0], "first_layers", None)
    if is_vector and layers == "first" and own is None:
        mapped = PairedMap(
            opened.encoders[0], encoders[0], seen, shown, n_frames=frames_in_stack(model)
        )
        mapped.prepare(model, weights)
        return mapped
    inside = set().union(*(same_tensors(policy, list(each.stages)) for each in encoders))
    shapes = {name: tensor.shape for name, tensor in policy.state_dict().items()}
    fits = all(name in weights and weights[name].shape == shapes[name] for name in inside)
    if not fits:
        weights = {name: value for name, value in weights.items() if name not in inside}
    copy_what_fits(policy, weights, may_differ=() if fits else inside)
    student = PairedLayers(encoders, layers if fits else "encoder", take(shown, slice(0, 8)))
    if not fits:
        student.draw = lambda seed: random_weights(model, seed=seed)
    student.names_in_policy = [
        {name: sorted(policy_names(policy, each, [name])) for name in moved}
        for each, moved in zip(encoders, student.names, strict=True)
    ]
    return student


class _Pairs:
    """The search for what makes the student's features of pairs like the source's."""

    def __init__(
        self,
        model: BaseAlgorithm,
        opened: _Opened,
        student: PairStudent,
        objective: str,
        seen: Observations,
        shown: Observations,
        seed: int,
    ) -> None:
        self._model, self._student, self._objective = model, student, objective
        self._shown = shown
        self._seed, self._generator = seed, np.random.default_rng(seed)
        features = [encode_all(each, seen) for each in opened.encoders]
        self._means = [each.mean(dim=0) for each in features]
        self._wanted = [each - mean for each, mean in zip(features, self._means, strict=True)]
        self._states = torch.as_tensor(np.unique(hash_observations(seen), return_inverse=True)[1])
        if objective == "policy":
            self._logits = opened.policy.logits(seen)
            self._spread = 1.0
            if opened.policy.acts_by == "values":
                self._spread = float(self._logits.std(dim=1).mean().clamp(min=1e-6))
            student.of_policy(model, opened.policy)
        order = self._generator.permutation(len(self._states))
        n_held_out = len(order) // 5
        self.held_out, self.training = order[:n_held_out], order[n_held_out:]

    def search(
        self, n_restarts: int, n_updates: int
    ) -> list[tuple[list[dict[str, Tensor]], float, int]]:
        """Values, loss on held-out pairs, and number of each restart, best first."""
        restarts = [
            {name: value.detach().clone().requires_grad_(True) for name, value in each.items()}
            for each in self._student.restarts(n_restarts, self._seed)
        ]
        moved = [value for each in restarts for value in each.values()]
        n_restarts = len(moved[0])
        optimizer = torch.optim.Adam(moved, lr=_RATE)
        measured = self.held_out if len(self.held_out) > 1 else self.training
        lowest = np.full(n_restarts, np.inf)
        best = [{n: v.detach().clone() for n, v in each.items()} for each in restarts]
        for update in range(n_updates):
            size = min(_BATCH_SIZE, len(self.training))
            rows = self._generator.choice(self.training, size, replace=False)
            optimizer.zero_grad()
            torch.autograd.backward(self._losses(restarts, rows).sum())
            optimizer.step()
            if update % _MEASURE_EVERY == 0 or update == n_updates - 1:
                with torch.no_grad():
                    losses = self._losses(restarts, measured[:1_024]).numpy(force=True)
                for r in np.flatnonzero(losses < lowest):
                    lowest[r] = losses[r]
                    for kept, each in zip(best, restarts, strict=True):
                        for name, value in each.items():
                            kept[name][r] = value.detach()[r]
        return [
            ([{n: v[r] for n, v in each.items()} for each in best], float(lowest[r]), int(r))
            for r in np.argsort(lowest, kind="stable")
        ]

    def _losses(self, restarts: list[dict[str, Tensor]], rows: np.ndarray) -> Tensor:
        """The objective (R,), summed over the encoders."""
        places = torch.as_tensor(rows)
        shown = take(self._shown, rows)
        if self._objective == "policy":
            found = self._student.logits(restarts, shown).div(self._spread).log_softmax(dim=-1)
            wanted = self._logits[places].div(self._spread).log_softmax(dim=-1)
            losses = (wanted.exp() * (wanted - found)).sum(dim=-1).mean(dim=-1)
        else:
            features = self._student.features(restarts, shown)
            each = [
                self._compare(found - mean, wanted[places], self._states[places])
                for found, mean, wanted in zip(features, self._means, self._wanted, strict=False)
            ]
            losses = torch.stack(each).sum(dim=0)
        if not torch.isfinite(losses).all():
            raise FloatingPointError(
                f"the objective '{self._objective}' is not finite: the encoder gives NaN or "
                "infinite features for an observation of the pairs; nothing of the model was "
                "changed. Check the observations"
            )
        return losses

    def _compare(self, found: Tensor, wanted: Tensor, states: Tensor) -> Tensor:
        """(R,) of centred features (R, N, D) and (N, D); a row of the same state does not count."""
        if self._objective == "squared_error":
            return 10.0 * (found - wanted).square().mean(dim=(-1, -2))
        logits = F.normalize(found, dim=-1) @ F.normalize(wanted, dim=-1).T / _TEMPERATURE
        same = (states[:, None] == states[None]) & ~torch.eye(len(states), dtype=torch.bool)
        logits = logits.masked_fill(same.to(logits.device), -torch.inf)
        return -logits.log_softmax(dim=-1).diagonal(dim1=-2, dim2=-1).mean(dim=-1)


def _pair_objective(name: str) -> str:
    if name == "contrast_statistics":  # the default: pairs fix the scale, so no statistics
        return "contrast"
    if name not in PAIR_OBJECTIVES:
        raise ValueError(
            f"objective '{name}' needs steps in the target, not pairs. "
            f"{nearest_names(name, PAIR_OBJECTIVES)}"
        )
    return name


def _checked(
    model: BaseAlgorithm, pairs: tuple[Observations, Observations]
) -> tuple[Observations, Observations]:
    """The distinct pairs, at most 8,192 of them.

    Raises:
        ValueError: fewer than two, unequal numbers, or not the model's observations.
    """
    if not isinstance(pairs, tuple | list) or len(pairs) != 2:
        raise ValueError("pairs= takes two batches: (source_observations, target_observations)")
    seen, shown = (_arrays(each) for each in pairs)
    n, n_shown = n_observations(seen), n_observations(shown)
    if n != n_shown:
        raise ValueError(
            f"there are {n} observations of the source and {n_shown} of the target; the i-th of "
            "both must show the same state"
        )
    drawn = model.observation_space.sample()
    expected = {key: np.shape(part) for key, part in _parts(drawn).items()}
    found = {key: np.shape(part)[1:] for key, part in _parts(shown).items()}
    if found != expected:
        raise ValueError(
            f"the target observations of the pairs have the shapes {found}, the model reads "
            f"{expected}"
        )
    both = np.stack([hash_observations(seen), hash_observations(shown)], axis=1)
    _, first = np.unique(both, axis=0, return_index=True)
    if len(first) < 2:
        raise ValueError(f"there are {len(first)} distinct pairs; realigning needs many")
    rows = np.random.default_rng(0).permutation(first)[:_MOST_PAIRS]
    return take(seen, rows), take(shown, rows)


def _arrays(observations: Any) -> Observations:
    if isinstance(observations, dict):
        return {key: np.asarray(part) for key, part in observations.items()}
    return np.asarray(observations)


def _parts(observations: Any) -> dict[str, Any]:
    return observations if isinstance(observations, dict) else {"observation": observations}
