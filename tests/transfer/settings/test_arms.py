"""The arms as plans: what they share, and what each alone has."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from contrastive_distillation.envs import get_suite, suite_settings
from contrastive_distillation.losses import LOSSES, AuxiliaryLoss, ContrastiveDistillation
from contrastive_distillation.transfer import (
    ARMS,
    SettingsError,
    TrainingSpec,
    TransferSettings,
    plan_transfer,
)
from contrastive_distillation.transfer.settings import loss_choice
from contrastive_distillation.transfer.settings.command_line import RESOLVED
from contrastive_distillation.transfer.study import arm_trainings

OF_SENSORS = {
    name
    for name, arm in ARMS.items()
    if arm.realign is not None
    or name.startswith("first_layer_")
    or name == "contrastive_distillation_online"
}
RIVALS = set(ARMS) - OF_SENSORS - {
    "contrastive_distillation", "contrastive_source_only", "contrastive_target_only", "fine_tune",
    "frozen_encoder", "new_head", "scratch", "scratch_source_budget", "random_encoder",
    "random_teacher", "shuffled_values", "equal_compute", "unrelated_source",
}  # fmt: skip
HERE = [name for name in ARMS if name not in RIVALS | OF_SENSORS]

ITS_SOURCE = {"needs", "source.directory"}


def plan(*arms: str, **settings: Any) -> dict[str, TrainingSpec]:
    """The specs by name, of one target and seed."""
    chosen: dict[str, Any] = {"suite": "keydoor", "target": ("MiniGrid-UnlockPickup-v0",)}
    chosen |= {"negatives": "value_contrast", "output": "nowhere", "arms": arms}
    return {spec.name: spec for spec in plan_transfer(TransferSettings(**chosen | settings)).specs}


def target_of(specs: dict[str, TrainingSpec], arm: str) -> TrainingSpec:
    return specs[f"targets/{arm}/MiniGrid-UnlockPickup-v0/seed0"]


def flat(spec: TrainingSpec) -> dict[str, Any]:
    """The fields of a spec; those of a group behind its name."""
    values = dict(vars(spec))
    for group in ("task", "agent", "source", "runtime"):
        values |= {f"{group}.{name}": value for name, value in vars(values.pop(group)).items()}
    return values


def differences(spec: TrainingSpec, other: TrainingSpec) -> set[str]:
    there = flat(other)
    return {k for k, value in flat(spec).items() if value != there[k]} - {"name", "arms"}


def test_arms_share_sources_of_a_kind() -> None:
    specs = plan(*HERE)
    sources = {name: set(spec.arms) for name, spec in specs.items() if spec.role == "source"}
    assert sources == {
        "sources/with_loss-seed0": {
            "contrastive_distillation", "contrastive_source_only", "random_teacher",
        },
        "sources/plain-seed0": {
            "contrastive_target_only", "fine_tune", "frozen_encoder", "new_head",
        },
        "sources/shuffled_values-seed0": {"shuffled_values"},
        "sources/equal_compute-seed0": {"equal_compute"},
        "sources/unrelated-seed0": {"unrelated_source"},
    }  # fmt: skip
    assert len(specs) == len(sources) + len(HERE)
    for spec in specs.values():
        if spec.role == "target" and spec.source.directory is not None:
            assert spec.needs in sources
            assert spec.arms[0] in specs[spec.needs].arms
            assert spec.source.directory == f"../../../../{spec.needs}"


@pytest.mark.parametrize(
    ("arm", "beside", "on_source", "on_target"),
    [
        ("random_teacher", "contrastive_distillation", set(), {"source.random_teacher"}),
        ("shuffled_values", "contrastive_distillation", {"loss"}, {"loss", *ITS_SOURCE}),
        ("equal_compute", "fine_tune", {"matched_loss"}, {"matched_loss", *ITS_SOURCE}),
        ("unrelated_source", "fine_tune", {"task.env_ids", "task.n_envs"}, ITS_SOURCE),
        ("random_encoder", "scratch", None, {"source.mode"}),
        ("frozen_encoder", "fine_tune", set(), {"source.mode"}),
        ("new_head", "fine_tune", set(), {"source.mode"}),
        ("contrastive_target_only", "fine_tune", set(), {"loss", "source.teacher"}),
        (
            "scratch_source_budget", "scratch", None,
            {"needs", "source.adds_frames_of", "source.extra_frames"},
        ),
    ],
)  # fmt: skip
def test_an_arm_differs_in_what_it_says(
    arm: str, beside: str, on_source: set[str] | None, on_target: set[str]
) -> None:
    specs = plan(arm, beside)
    one, other = target_of(specs, arm), target_of(specs, beside)
    assert differences(one, other) == on_target
    if on_source is not None:
        assert one.needs and other.needs
        assert differences(specs[one.needs], specs[other.needs]) == on_source


def test_shuffled_values_differ_in_that_alone() -> None:
    specs = plan("shuffled_values", "contrastive_distillation", loss_settings=("temperature=0.2",))
    one, other = (target_of(specs, a) for a in ("shuffled_values", "contrastive_distillation"))
    assert one.loss == replace(
        other.loss, settings={**other.loss.settings, "shuffled_values": True}
    )
    assert one.needs and specs[one.needs].loss == one.loss


def test_frames_of_the_source_are_added() -> None:
    specs = plan("scratch_source_budget", frames=1_000, source_frames=5_000)
    assert set(specs) == {
        "sources/plain-seed0", "targets/scratch_source_budget/MiniGrid-UnlockPickup-v0/seed0",
    }  # fmt: skip
    spec = target_of(specs, "scratch_source_budget")
    assert (spec.task.frames, spec.source.extra_frames) == (1_000, 5_000)
    assert spec.most_frames == 6_144  # 24 steps of 256 environments
    assert spec.needs == "sources/plain-seed0" and spec.source.directory is None
    assert specs["sources/plain-seed0"].arms == (), "no part of its own curve"


def test_the_unrelated_source_is_the_suites_own(tmp_path: Path) -> None:
    own = {**suite_settings(get_suite("doorkey")), "unrelated": "MiniGrid-Unlock-v0"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    specs = plan("unrelated_source", suite=str(tmp_path / "own.yaml"), target=())
    source = specs["sources/unrelated-seed0"]
    assert source.task.env_ids == ("MiniGrid-Unlock-v0",)
    read = TrainingSpec.from_config(source.config(), name="", arms=(), needs=None)
    assert read.task.suite.unrelated == "MiniGrid-Unlock-v0"


def test_controls_alone_say_what_they_are() -> None:
    """So that runs of before there were controls are found again."""
    for spec in plan(*HERE).values():
        resolved = spec.config()[RESOLVED]
        added = {"random_teacher", "matched_loss", "adds_frames_of"} & set(resolved)
        is_control = {arm.partition("+")[0] for arm in spec.arms} <= {
            "random_teacher", "equal_compute", "scratch_source_budget",
        }  # fmt: skip
        assert bool(added) == (is_control and bool(spec.arms))


class Untaught(AuxiliaryLoss):
    """A loss of one's own that takes no teacher."""

    name = "untaught"

    def __init__(self, *, negatives: str = "uniform") -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("arms", "settings", "says"),
    [
        (
            ["shuffled_values"],
            {"negatives": "uniform"},
            "use returns, so shuffling them has no effect",
        ),
        (["equal_compute"], {"loss": "none"}, "--loss none has no loss"),
        (
            ["random_teacher"],
            {"loss": f"{__name__}:Untaught"},
            "Untaught takes no teacher that could be random",
        ),
        (
            ["unrelated_source"],
            {"suite": "dynamics", "target": (), "agent": "dqn"},
            "the suite dynamics has no unrelated source; only grids have one by default",
        ),
    ],
)
def test_arms_that_cannot_be_are_refused(
    arms: list[str], settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        plan(*arms, **settings)
    assert arms[0] in str(caught.value)


@pytest.fixture
def all_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rival's loss is there: for those which are not, a stand-in."""

    def stand_in(name: str) -> type[ContrastiveDistillation]:
        suits = {"kickstarting": ("ppo",), "qdagger": ("dqn",)}.get(name)
        return type(name, (ContrastiveDistillation,), {"name": name, "agents": suits})

    losses = {**{name: stand_in(name) for name in RIVALS}, **LOSSES}
    monkeypatch.setattr(loss_choice, "LOSSES", losses)
    monkeypatch.setattr(loss_choice, "loss_class", losses.__getitem__)
    monkeypatch.setattr(loss_choice, "make_loss", lambda name, **settings: losses[name](**settings))


def test_every_rival_has_its_loss_where_it_acts(all_losses: None) -> None:
    rivals = sorted(RIVALS - {"qdagger"})
    specs = plan(*rivals, "fine_tune", n_negatives=7)
    for name in rivals:
        spec = target_of(specs, name)
        assert spec.loss.name == name
        assert "n_negatives" not in spec.loss.settings, "that is for the run's own loss"
        assert spec.needs
        source = specs[spec.needs]
        if ARMS[name].source_kind == "plain":
            assert spec.source.teacher and source.loss.name == "none"
            assert source is specs["sources/plain-seed0"]
        else:
            assert not spec.source.teacher and source.loss.name == name
            assert source.arms == (name,)
    assert {"curl", "atc", "spr", "vicreg", "info_nce", "value_contrast_positives"} == {
        name for name in RIVALS if ARMS[name].source_kind == name
    }


@pytest.mark.parametrize(("arm", "agent"), [("kickstarting", "dqn"), ("qdagger", "ppo")])
def test_a_rival_for_another_agent_is_refused(all_losses: None, arm: str, agent: str) -> None:
    with pytest.raises(SettingsError, match=f"--arms {arm}: its loss is for --agent .*, not"):
        plan(arm, agent=agent)


def test_a_rival_whose_loss_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (arm_trainings, loss_choice):
        monkeypatch.setattr(module, "LOSSES", {"contrastive_distillation": ContrastiveDistillation})
    with pytest.raises(SettingsError, match="--arms atc: its loss atc is unknown; there are: c"):
        plan("atc")
