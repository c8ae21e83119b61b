"""Settings: the same types and ranges from flags and from YAML."""

from pathlib import Path

import pytest

from contrastive_distillation.transfer import (
    SettingsError,
    TrainSettings,
    TransferSettings,
    parse_command_line,
)


def test_numbers_carry_underscores() -> None:
    settings = parse_command_line(["train", "--frames", "400_000", "--memory-capacity", "1_000"])
    assert isinstance(settings, TrainSettings)
    assert (settings.frames, settings.memory_capacity) == (400_000, 1000)


def test_lists() -> None:
    words = ["transfer", "--source", "A", "B", "--target", "C", "--arms", "scratch", "fine_tune"]
    settings = parse_command_line(words)
    assert isinstance(settings, TransferSettings)
    assert settings.source == ("A", "B")
    assert settings.target == ("C",)
    assert settings.arms == ("scratch", "fine_tune")


def test_flags_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("command: train\nframes: 400_000\nn-envs: 32\ngamma: 0.9\nenv: [A, B]\n")
    settings = parse_command_line(["train", "--config", str(path), "--gamma", "0.5"])
    assert isinstance(settings, TrainSettings)
    assert (settings.frames, settings.n_envs, settings.gamma) == (400_000, 32, 0.5)
    assert settings.env == ("A", "B")


def test_the_file_may_give_what_the_command_line_must(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("run: some/run\nepisodes: 7\n")
    settings = parse_command_line(["evaluate", f"--config={path}"])
    assert vars(settings)["run"] == "some/run"
    assert vars(settings)["episodes"] == 7


def test_from_is_a_flag_and_a_key(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("from: runs/there\n")
    by_flag = parse_command_line(["transfer", "--from", "runs/there"])
    by_key = parse_command_line(["transfer", "--config", str(path)])
    assert vars(by_flag)["from_"] == vars(by_key)["from_"] == "runs/there"


OUT_OF_RANGE = [
    ("frames", "0", "a whole number of at least 1"),
    ("n_envs", "-3", "a whole number from 1 to 65_536"),
    ("gamma", "2", "a number from 0 to 1"),
    ("gamma", "nan", "a number from 0 to 1"),
    ("weight", "-0.5", "a number from 0 to 1_000"),
    ("seeds", "0", "a whole number from 1 to 1_000"),
    ("every", "0", "a whole number from 1"),
    ("threads", "0", "a whole number from 1"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), OUT_OF_RANGE)
def test_ranges_from_flags(key: str, value: str, allowed: str) -> None:
    flag = "--" + key.replace("_", "-")
    with pytest.raises(SettingsError) as caught:
        parse_command_line(["train", flag, value])
    assert flag in str(caught.value)
    assert value in str(caught.value)
    assert allowed in str(caught.value)


@pytest.mark.parametrize(("key", "value", "allowed"), OUT_OF_RANGE)
def test_ranges_from_yaml(tmp_path: Path, key: str, value: str, allowed: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"{key}: {value.replace('nan', '.nan')}\n")
    with pytest.raises(SettingsError) as caught:
        parse_command_line(["train", "--config", str(path)])
    assert key in str(caught.value)
    assert value in str(caught.value)
    assert allowed in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("frames: many", "must be a whole number of at least 1"),
        ("frames: 1.5", "must be a whole number"),
        ("frames: true", "must be a whole number"),
        ("frames: [1]", "must be a whole number"),
        ("gamma: high", "must be a number from 0 to 1"),
        ("seed: null", "must be a whole number"),
        ("suite: 3", "must be text"),
        ("until_learnt: yes please", "must be true or false"),
        ("env: 3", "must be a list of names"),
        ("device: gpu", "must be one of auto, cpu, cuda"),
        ("framse: 3", "unknown key 'framse'. Nearest: frames"),
        ("command: transfer", "is for the command 'transfer'"),
        ("- a\n- b", "must be a mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        parse_command_line(["train", "--config", str(path)])
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_number_with_an_exponent_is_a_number_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("weight: 1e-3\n")
    assert vars(parse_command_line(["train", "--config", str(path)]))["weight"] == 0.001


def test_missing_file() -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        parse_command_line(["train", "--config", "/nowhere.yaml"])


def test_unknown_command_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"unknown command 'trian'\. Nearest: train"):
        parse_command_line(["trian"])
