"""The result of a comparison in one sentence, with its interval."""

from dataclasses import dataclass

from ..settings.arms import ARMS, OWN, arm_of
from ..settings.suite import raw_returns
from .arm_statistics import ArmSummary, auc, difference, reference_of, scores_of
from .experiment import Experiment
from .formatting import number, signed, with_interval
from .labels import CANDIDATE, parse_label, readable

FEW_SEEDS = 5
"""With fewer seeds, a bootstrap interval is too narrow to be conclusive."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The result in words."""

    sentence: str
    caveats: tuple[str, ...]
    """Limits of the result, one sentence each."""


def answer(experiment: Experiment, arms: list[ArmSummary]) -> Answer:
    """Which of the two main arms had the larger area, by how much, and whether that is certain.

    The candidate, contrastive distillation, is compared with the arm of `reference_of`. If there
    are several variants of the candidate, their range is given: none of them is selected.
    """
    if not arms:
        return Answer(
            sentence="No training on a target is finished, so nothing can be compared.",
            caveats=experiment.progress,
        )
    reference = reference_of(experiment)
    candidates = [arm for arm in arms if arm_of(arm.label) == CANDIDATE]
    candidates = candidates or [arm for arm in arms if arm_of(arm.label) != reference][:1]
    if len(candidates) > 1:
        return _of_variants(experiment, candidates, reference)
    if candidates and candidates[0].reference is not None:
        text = _of_two(experiment, candidates[0], candidates[0].reference)
        return Answer(sentence=text, caveats=_caveats(experiment, candidates))
    only = arms[0]
    value = "unknown" if only.auc is None else with_interval(only.auc)
    return Answer(
        sentence=f"{_upper(readable(only.label))} alone was tried: its area under the learning "
        f"curve is {value} (interquartile mean). There is nothing to compare it with.",
        caveats=_caveats(experiment, [only]),
    )


def _of_two(experiment: Experiment, candidate: ArmSummary, reference: str) -> str:
    targets = _shared_targets(experiment, candidate.label, reference)
    x, y = (scores_of(experiment, name, auc, targets) for name in (candidate.label, reference))
    found = difference(x, y) if targets else None
    name, other = _named(experiment, candidate.label), readable(reference)
    if found is None:
        return f"{_upper(name)} and {other} have no seed in common yet, so they cannot be compared."
    where = _where(experiment, found.n_runs, len(targets))
    if round(found.value, 2) == 0:
        first = (
            f"{where}, {name} and {other} had the same mean area under the learning curve, to two "
            "decimals"
        )
    else:
        more = "larger" if found.value > 0 else "smaller"
        first = (
            f"{where}, {name} had the {more} mean area under the learning curve than {other}, "
            f"by {signed(found.value)}"
        )
    if found.low is None or found.high is None:
        return f"{first}. From one seed there is no interval: it does not say which is better."
    interval = f"95 % interval {signed(found.low)} to {signed(found.high)}, paired over seeds"
    if found.excludes(0.0):
        certain = "The interval excludes 0"
        if found.n_runs < FEW_SEEDS:
            certain += f", but {found.n_runs} seeds make it too narrow: a hint, not a result"
    else:
        certain = "The interval includes 0: these seeds do not tell the two apart"
    return f"{first} ({interval}). {certain}."


def _of_variants(experiment: Experiment, candidates: list[ArmSummary], reference: str) -> Answer:
    known = sorted((a for a in candidates if a.auc is not None), key=lambda a: a.auc.value)  # type: ignore[union-attr]
    if not known:
        return Answer(
            sentence="No variant has a seed with all targets yet, so none can be compared.",
            caveats=_caveats(experiment, candidates),
        )
    least, most = known[0], known[-1]
    assert least.auc is not None and most.auc is not None
    where = _where(experiment, max(len(a.seeds) for a in known))
    one = _named(experiment, most.label)
    name = one.replace(readable(most.label), readable(arm_of(most.label)))
    text = (
        f"{where}, the {len(known)} variants of {name} had areas "
        f"under the learning curve from {with_interval(least.auc)} ({_axes(least)}) to "
        f"{with_interval(most.auc)} ({_axes(most)})"
    )
    compared = [a.difference for a in known if a.difference and a.difference.has_interval]
    if compared:
        compared.sort(key=lambda found: found.value)
        apart = [found.value for found in compared if found.excludes(0.0)]
        above, below = sum(value > 0 for value in apart), sum(value < 0 for value in apart)
        certain = f"the intervals of {above} lie above 0, of {below} below"
        text += (
            f". Their differences to {readable(reference)}, paired over seeds, run from "
            f"{with_interval(compared[0], sign=True)} to {with_interval(compared[-1], sign=True)}; "
            f"{certain if apart else 'no interval excludes 0'}"
        )
    elif any(arm.difference is not None for arm in known):
        text += ". From one seed there are no intervals: it does not say which is better"
    many = (
        "The best of many variants looks better than it is: it was chosen after the fact, and its "
        "interval does not account for that."
    )
    n_seeds = max(len(arm.seeds) for arm in known)
    few = f"With {n_seeds} seeds, intervals are too narrow: hints, not results."
    caveats = (many, *((few,) if 1 < n_seeds < FEW_SEEDS else ()), *_caveats(experiment, known))
    return Answer(sentence=f"{text}.", caveats=caveats)


def _named(experiment: Experiment, label: str) -> str:
    """The arm, and the loss that the run used instead of contrastive distillation, if any."""
    arm, loss = ARMS.get(arm_of(label)), experiment.config.get("loss", CANDIDATE)
    is_own = arm is not None and OWN in (arm.source_loss, arm.target_loss)
    if loss == CANDIDATE or not is_own or "loss" in parse_label(label).axes:
        return readable(label)
    return f"{readable(label)} (here with the loss {loss})"


def _axes(arm: ArmSummary) -> str:
    axes = parse_label(arm.label).axes
    return ", ".join(f"{name} {value}" for name, value in axes.items()) or "default settings"


def _shared_targets(experiment: Experiment, one: str, other: str) -> list[str]:
    """Targets on which both arms have finished the same seed."""
    done = {(row.arm, row.env_id, row.seed) for row in experiment.targets}
    seeds = experiment.seeds
    return [
        env_id
        for env_id in experiment.target_ids
        if any({(one, env_id, seed), (other, env_id, seed)} <= done for seed in seeds)
    ]


def _where(experiment: Experiment, n_seeds: int, n_targets: int | None = None) -> str:
    n = len(experiment.target_ids)
    seeds = number(n_seeds, "seed")
    if n_targets is not None and n_targets < n:
        return f"Over {n_targets} of {number(n, 'target')} and {seeds}"
    return f"Over {number(n, 'target')} and {seeds}"


def _caveats(experiment: Experiment, arms: list[ArmSummary]) -> tuple[str, ...]:
    caveats = list(experiment.progress)
    other_loss = [a for a in experiment.arms if _named(experiment, a) != readable(a)]
    if other_loss:
        names = ", ".join(dict.fromkeys(readable(arm_of(label)) for label in other_loss))
        caveats.append(
            f"This run's loss is {experiment.config['loss']}; these arms, which are named after "
            f"contrastive distillation, train with it: {names}."
        )
    if experiment.raw_ids:
        caveats.append(raw_returns(experiment.raw_ids))
    missed = {(row.arm, row.seed) for row in experiment.targets if row.source_learnt is False}
    started = {(row.arm, row.seed) for row in experiment.targets if row.source_learnt is not None}
    if missed:
        caveats.append(
            f"{len(missed)} of {len(started)} pairs of arm and seed start from a source that was "
            "not learnt; they are included."
        )
    if left := sorted({seed for arm in arms for seed in arm.left_out}):
        seeds = ", ".join(map(str, left))
        caveats.append(f"Seeds left out because they lack a target: {seeds}.")
    negative = [readable(arm.label) for arm in arms if arm.is_negative]
    if negative:
        caveats.append(f"Below training from scratch (negative transfer): {', '.join(negative)}.")
    return tuple(caveats)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
