"""One realignment of a model: gather, test, search, choose, test again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from contrastive_distillation.losses import (
    OBJECTIVES,
    DynamicsSettings,
    Objective,
    encode_all,
    statistics_loss,
)
from contrastive_distillation.memory import (
    Memory,
    Observations,
    Trajectories,
    take,
)

from ..builders import observation_kind
from ..encoder_lookup import read_encoder
from ..weight_names import with_every_name
from .copying import copy_what_fits, policy_names
from .detection import Detection, detect, reads_other_sensors
from .folding import fold, foldable_layers, synchronise_targets
from .gathering import gather
from .input_layers import drawn_observations
from .play import mean_return
from .report import RealignReport, RestartResult
from .search import Part, SearchSettings, search
from .source import Source, frames_in_stack, usual_observations
from .students import InputMap, MovedLayers, Restarts, WhitenedInput

_DETECTION_FRAMES = 4_096


class Realignment:
    """One realignment of a model."""

    def __init__(
        self,
        model: BaseAlgorithm,
        source: Source,
        names: list[str],
        objective: Objective,
        *,
        layers: str | Sequence[str],
        seed: int,
    ) -> None:
        self.model, self.source, self.objective, self.seed = model, source, objective, seed
        self.layers = layers
        self.kind = observation_kind(model.observation_space)
        encoders = [read_encoder(model, name)[0] for name in names]
        self.is_mapped = (
            self.kind == "vector"
            and layers == "first"
            and getattr(encoders[0].stages[0], "first_layers", None) is None
        )
        if self.is_mapped:
            source.map_input()
        self.encoders = encoders[:1] if self.is_mapped else encoders
        self.generator = np.random.default_rng(seed)
        self.read: Callable[[Observations], Tensor] | None = None
        """The student's features; None: the source's encoder cannot read its observations."""

    def copy_weights(self) -> None:
        """Copy all tensors of the source's policy that fit, by name and shape.

        Raises:
            ValueError: a tensor that does not move does not fit, or no layer can move.
        """
        policy = self.model.policy
        weights = with_every_name(self.source.weights, policy)
        self.source.weights = weights
        drawn = drawn_observations(self.model.observation_space, 8)
        if self.is_mapped:
            normalise = self.encoders[0].normalise
            found = foldable_layers(self.model, drawn if normalise is None else normalise(drawn))
            moved = {f"{name}.weight" for name in found}
        else:
            moved = set()
            for each in self.encoders:
                student = MovedLayers(each, layers=self.layers, example=drawn)
                moved |= policy_names(policy, each, student.names)
        copy_what_fits(policy, weights, may_differ=moved)
        mine, theirs = self.encoders[0], self.source.encoders[0]
        shapes = [[p.shape for p in each.parameters()] for each in (mine, theirs)]
        if shapes[0] == shapes[1]:
            self.read = self.source.teachers[0] if self.is_mapped else mine

    def _share_normalisation(self) -> None:
        """Show the policy observations as the source's was shown them, through VecNormalize."""
        normalised = self.model.get_vec_normalize_env()
        if normalised is not None and self.source.normalisation is not None:
            normalised.obs_rms = copy.deepcopy(self.source.normalisation)

    def run(
        self,
        settings: SearchSettings,
        *,
        frames: int,
        epsilon: float,
        rounds: int,
        data: Memory | None,
        force: bool,
        keep: bool,
        statistics_weight: float,
        select: str,
    ) -> RealignReport:
        """Gather, test, search, choose, test again."""
        used = 0
        weights = {n: value.clone() for n, value in self.model.policy.state_dict().items()}
        steps: Trajectories | None = None
        before: Detection | None = None
        finalists: list[RestartResult] = []
        moved: tuple[str, ...] = ()
        for part in range(rounds):
            memory = data
            if memory is None:
                memory = gather(
                    self.model, frames=frames // rounds, epsilon=epsilon, seed=self.seed + part
                )
                used += len(memory)
            gathered = Trajectories.from_memory(memory)
            if part == 0:
                normalised = self.model.get_vec_normalize_env()
                if normalised is not None:
                    normalised.training = False
                before = self._detect(gathered.of_steps(_first_frames(memory)))
                statistics = self._statistics(gathered)
                if before is not None and not before.differs and not force:
                    self._share_normalisation()
                    return self._report(used, before, None, statistics, None, [], ())
            steps = gathered if steps is None else Trajectories.join([steps, gathered])
            finalists, moved, played = self._search(steps, settings, statistics_weight, select)
            used += played
        assert steps is not None
        after = self._detect(steps)
        unclear = before is not None and after is not None and after.differs
        if unclear and not (force or keep or self._reads_other_sensors(before)):
            self.model.policy.load_state_dict(weights)
            self._share_normalisation()
            return self._report(used, before, after, statistics, None, finalists, ())
        return self._report(
            used, before, after, statistics, self._statistics(steps), finalists, moved
        )

    def _search(
        self,
        steps: Trajectories,
        settings: SearchSettings,
        statistics_weight: float,
        select: str,
    ) -> tuple[list[RestartResult], tuple[str, ...], int]:
        """Search, and write the best finalist into the model."""
        dynamics = self.source.dynamics(self.objective, seed=self.seed)
        n_frames = frames_in_stack(self.model)
        example = take(steps.observations, slice(0, 8))
        students: list[MovedLayers | InputMap]
        if self.is_mapped:
            how, teacher = dynamics[0].settings, self.source.teachers[0]
            assert isinstance(teacher, WhitenedInput)
            students = [
                InputMap(
                    teacher,
                    target=self.encoders[0],
                    seen_in_target=usual_observations(steps, how, self.generator),
                )
            ]
        else:
            students = [
                MovedLayers(each, layers=self.layers, example=example, n_frames=n_frames)
                for each in self.encoders
            ]
        held_out = _held_out(steps, dynamics[0].settings)
        state = int(self.generator.integers(2**31))
        starts = [
            student.restarts(settings.restarts, np.random.default_rng(state))
            for student in students
        ]
        found = search(
            [Part(s, d) for s, d in zip(students, dynamics, strict=False)],
            self.objective,
            steps.of_episodes(~held_out) if held_out.any() else steps,
            steps.of_episodes(held_out) if held_out.any() else steps,
            settings=settings,
            statistics_weight=statistics_weight,
            generator=self.generator,
            starts=starts,
        )
        scores: list[float | None] = [None] * len(found)
        played = 0
        if select == "return":
            for i, finalist in enumerate(found):
                self._write(students, finalist.values, steps, n_frames)
                scores[i], n = mean_return(self.model, seed=self.seed)
                played += n
            order = sorted(range(len(found)), key=lambda i: -float(scores[i] or 0.0))
            found, scores = [found[i] for i in order], [scores[i] for i in order]
        moved = self._write(students, found[0].values, steps, n_frames)
        results = [
            RestartResult(number=f.number, loss=f.loss, terms=f.terms, score=score)
            for f, score in zip(found, scores, strict=True)
        ]
        return results, moved, played

    def _write(
        self,
        students: Sequence[MovedLayers | InputMap],
        values: list[Restarts],
        steps: Trajectories,
        n_frames: int,
    ) -> tuple[str, ...]:
        """Write one restart's values into the model; the names of what moved."""
        if isinstance(students[0], InputMap):
            matrix, offset = students[0].linear(values[0])
            example = take(steps.observations, slice(0, 8))
            normalise = self.encoders[0].normalise
            example = example if normalise is None else normalise(example)
            student, best = students[0], {n: v[None] for n, v in values[0].items()}
            self.read = lambda seen: student.features(best, seen)[0]
            return tuple(
                fold(
                    self.model,
                    self.source.weights,
                    matrix,
                    offset,
                    example=example,
                    n_frames=n_frames,
                )
            )
        moved = []
        for encoder, each in zip(self.encoders, values, strict=True):
            own = dict(nn.Sequential(*encoder.stages).named_parameters())
            for name, value in each.items():
                own[name].data.copy_(value)
                moved.append(name)
        synchronise_targets(self.model.policy)
        self.read = self.encoders[0]
        return tuple(moved)

    def _detect(self, steps: Trajectories) -> Detection | None:
        """Compare the sensors; None where the source's encoder cannot read the target's."""
        return None if self.read is None else self._compare(steps)

    def _reads_other_sensors(self, before: Detection | None) -> bool:
        """Whether the realigned encoder reads the source's observations no longer."""
        assert before is not None
        return reads_other_sensors(before, self._compare(self.source.held_out()))

    def _compare(self, steps: Trajectories) -> Detection:
        """`L_dyn` of the student on some steps beside that of the source on its own."""
        assert self.read is not None
        dynamics = self.source.dynamics(OBJECTIVES["contrast"], seed=self.seed)[0]
        held_out = self.source.held_out()
        return detect(
            encode_all(self.source.teachers[0], held_out.observations),
            held_out,
            encode_all(self.read, steps.observations),
            steps,
            dynamics,
            generator=np.random.default_rng(self.seed),
        )

    def _statistics(self, steps: Trajectories) -> float | None:
        """`L_stat` of the student's features; None where the source cannot read them."""
        dynamics = self.source.dynamics(OBJECTIVES["contrast"], seed=self.seed)[0]
        usual = usual_observations(steps, dynamics.settings, np.random.default_rng(self.seed))
        if self.read is None:
            return None
        features = encode_all(self.read, usual)
        return float(statistics_loss(features, dynamics.random_mean, dynamics.covariance))

    def _report(
        self,
        used: int,
        before: Detection | None,
        after: Detection | None,
        statistics_before: float | None,
        statistics_after: float | None,
        finalists: list[RestartResult],
        moved: tuple[str, ...],
    ) -> RealignReport:
        dynamics = self.source.dynamics(OBJECTIVES["contrast"], seed=self.seed)[0]
        held_out = self.source.held_out()
        usual = usual_observations(held_out, dynamics.settings, np.random.default_rng(self.seed))
        of_source = statistics_loss(
            encode_all(self.source.teachers[0], usual), dynamics.random_mean, dynamics.covariance
        )
        changed = bool(moved) and (before is None or before.differs)
        measured = before or after
        return RealignReport(
            sensors_changed=changed,
            aligned=(not after.differs) if after is not None else not changed,
            frames=used,
            loss_source=None if measured is None else measured.loss_source,
            loss_before=None if before is None else before.loss_target,
            loss_after=None if after is None else after.loss_target,
            statistics_source=float(of_source),
            statistics_before=statistics_before,
            statistics_after=statistics_after,
            objective=self.objective.name,
            moved=moved,
            behaviour=dynamics.behaviour,
            restarts=finalists,
            notes=self.source.notes,
        )


def _held_out(steps: Trajectories, settings: DynamicsSettings) -> np.ndarray:
    """(n_episodes,) bool: a fifth of the episodes that have windows; none if only one has."""
    starts = steps.windows(settings.n_steps, changing=settings.changing)
    usable = np.unique(steps.episodes[starts])
    chosen = np.zeros(steps.n_episodes, np.bool_)
    if len(usable) > 1:
        chosen[usable[4::5] if len(usable) >= 5 else usable[-1:]] = True
    return chosen


def _first_frames(memory: Memory) -> np.ndarray:
    """(N,) bool over the steps of `Trajectories.from_memory`: the first 4,096 frames."""
    rows = memory.rows()
    order = np.lexsort((memory.steps(rows), memory.episodes(rows)))
    times = memory.times(rows)[order]
    early: np.ndarray = times <= np.sort(times)[min(_DETECTION_FRAMES, len(times)) - 1]
    return early
