"""Settings that vary: read as their flags are, and multiplied only where they matter."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from contrastive_distillation.run_agent import main
from contrastive_distillation.transfer import (
    AblateSettings,
    SettingsError,
    TrainingSpec,
    forecast,
    parse_command_line,
    plan_transfer,
)
from contrastive_distillation.transfer.settings.commands import TransferSettings

SMALL: dict[str, Any] = {
    "source": ("MiniGrid-Empty-5x5-v0",),
    "target": ("MiniGrid-Empty-6x6-v0",),
    "output": "nowhere",
}
ARMS = ("contrastive_distillation", "contrastive_source_only", "contrastive_target_only",
        "fine_tune", "equal_compute", "scratch", "scratch_source_budget")  # fmt: skip


def specs_of(*vary: str, **settings: Any) -> dict[str, TrainingSpec]:
    chosen = {**SMALL, "arms": ARMS, **settings}
    return {spec.name: spec for spec in plan_transfer(AblateSettings(vary=vary, **chosen)).specs}


def labels(specs: dict[str, TrainingSpec], role: str) -> set[str]:
    return {spec.group for spec in specs.values() if spec.role == role}


def test_without_variation_it_is_transfer() -> None:
    chosen = {**SMALL, "arms": ARMS, "seeds": 2}
    ablate = plan_transfer(AblateSettings(**chosen))
    transfer = plan_transfer(TransferSettings(**chosen))
    assert ablate.specs == transfer.specs
    assert len(ablate.specs) == 2 * (3 + len(ARMS))
    assert (ablate.n_retries, transfer.n_retries) == (1, 0)


def test_a_setting_of_the_loss_multiplies_where_there_is_one() -> None:
    specs = specs_of("n_negatives=8,32")
    assert labels(specs, "target") == {
        "contrastive_distillation+n_negatives=8", "contrastive_distillation+n_negatives=32",
        "contrastive_source_only+n_negatives=8", "contrastive_source_only+n_negatives=32",
        "contrastive_target_only+n_negatives=8", "contrastive_target_only+n_negatives=32",
        "fine_tune", "equal_compute", "scratch", "scratch_source_budget",
    }  # fmt: skip
    assert labels(specs, "source") == {
        "sources/with_loss+n_negatives=8", "sources/with_loss+n_negatives=32", "sources/plain",
        "sources/equal_compute",
    }  # fmt: skip
    folder = "MiniGrid-Empty-6x6-v0/seed0"
    spec = specs[f"targets/contrastive_distillation+n_negatives=32/{folder}"]
    assert spec.loss.settings == {"n_negatives": 32}
    assert spec.needs == "sources/with_loss+n_negatives=32-seed0"
    assert specs[spec.needs].loss.settings == {"n_negatives": 32}
    only = specs[f"targets/contrastive_target_only+n_negatives=8/{folder}"]
    assert only.needs == "sources/plain-seed0", "sources are trained once"
    assert set(specs["sources/plain-seed0"].arms) == {
        "contrastive_target_only+n_negatives=8", "contrastive_target_only+n_negatives=32",
        "fine_tune",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("vary", "multiplied", "sources"),
    [
        ("gamma=0.9,0.99", set(ARMS), {"with_loss", "plain", "equal_compute"}),
        ("n_envs=4,8", set(ARMS), {"with_loss", "plain", "equal_compute"}),
        ("frames=100,200", set(ARMS), set()),
        ("source_frames=100,200", set(ARMS) - {"scratch"}, {"with_loss", "plain", "equal_compute"}),
        ("weight=0.1,0.3", set(ARMS[:3]), {"with_loss"}),
        ("every=1,4", {*ARMS[:3], "equal_compute"}, {"with_loss", "equal_compute"}),
        ("temperature=0.1,0.2", set(ARMS[:3]), {"with_loss"}),
        ("source_weight=0.5,0", {ARMS[0], ARMS[2], "equal_compute"}, set()),
        ("source_anneal=linear,constant", {ARMS[0], ARMS[2]}, set()),
        ("memory_capacity=1000,2000", set(ARMS[:3]), {"with_loss", "plain"}),
        ("keep=fifo,reservoir", set(ARMS[:3]), {"with_loss", "plain"}),
    ],
)
def test_where_a_setting_matters(vary: str, multiplied: set[str], sources: set[str]) -> None:
    specs = specs_of(vary, memory_capacity=5000) if "keep" in vary else specs_of(vary, n_envs=8)
    if vary.startswith("n_envs"):
        specs = specs_of(vary)
    found = {label.partition("+")[0] for label in labels(specs, "target") if "+" in label}
    assert found == multiplied
    n_labels = len(labels(specs, "target"))
    assert n_labels == len(ARMS) + len(multiplied)
    kinds = {name.removeprefix("sources/") for name in labels(specs, "source")}
    assert {kind.partition("+")[0] for kind in kinds if "+" in kind} == sources
    for spec in specs.values():
        if spec.needs is not None:
            assert spec.needs in specs
            assert spec.name.count("+") >= spec.needs.count("+")


def test_a_plain_source_keeps_the_memory_of_those_who_rehearse_it() -> None:
    specs = specs_of("memory_capacity=1000,2000", arms=("contrastive_target_only", "fine_tune"),
                     n_envs=8)  # fmt: skip
    assert {spec.loss.memory_capacity for spec in specs.values() if "plain+" in spec.name} == {
        1000, 2000,
    }  # fmt: skip
    (tuned,) = [spec for spec in specs.values() if spec.group == "fine_tune"]
    assert tuned.needs == "sources/plain-seed0"


def test_axes_multiply_and_seeds_are_paired() -> None:
    specs = specs_of("n_negatives=8,32", "every=1,2", "gamma=0.9,0.8", seeds=3, arms=ARMS[:1])
    targets = [spec for spec in specs.values() if spec.role == "target"]
    assert len(targets) == 3 * 2 * 2 * 2
    assert {spec.seed for spec in targets} == {0, 1, 2}
    for spec in targets:
        assert spec.needs and specs[spec.needs].seed == spec.seed
        source = specs[spec.needs]
        assert (source.agent.gamma, source.loss) == (spec.agent.gamma, spec.loss)
    seeds = [spec.seed for spec in specs.values()]
    assert seeds == sorted(seeds), "seed 0 is whole first"


def test_another_loss_has_its_own_settings() -> None:
    specs = specs_of("loss=contrastive_distillation,none", "temperature=0.1,0.5", arms=ARMS[:1])
    assert labels(specs, "target") == {
        "contrastive_distillation+loss=contrastive_distillation+temperature=0.1",
        "contrastive_distillation+loss=contrastive_distillation+temperature=0.5",
        "contrastive_distillation+loss=none",
    }


def test_what_varies_overrides_what_is_given() -> None:
    specs = specs_of(
        "temperature=0.5,0.7", "n_negatives=3", n_negatives=9, arms=ARMS[:1],
        loss_settings=("temperature=0.2", "window=4"),
    )  # fmt: skip
    found = [spec.loss.settings for spec in specs.values() if spec.role == "target"]
    assert found == [
        {"n_negatives": 3, "window": 4, "temperature": t} for t in (0.5, 0.7)
    ]  # fmt: skip


def test_frames_shorten_every_stage() -> None:
    specs = specs_of(frames=700)
    assert {spec.task.frames for spec in specs.values()} == {700}
    longer = specs_of(frames=700, source_frames=900)
    assert {spec.task.frames for spec in longer.values() if spec.role == "source"} == {900}
    longest = specs_of(frames=10_000_000)
    assert {spec.task.frames for spec in longest.values() if spec.role == "source"} == {200_000}


@pytest.mark.parametrize(
    ("vary", "says"),
    [
        (["n_negative=8"], "no setting 'n_negative' can vary. Nearest: n_negatives"),
        (["temprature=1"], "no setting 'temprature' can vary. Nearest: temperature"),
        (["seeds=1,2"], "no setting 'seeds' can vary"),
        (["suite=a,b"], "no setting 'suite' can vary"),
        (["n_negatives"], "expected SETTING=VALUE,VALUE"),
        (["n_negatives=8,0"], "n_negatives '0': must be a whole number from 1 to"),
        (["n_negatives=8,many"], "n_negatives 'many': must be a whole number from 1 to"),
        (["gamma=2"], "gamma '2': must be a number from 0 to 1"),
        (["balance=norm,half"], "balance 'half': must be one of norm, project, none"),
        (["every="], "every '': must be a whole number"),
        (["every=4,4"], "the same value twice"),
        (["every=4,04"], "the same value twice"),
        (["every=4", "every=2"], "every varies already"),
        (["negatives=unifrom"], "unknown negatives 'unifrom'. Nearest: uniform"),
        (["temperature=0.1,-1"], "+temperature=-1: temperature is -1; it must be above 0"),
        (["temperature=[1]"], "must be a number, a word, true or false"),
        (["loss=nothing"], "unknown loss 'nothing'"),
        (["memory_capacity=256"], "must be at least the number of environments"),
        (["n_envs=-3"], "n_envs '-3': must be a whole number"),
    ],
)
def test_bad_axes_are_refused(vary: list[str], says: str) -> None:
    with pytest.raises(ValueError) as caught:
        specs_of(*vary, n_envs=None if "n_envs" in vary[0] else 512)
    assert says in str(caught.value)


def test_an_axis_that_no_arm_knows_is_refused() -> None:
    with pytest.raises(SettingsError, match="every=…: makes no difference to any of the arms"):
        specs_of("every=1,2", arms=("scratch", "fine_tune"))


def test_vary_may_be_repeated_and_may_be_a_list(tmp_path: Path) -> None:
    def read(*words: str) -> tuple[str, ...]:
        settings = parse_command_line(["ablate", *words])
        assert isinstance(settings, AblateSettings)
        return settings.vary

    expected = ("every=1,2", "n_negatives=8", "gamma=0.9")
    assert read("--vary", *expected) == expected
    assert read("--vary", expected[0], "--seeds", "2", "--vary", *expected[1:]) == expected
    assert read(f"--vary={expected[0]}", "--vary", expected[1], f"--vary={expected[2]}") == expected
    (tmp_path / "grid.yaml").write_text("vary: ['every=1,2']\nseeds: 3\n")
    assert read("--config", str(tmp_path / "grid.yaml")) == ("every=1,2",)


def test_a_dry_run_shows_the_grid_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["ablate", "--suite", "keydoor", "--seeds", "10", "--workers", "2", "--dry-run"]
    words += ["--arms", "contrastive_distillation", "fine_tune", "scratch"]
    words += ["--vary", "negatives=uniform,value_contrast", "--frames-per-second", "10_000"]
    assert main(words) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80 + len("contrastive_distillation-seed0-123456")
    each = ("1_500_012", "400_128")  # rounded up to 258 and 256 environments
    table = [line for line in lines if any(f" {n} " in line for n in each) and "frames" not in line]
    assert len(table) == 3 + 4
    assert max(map(len, table)) <= 80
    assert "ablate: 150 trainings, in runs/ablate-keydoor-ppo" in text
    frames = 30 * 1_500_012 + 120 * 400_128
    assert f"{frames:_} frames at most" in text
    assert f"2 at once: {frames / 10_000 / 3600 / 2:.1f} h for all" in text
    assert os.listdir(tmp_path) == []


def test_a_cluster_of_unknown_size_is_not_reckoned_with(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = plan_transfer(AblateSettings(**SMALL, arms=("fine_tune",), frames=36_000))
    forecast(replace(plan, workers=None), Console(width=200), frames_per_second=10.0)
    text = capsys.readouterr().out
    assert "one at a time: 2.0 h for all (72_192 frames at most); it will be as many as" in text


def test_a_given_source_does_not_vary(tmp_path: Path) -> None:
    from contrastive_distillation.transfer import TrainSettings, plan_train
    from contrastive_distillation.transfer.run_directory.atomic_files import write_json
    from contrastive_distillation.transfer.run_directory.directory import start_directory

    run = tmp_path / "run"
    (spec,) = plan_train(TrainSettings(env=SMALL["source"])).specs
    start_directory(run, spec.config(), command=())
    write_json(run / "result.json", {"frames": 1234, "learnt": {}})
    given: dict[str, Any] = {"from_": str(run), "target": SMALL["target"], "output": "nowhere"}

    def specs(*vary: str, arms: tuple[str, ...]) -> tuple[TrainingSpec, ...]:
        return plan_transfer(AblateSettings(**given, vary=vary, arms=arms)).specs

    found = specs("weight=0.1,0.2", arms=("contrastive_distillation", "scratch_source_budget"))
    assert [spec.group for spec in found] == [
        "contrastive_distillation+weight=0.1", "contrastive_distillation+weight=0.2",
        "scratch_source_budget",
    ]  # fmt: skip
    assert found[0].source.directory == found[2].source.adds_frames_of == str(run)
    assert not any(spec.needs for spec in found)
    with pytest.raises(SettingsError, match="--vary gamma=…: the agent of --from is trained"):
        specs("gamma=0.9", arms=("fine_tune",))
    with pytest.raises(SettingsError, match="source_frames=…: makes no difference"):
        specs("source_frames=10,20", arms=("fine_tune",))
    with pytest.raises(SettingsError, match="has a source of its own, but --from names one"):
        specs(arms=("unrelated_source",))
