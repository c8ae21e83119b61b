"""`realign`: give an agent its skill back when its sensors changed, without a reward."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
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
    nearest_names,
    take,
)

from ..builders import observation_kind
from ..encoder_lookup import encoder_names, read_encoder
from ..observation_encoder import blank_observations
from ..weight_names import with_every_name
from .all_or_nothing import all_or_nothing
from .copying import check_source_fits, copy_what_fits, policy_names
from .detection import Detection, detect, reads_other_sensors
from .folding import fold, foldable_layers, synchronise_targets
from .gathering import gather
from .input_layers import drawn_observations
from .pairs import View, realign_on_pairs
from .play import mean_return
from .report import RealignReport, RestartResult
from .search import Part, SearchSettings, search
from .source import Source, SourceAgent, frames_in_stack, open_source, usual_observations
from .students import InputMap, MovedLayers, Restarts, WhitenedInput

SEARCHES: dict[str, SearchSettings] = {
    "grid": SearchSettings(),
    "picture": SearchSettings(updates=800, ramp=0.6),
    "mixed": SearchSettings(updates=800, ramp=0.6),
    "vector": SearchSettings(
        finalists=2,
        growth=1.5,
        rate=1e-2,
        n_usual=512,
    ),
}
"""How realigned layers are searched for, by the kind of observation."""

NEGATIVES = ("in_batch", "uniform", "nearest")
_N_NEGATIVES = {"in_batch": 0, "uniform": 256, "nearest": 64}
_DETECTION_FRAMES = 4_096
_N_FINALISTS = 4


def realign(
    model: BaseAlgorithm,
    *,
    source: BaseAlgorithm | SourceAgent | str | Path,
    source_memory: Memory | None = None,
    frames: int = 20_000,
    epsilon: float | None = None,
    rounds: int = 1,
    restarts: int | None = None,
    updates: int | None = None,
    layers: str | Sequence[str] = "first",
    objective: str = "contrast_statistics",
    statistics_weight: float = 3.0,
    negatives: str = "in_batch",
    n_negatives: int | None = None,
    select: Literal["loss", "return"] = "loss",
    encoder: str = "auto",
    data: Memory | None = None,
    view: View | None = None,
    pairs: tuple[Observations, Observations] | None = None,
    force: bool = False,
    keep: bool = False,
    seed: int = 0,
) -> RealignReport:
    """Carry a source agent over to other sensors without using a reward.

    All weights of the source that fit are copied, its heads always. Then the model plays random
    actions in its environment, and the layers that read the observation move until the source's
    frozen latent dynamics predict the features of what follows, and the features have the
    source's statistics. The rest of the policy stays the source's.

    Args:
        model: the agent with the new sensors, with its environment. It is changed all at once at
            the end, or not at all.
        source: the agent that has learnt with the old sensors: a model, a Stable-Baselines3 zip,
            or what `transfer.load_source` returns.
        source_memory: what the source saw and did, with the old sensors. Without it, or where it
            has no steps with random actions, the source plays 40,000 frames of these in its own
            environment, if it has one.
        frames: to gather in all, over all environments.
        epsilon: chance of a random action while gathering; None: 1.
        rounds: the frames are gathered in so many parts, each after a realignment.
        restarts: of the search; None: 8.
        updates: of the restart that goes furthest; None: by the kind of observation.
        layers: "first": those that read the observation (for vectors: one linear map for all
            networks); "encoder": all of the encoder; else names of its layers.
        objective: a name of `losses.OBJECTIVES`; with pairs "contrast" (also where the default is
            left), "squared_error" or "policy" (divergence from the source's actions).
        statistics_weight: λ of the feature statistics.
        negatives: "in_batch", "uniform" over what was gathered, or "nearest" to the positive in
            the student's present features.
        n_negatives: of "uniform" (default 256) and "nearest" (64).
        select: choose among the finalists by their loss, which needs no reward, or by their
            return in a few episodes, whose frames are charged.
        encoder: see `find_encoder`; "auto": all encoders of the agent.
        data: what was gathered in the target elsewhere, in place of frames.
        view: shows a batch of source observations as the new sensors would; no frame is gathered.
            The model's encoder may be of another architecture, and then learns as a whole.
        pairs: (source observations, target observations) of the same states, in place of a view.
        force: realign also where the test finds that the sensors agree.
        keep: what was found, also where rooms or dynamics seem to differ and not the sensors: the
            encoder that was realigned still reads the source's own observations. Then it is
            otherwise left as it was.
        seed: of everything random.

    Returns:
        What was found and done; `report.frames` are added to `model.num_timesteps`.

    Raises:
        ValueError: a setting is outside its range, the action spaces or the widths of the
            features differ, the source has no steps, or no layer reads the observation.
        FloatingPointError: a loss is not finite; the model is as it was.
    """
    began = time.perf_counter()
    if view is not None or pairs is not None:
        if (view is None) + (pairs is None) + (data is None) != 2:
            raise ValueError("pass one of data=, view= and pairs=, not several")
        _check(1, restarts, updates, 1, negatives, n_negatives, select, None)
        _check_zip(model, source)
        report = realign_on_pairs(
            model,
            source=source,
            source_memory=source_memory,
            view=view,
            pairs=pairs,
            names=encoder_names(model) if encoder == "auto" else [encoder],
            objective=objective,
            layers=layers,
            restarts=restarts,
            updates=updates,
            seed=seed,
        )
        return replace(report, seconds=time.perf_counter() - began)
    chosen = _objective(objective)
    _check(frames, restarts, updates, rounds, negatives, n_negatives, select, data)
    _check_numbers(epsilon, statistics_weight)
    _check_data(model, data)
    if data is not None and rounds > 1:
        raise ValueError(f"rounds is {rounds}, but data is gathered already: use rounds=1")
    if select == "return" and model.get_env() is None:
        raise ValueError(
            "select='return' plays episodes, and the model has no environment: call "
            "model.set_env(env), or use select='loss'"
        )
    _check_zip(model, source)
    names = encoder_names(model) if encoder == "auto" else [encoder]
    opened = open_source(
        source,
        like=model,
        names=names,
        memory=source_memory if source_memory is not None and len(source_memory) else None,
        n_frames=frames_in_stack(model),
        seed=seed,
    )
    check_source_fits(model, names, action_space=opened.action_space, encoders=opened.encoders)
    with all_or_nothing(model):
        job = _Realignment(model, opened, names, chosen, layers=layers, seed=seed)
        job.copy_weights()
        settings = _settings(job.kind, restarts, updates, negatives, n_negatives, select)
        report = job.run(
            settings,
            frames=frames,
            epsilon=1.0 if epsilon is None else epsilon,
            rounds=rounds,
            data=data,
            force=force,
            keep=keep,
            statistics_weight=statistics_weight,
            select=select,
        )
    model.num_timesteps += report.frames
    if isinstance(model, OffPolicyAlgorithm) and model.replay_buffer is not None:
        model.replay_buffer.reset()
        model.learning_starts += report.frames  # it fills its buffer first, as a fresh model does
    return replace(report, seconds=time.perf_counter() - began)


class _Realignment:
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

    def _leave_alone(self) -> None:
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
                    self._leave_alone()
                    return self._report(used, before, None, statistics, None, [], ())
            steps = gathered if steps is None else Trajectories.join([steps, gathered])
            finalists, moved, played = self._search(steps, settings, statistics_weight, select)
            used += played
        assert steps is not None
        after = self._detect(steps)
        unclear = before is not None and after is not None and after.differs
        if unclear and not (force or keep or self._reads_other_sensors(before)):
            self.model.policy.load_state_dict(weights)
            self._leave_alone()
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


def _settings(
    kind: str,
    restarts: int | None,
    updates: int | None,
    negatives: str,
    n_negatives: int | None,
    select: str,
) -> SearchSettings:
    usual = SEARCHES[kind]
    n = usual.restarts if restarts is None else restarts
    finalists = _N_FINALISTS if select == "return" else usual.finalists
    return replace(
        usual,
        restarts=n,
        finalists=min(finalists, n),
        updates=usual.updates if updates is None else updates,
        negatives=negatives,
        n_negatives=_N_NEGATIVES[negatives] if n_negatives is None else n_negatives,
    )


def _objective(name: str) -> Objective:
    if name == "policy":
        raise ValueError("objective 'policy' compares actions on pairs: pass view= or pairs=")
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective '{name}'. {nearest_names(name, OBJECTIVES)}")
    return OBJECTIVES[name]


def _check(
    frames: int,
    restarts: int | None,
    updates: int | None,
    rounds: int,
    negatives: str,
    n_negatives: int | None,
    select: str,
    data: Memory | None,
) -> None:
    for name, value in (
        ("restarts", restarts), ("updates", updates), ("rounds", rounds),
        ("n_negatives", n_negatives),
    ):  # fmt: skip
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be 1 or more")
    if data is None and frames < rounds:
        raise ValueError(
            f"frames is {frames}: nothing would be gathered; use 20_000 or so, or pass data=, "
            "view= or pairs="
        )
    named = {"negatives": (negatives, NEGATIVES), "select": (select, ("loss", "return"))}
    for name, (given, choices) in named.items():
        if given not in choices:
            raise ValueError(f"{name} is {given!r}; choose one of {', '.join(choices)}")


def _check_numbers(epsilon: float | None, statistics_weight: float) -> None:
    if epsilon is not None and not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon is {epsilon}; it is a chance, in [0, 1]")
    if not 0.0 <= statistics_weight < float("inf"):
        raise ValueError(f"statistics_weight is {statistics_weight}; it must be 0 or more")


def _check_zip(model: BaseAlgorithm, source: object) -> None:
    normalised = model.get_vec_normalize_env()
    if isinstance(source, str | Path) and normalised is not None and normalised.norm_obs:
        raise ValueError(
            f"{source} does not hold the statistics of the source's VecNormalize; load the source "
            "with its environment, VecNormalize.load(path, env), and pass the model: source=model"
        )


def _check_data(model: BaseAlgorithm, data: Memory | None) -> None:
    if data is None:
        if model.get_env() is None:
            raise ValueError(
                "the model has no environment to gather frames in: call model.set_env(env), or "
                "pass data=, view= or pairs="
            )
        return
    if not len(data):
        raise ValueError("data is a memory without a step; gather some, or leave it out")
    found = _shapes(data.observations(data.rows()[:1]))
    expected = _shapes(blank_observations(model.observation_space, 1))
    if found != expected:
        raise ValueError(
            f"data holds observations of the shapes {found}, the model reads {expected}; pass a "
            "memory of the target's own observations"
        )


def _shapes(observations: Observations) -> dict[str, tuple[int, ...]]:
    parts = observations if isinstance(observations, dict) else {"observation": observations}
    return {name: array.shape[1:] for name, array in parts.items()}
