"""The search for realigned layers: restarts side by side, of which the better half goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from contrastive_distillation.losses import (
    LatentDynamics,
    Objective,
    SourceDynamics,
    WindowBatch,
    action_vectors,
    realignment_terms,
    usual_steps,
    weighted_sum,
)
from contrastive_distillation.memory import Observations, Trajectories, take

from .students import Restarts, Student

_N_MEASURED = 4
_MEASURE_EVERY = 20
_DECAYED = 0.1
_SHARPENED = 0.8  # share of the updates after which the kernel is as narrow as it gets
_OWN_RATE = 1e-3
_POOL = 8  # candidates for each of the nearest negatives


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How the search runs; the defaults are for grids."""

    restarts: int = 8
    finalists: int = 1
    """Restarts that reach the last stage."""
    updates: int = 400
    """Of the restart that goes furthest."""
    growth: float = 1.6
    """Each stage has so many times the updates of the one before."""
    batch_size: int = 128
    rate: float = 6e-3
    """Of Adam; it falls to a tenth in the second half of the updates."""
    ramp: float = 0.0
    """Share of the updates over which λ rises from 0; 0: it is whole from the start."""
    n_usual: int = 0
    """Observations for the statistics of each update; 0: those where the windows begin."""
    negatives: str = "in_batch"
    n_negatives: int = 256


@dataclass(frozen=True)
class Part:
    """One encoder of an agent, and what is known of it at the source."""

    student: Student
    source: SourceDynamics


@dataclass(frozen=True)
class Finalist:
    """A restart that reached the end."""

    number: int
    values: list[Restarts]
    """Of each part: (...) without the restarts' dimension."""
    loss: float
    """The objective on held-out episodes."""
    terms: dict[str, float]


def search(
    parts: list[Part],
    objective: Objective,
    training: Trajectories,
    held_out: Trajectories,
    *,
    settings: SearchSettings,
    statistics_weight: float,
    generator: np.random.Generator,
    starts: list[Restarts],
) -> list[Finalist]:
    """Minimise an objective from several starts; the finalists, best first.

    After each stage the half with the lower objective on held-out episodes goes on.

    Args:
        parts: of the agent; the objective is the sum of theirs.
        objective: of each part.
        training: steps in the target.
        held_out: other episodes of them, which choose.
        settings: of the search.
        statistics_weight: λ.
        generator: the only source of random numbers.
        starts: of each part, (R, ...).

    Raises:
        FloatingPointError: the objective is not finite in any restart.
    """
    problem = _Problem(parts, objective, settings)
    batches = problem.batches(training, settings.batch_size, generator)
    fixed = np.random.default_rng(int(generator.integers(2**63)))
    measured = problem.batches(held_out, 256, fixed)
    held = [next(measured) for _ in range(_N_MEASURED)]
    n = len(next(iter(starts[0].values())))
    numbers = np.arange(n)
    state = _State(starts, problem.own_dynamics(n, generator), settings.rate)
    stages = list(_stages(n, settings))
    n_all, done = sum(n_updates for _, n_updates in stages), 0
    for i, (n_kept, n_updates) in enumerate(stages):
        last = i == len(stages) - 1
        best = _Best(len(numbers), state)
        for update in range(n_updates):
            state.set_rate(settings.rate * _DECAYED ** max(0.0, 2.0 * done / n_all - 1.0))
            sharpness = min(1.0, done / (_SHARPENED * n_all))
            risen = min(1.0, done / (settings.ramp * n_all)) if settings.ramp else 1.0
            weight = risen * statistics_weight
            state.step(problem.losses(state, *next(batches), weight, sharpness=sharpness)[0])
            done += 1
            if last and (update % _MEASURE_EVERY == 0 or update == n_updates - 1):
                best.keep(problem.measure(state, held, statistics_weight), state)
        if last:
            return best.finalists(numbers)
        losses, _ = problem.measure(state, held, weight, sharpness=sharpness)
        kept = np.argsort(losses, kind="stable")[:n_kept]
        numbers = numbers[kept]
        state = state.of(kept)
    raise AssertionError("a search has a last stage")


def _stages(n: int, settings: SearchSettings) -> Iterator[tuple[int, int]]:
    """Restarts kept after each stage, and its updates."""
    sizes = [n]
    while sizes[-1] > settings.finalists:
        sizes.append(max(settings.finalists, -(-sizes[-1] // 2)))
    shares = np.array([settings.growth**i for i in range(len(sizes))])
    updates = np.maximum(1, np.round(settings.updates * shares / shares.sum())).astype(int)
    yield from zip([*sizes[1:], sizes[-1]], updates.tolist(), strict=True)


class _Problem:
    """The objective of all restarts on batches of windows."""

    def __init__(
        self,
        parts: list[Part],
        objective: Objective,
        settings: SearchSettings,
    ) -> None:
        self._parts, self._objective, self._settings = parts, objective, settings
        self._windows = parts[0].source.settings

    def batches(
        self, data: Trajectories, n: int, generator: np.random.Generator
    ) -> Iterator[tuple[Observations, WindowBatch]]:
        """The distinct observations of each batch, and its windows over them."""
        k = self._windows.n_steps
        starts = data.windows(k, changing=self._windows.changing)
        source = self._parts[0].source
        usual = usual_steps(data, self._windows)
        actions = action_vectors(source.action_space, data.actions)
        while True:
            steps = generator.choice(starts, n)[:, None] + np.arange(k + 1)
            parts = [data.indices[steps].ravel()]
            if self._settings.n_usual:
                parts.append(data.indices[generator.choice(usual, self._settings.n_usual)])
            if n_keys := self._n_keys():
                parts.append(data.indices[generator.choice(len(data), n_keys)])
            numbers, inverse = np.unique(np.concatenate(parts), return_inverse=True)
            places = torch.as_tensor(inverse, device=source.mean.device)
            seen, *others = torch.split(places, [len(part) for part in parts])
            seen = seen.view(n, k + 1)
            usual_places = others.pop(0) if self._settings.n_usual else seen[:, 0]
            yield (
                take(data.observations, numbers),
                WindowBatch(
                    seen=seen,
                    actions=torch.as_tensor(actions[steps[:, :-1]], device=source.mean.device),
                    usual=usual_places,
                    keys=others.pop(0) if others else None,
                    nearest=self._settings.n_negatives if self._is_nearest else None,
                ),
            )

    @property
    def _is_nearest(self) -> bool:
        return self._settings.negatives == "nearest"

    def _n_keys(self) -> int:
        """Observations that are drawn as negatives; 0 where they are the batch's own."""
        if self._settings.negatives == "in_batch":
            return 0
        return self._settings.n_negatives * (_POOL if self._is_nearest else 1)

    def own_dynamics(self, n: int, generator: np.random.Generator) -> list[list[LatentDynamics]]:
        """Fresh dynamics of each part and restart; [] where the source's are used."""
        if not self._objective.learns_dynamics:
            return []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator.integers(2**31)))
            return [[part.source.fresh_dynamics() for _ in range(n)] for part in self._parts]

    def losses(
        self,
        state: _State,
        observations: Observations,
        batch: WindowBatch,
        statistics_weight: float,
        *,
        sharpness: float = 1.0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective (R,) of each restart, and its terms, as sums over the parts."""
        total: dict[str, Tensor] = {}
        for i, part in enumerate(self._parts):
            features = part.student.features(state.restarts[i], observations)
            if state.own:
                each = [
                    realignment_terms(
                        self._objective,
                        features[r : r + 1],
                        batch,
                        part.source,
                        dynamics=own,
                        sharpness=sharpness,
                    )
                    for r, own in enumerate(state.own[i])
                ]
                terms = {name: torch.cat([t[name] for t in each]) for name in each[0]}
            else:
                terms = realignment_terms(
                    self._objective, features, batch, part.source, sharpness=sharpness
                )
            total = {name: total.get(name, 0.0) + value for name, value in terms.items()}
        losses = weighted_sum(self._objective, total, statistics_weight)
        if not torch.isfinite(losses).all():
            raise FloatingPointError(
                f"the objective '{self._objective.name}' is not finite: the encoder gives NaN or "
                "infinite features for an observation of the target; nothing of the model was "
                "changed. Check the observations, or use fewer updates"
            )
        return losses, total

    @torch.no_grad()
    def measure(
        self,
        state: _State,
        batches: list[tuple[Observations, WindowBatch]],
        statistics_weight: float,
        *,
        sharpness: float = 1.0,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The objective and its terms (R,) as means over batches."""
        found = [
            self.losses(state, *batch, statistics_weight, sharpness=sharpness) for batch in batches
        ]
        terms = {
            name: torch.stack([each[1][name] for each in found]).mean(dim=0).numpy(force=True)
            for name in found[0][1]
        }
        return torch.stack([each[0] for each in found]).mean(dim=0).numpy(force=True), terms


class _State:
    """The restarts that are left, and the state of their optimiser."""

    def __init__(
        self, restarts: list[Restarts], own: list[list[LatentDynamics]], rate: float
    ) -> None:
        self.restarts = [
            {name: values.detach().clone().requires_grad_(True) for name, values in each.items()}
            for each in restarts
        ]
        self.own = own
        self._moved = [values for each in self.restarts for values in each.values()]
        learnt = [p for part in own for dynamics in part for p in dynamics.parameters()]
        self.rate = rate
        self._optimizer = torch.optim.Adam(self._moved, lr=rate)
        self._of_own = torch.optim.Adam(learnt, lr=_OWN_RATE) if learnt else None

    def set_rate(self, rate: float) -> None:
        """Change the rate of what moves."""
        self.rate = rate
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def step(self, losses: Tensor) -> None:
        """One update of every restart: their losses (R,) share no parameter."""
        for optimizer in (self._optimizer, self._of_own):
            if optimizer is not None:
                optimizer.zero_grad()
        torch.autograd.backward(losses.sum())
        for optimizer in (self._optimizer, self._of_own):
            if optimizer is not None:
                optimizer.step()

    def of(self, kept: np.ndarray) -> _State:
        """The state of some restarts, with what their optimiser remembers."""
        chosen = torch.as_tensor(kept)
        restarts = [
            {name: values.detach()[chosen] for name, values in each.items()}
            for each in self.restarts
        ]
        own = [[part[r] for r in kept] for part in self.own]
        found = _State(restarts, own, self.rate)
        for new, old in zip(found._moved, self._moved, strict=True):
            remembered = self._optimizer.state[old]
            found._optimizer.state[new] = {
                name: value if name == "step" else value[chosen]
                for name, value in remembered.items()
            }
        return found


class _Best:
    """The values of each restart at its lowest objective so far."""

    def __init__(self, n: int, state: _State) -> None:
        self._losses = np.full(n, np.inf)
        self._terms: list[dict[str, float]] = [{} for _ in range(n)]
        self._values = [
            {name: values.detach().clone() for name, values in each.items()}
            for each in state.restarts
        ]

    def keep(self, measured: tuple[np.ndarray, dict[str, np.ndarray]], state: _State) -> None:
        """Keep the present values of the restarts whose objective is lower than before."""
        losses, terms = measured
        for r in np.flatnonzero(losses < self._losses):
            self._losses[r] = losses[r]
            self._terms[r] = {name: float(values[r]) for name, values in terms.items()}
            for kept, each in zip(self._values, state.restarts, strict=True):
                for name, values in each.items():
                    kept[name][r] = values.detach()[r]

    def finalists(self, numbers: np.ndarray) -> list[Finalist]:
        """All restarts, best first."""
        return [
            Finalist(
                number=int(numbers[r]),
                values=[{name: v[r] for name, v in each.items()} for each in self._values],
                loss=float(self._losses[r]),
                terms=self._terms[r],
            )
            for r in np.argsort(self._losses, kind="stable")
        ]
