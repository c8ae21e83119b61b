"""The numbers and the sentence, against what was put in."""

from pathlib import Path

import pytest

from contrastive_distillation.transfer import read_experiment
from contrastive_distillation.transfer.report.answer import answer
from contrastive_distillation.transfer.report.arm_statistics import ArmSummary, summarise_arms
from contrastive_distillation.transfer.report.experiment import Experiment
from contrastive_distillation.transfer.report.formatting import frames, score, signed, with_interval
from contrastive_distillation.transfer.report.labels import (
    parse_label,
    readable,
    short_env,
    styles,
)
from contrastive_distillation.transfer.report.target_statistics import summarise_target

from .directories import TARGETS, Score, write_run

ARMS = ("contrastive_distillation", "fine_tune", "scratch")
LEVEL = {"contrastive_distillation": 0.6, "fine_tune": 0.5, "scratch": 0.2, "frozen_encoder": 0.1}


def told(directory: Path, score: Score, **how: object) -> tuple[Experiment, str, tuple[str, ...]]:
    arms = how.pop("arms", ARMS)
    write_run(directory, arms=arms, score=score, **how)  # type: ignore[arg-type]
    experiment = read_experiment(directory)
    found = answer(experiment, summarise_arms(experiment))
    return experiment, found.sentence, found.caveats


def by_label(experiment: Experiment) -> dict[str, ArmSummary]:
    return {arm.label: arm for arm in summarise_arms(experiment)}


def lucky(arm: str, env_id: str, seed: int) -> float:
    """Seeds differ much, arms of one seed always by the same."""
    return LEVEL[arm] + 0.05 * seed


def test_a_difference_that_every_seed_shows(tmp_path: Path) -> None:
    experiment, sentence, caveats = told(tmp_path, lucky, seeds=range(6))
    assert sentence == (
        "Over 2 targets and 6 seeds, contrastive distillation had the larger mean area under the "
        "learning curve than fine tune, by +0.10 (95 % interval +0.10 to +0.10, paired over "
        "seeds). The interval excludes 0."
    )
    assert caveats == ()
    arm = by_label(experiment)["contrastive_distillation"]
    assert arm.auc is not None and arm.auc.value == pytest.approx(0.725)  # 0.60 … 0.85
    assert arm.improvement is not None and arm.improvement.value == pytest.approx(28 / 36)
    assert arm.forward is not None and arm.forward.value == pytest.approx(0.4 / 0.675)
    assert arm.retention is not None and arm.retention.value == pytest.approx(-0.1)


def test_a_difference_that_seeds_disagree_on_is_called_open(tmp_path: Path) -> None:
    def mixed(arm: str, env_id: str, seed: int) -> float:
        return 0.5 + (0.1 * (-1) ** seed + 0.02 if arm == "contrastive_distillation" else 0.0)

    _, sentence, _ = told(tmp_path, mixed, seeds=range(6))
    assert "by +0.02 (95 % interval −" in sentence
    assert sentence.endswith("includes 0: these seeds do not tell the two apart.")


def test_the_loser_is_said_to_lose(tmp_path: Path) -> None:
    _, sentence, _ = told(tmp_path, lambda a, e, s: {**LEVEL, ARMS[0]: 0.3}[a], seeds=range(5))
    assert "contrastive distillation had the smaller mean area" in sentence
    assert "by −0.20" in sentence


def test_few_seeds_make_a_hint(tmp_path: Path) -> None:
    _, sentence, _ = told(tmp_path, lucky, seeds=range(3))
    assert sentence.endswith("excludes 0, but 3 seeds make it too narrow: a hint, not a result.")


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    experiment, sentence, _ = told(tmp_path, lucky, seeds=[4])
    assert "Over 2 targets and one seed" in sentence
    assert sentence.endswith("From one seed there is no interval: it does not say which is better.")
    assert "95 %" not in sentence
    for arm in summarise_arms(experiment):
        assert arm.auc is not None and not arm.auc.has_interval


def test_equal_arms_are_equal(tmp_path: Path) -> None:
    _, sentence, _ = told(tmp_path, lambda a, e, s: 0.5, seeds=range(5))
    assert "had the same mean area under the learning curve, to two decimals (95 % " in sentence
    assert "includes 0" in sentence


def test_sources_negative_transfer_and_gaps_are_caveats(tmp_path: Path) -> None:
    def poor(arm: str, env_id: str, seed: int) -> float:
        return {**LEVEL, ARMS[0]: 0.1}[arm]

    _, _, caveats = told(
        tmp_path,
        poor,
        unlearnt=[("fine_tune", 0), ("fine_tune", 1)],
        skipped=[("contrastive_distillation", TARGETS[0], 2)],
    )
    text = " ".join(caveats)
    assert "Unfinished: 17 of 18 trainings" in text
    assert "2 of 6 pairs of arm and seed start from a source that was not learnt" in text
    assert "Seeds left out because they lack a target: 2." in text
    assert "(negative transfer): contrastive distillation." in text


def test_an_unfinished_grid_is_compared_where_it_can_be(tmp_path: Path) -> None:
    skipped = [("fine_tune", TARGETS[1], seed) for seed in range(5)]
    _, sentence, _ = told(tmp_path, lucky, seeds=range(5), skipped=skipped)
    assert sentence.startswith("Over 1 of 2 targets and 5 seeds, contrastive distillation")
    nothing = [("fine_tune", t, seed) for t in TARGETS for seed in range(5)]
    arms = ("contrastive_distillation", "fine_tune")
    _, sentence, caveats = told(tmp_path / "b", lucky, arms=arms, seeds=range(5), skipped=nothing)
    assert "There is nothing to compare it with" in sentence
    assert "10 of 20 trainings" in caveats[0]


def test_variants_are_ranged_and_none_is_picked(tmp_path: Path) -> None:
    labels = [f"contrastive_distillation+n_negatives={k}" for k in (8, 32, 128)]

    def more_is_better(arm: str, env_id: str, seed: int) -> float:
        k = parse_label(arm).number("n_negatives")
        return (0.5 if k is None else 0.45 + k / 1000) + 0.01 * seed

    _, sentence, caveats = told(
        tmp_path, more_is_better, arms=[*labels, "fine_tune"], seeds=range(5), command="ablate"
    )
    assert "the 3 variants of contrastive distillation had areas" in sentence
    assert "(n_negatives 8) to 0.60" in sentence and "(n_negatives 128)" in sentence
    assert "Their differences to fine tune, paired over seeds, run from −0.04 (" in sentence
    assert "; the intervals of 1 lie above 0, of 2 below." in sentence
    assert "chosen after the fact" in caveats[0]


def test_variants_are_held_against_their_own_counterparts(tmp_path: Path) -> None:
    level = {"fine_tune": 0.4, "scratch": 0.1, "contrastive_distillation": 0.5}

    def value(arm: str, env_id: str, seed: int) -> float:
        variant = parse_label(arm)
        return level[variant.arm] + 0.1 * (variant.number("gamma") or 0.0) + 0.01 * seed

    gammas = ["+gamma=0", "+gamma=1"]
    arms = [f"contrastive_distillation{g}+n_negatives=8" for g in gammas]
    arms += [f"{arm}{g}" for arm in ("fine_tune", "scratch") for g in gammas]
    write_run(tmp_path, arms=arms, score=value, seeds=range(5), command="ablate")
    found = by_label(read_experiment(tmp_path))
    for g in gammas:
        arm = found[f"contrastive_distillation{g}+n_negatives=8"]
        assert arm.reference == f"fine_tune{g}"
        assert arm.difference is not None and arm.difference.value == pytest.approx(0.1)
        assert arm.over_scratch is not None and arm.over_scratch.value == pytest.approx(0.4)
        assert found[f"fine_tune{g}"].reference is None
        assert found[f"scratch{g}"].over_scratch is None


def test_without_rivals_another_arm_is_the_reference(tmp_path: Path) -> None:
    arms = ("contrastive_distillation", "frozen_encoder")
    _, sentence, _ = told(tmp_path, lucky, arms=arms, seeds=range(5))
    assert "distillation had the larger mean area under the learning curve than frozen" in sentence


def test_the_loss_of_the_run_is_named_where_arms_are_named_after_another(tmp_path: Path) -> None:
    _, sentence, caveats = told(tmp_path, lucky, seeds=range(5), loss="curl")
    assert "contrastive distillation (here with the loss curl) had the larger" in sentence
    assert caveats == (
        "This run's loss is curl; these arms, which are named after contrastive distillation, "
        "train with it: contrastive distillation.",
    )


def test_every_target_by_hand(tmp_path: Path) -> None:
    write_run(tmp_path, arms=ARMS, score=lucky)
    found = {each.label: each for each in summarise_target(read_experiment(tmp_path), TARGETS[0])}
    tuned = found["fine_tune"]
    assert tuned.auc.value == pytest.approx(0.55)
    assert tuned.asymptote is not None and tuned.asymptote.value == pytest.approx(0.55)
    assert tuned.forward == pytest.approx(0.3 / 0.75)
    assert tuned.to_half is not None and tuned.to_half.median == 0
    assert tuned.to_half_charged is not None and tuned.to_half_charged.median == 200_000
    assert tuned.to_learnt is not None and tuned.to_learnt.median is None
    assert found["scratch"].forward is None and found["scratch"].jumpstart is None
    assert not tuned.is_negative


@pytest.mark.parametrize(
    ("label", "arm", "axes"),
    [
        ("fine_tune", "fine_tune", {}),
        (
            "contrastive_distillation+negatives=uniform+n_negatives=8",
            "contrastive_distillation",
            {"negatives": "uniform", "n_negatives": "8"},
        ),
        ("a+weight=1e+2+every=4", "a", {"weight": "1e+2", "every": "4"}),
        ("odd+name", "odd+name", {}),
        ("a+loss=my.module:Loss", "a", {"loss": "my.module:Loss"}),
    ],
)
def test_labels_are_taken_apart(label: str, arm: str, axes: dict[str, str]) -> None:
    found = parse_label(label)
    assert (found.arm, found.axes) == (arm, axes)
    assert found.number("weight") == (100.0 if "weight" in axes else None)


def test_no_two_arms_look_alike_and_the_best_known_always_the_same() -> None:
    labels = [*ARMS, *(f"arm{i}" for i in range(20))]
    found = styles(labels)
    looks = {(style.colour, str(style.dashes)) for style in found.values()}
    assert len(looks) == len(labels)
    alone = styles(["fine_tune"])["fine_tune"]
    assert alone == found["fine_tune"]
    assert len({str(found[arm].dashes) for arm in ARMS}) == 3


def test_text() -> None:
    assert readable("a_b+k=8") == "a b, k 8"
    assert short_env("MiniGrid-DoorKey-8x8-v0") == "DoorKey-8x8"
    assert short_env("contrastive/CartPole-Heavy-v0") == "CartPole-Heavy"
    assert (score(-0.001), signed(-0.123), signed(0.0)) == ("0.00", "−0.12", "±0.00")
    assert with_interval(None) == "–"
    assert [frames(x) for x in (950, 304_128, 1_500_000, 999_999)] == ["950", "304k", "1.5M", "1M"]
