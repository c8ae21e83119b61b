"""Suites: the ones offered hold what they promise, and one's own are read or refused clearly."""

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from contrastive_distillation.envs import (
    SUITES,
    Suite,
    UnknownNameError,
    get_suite,
    get_task,
    load_suite,
    make_env,
    make_vec,
    mission_varies,
    sensor_of,
    suite_settings,
)

CHANGES_SPACE = re.compile("-Mixed|Distractors|Pictures")
"""Ids of targets whose observations have another shape."""

OWN: dict[str, Any] = {
    "summary": "a test",
    "sources": ["MiniGrid-Empty-5x5-v0"],
    "targets": ["MiniGrid-Empty-6x6-v0"],
    "source_frames": 1_000,
    "target_frames": 500,
    "agents": ["ppo"],
}


def write(path: Path, **changes: Any) -> Path:
    settings = {key: value for key, value in {**OWN, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_one_agent_fits_all_of_a_suite(suite: Suite) -> None:
    ids = [*suite.sources, *suite.targets]
    if suite.sensors:
        ids = [env_id for env_id in ids if not CHANGES_SPACE.search(env_id)]
    vec = make_vec(ids, len(ids), 0, observation=suite.observation)
    vec.reset()
    vec.step(np.array([vec.action_space.sample() for _ in ids]))
    if suite.observation == "picture":
        assert not mission_varies(ids)
    for env_id in ids:
        assert suite.task(env_id).env_id == env_id
    vec.close()


@pytest.mark.parametrize(
    "suite", [each for each in SUITES.values() if each.sensors], ids=lambda suite: suite.name
)
def test_sensor_suites_change_sensors_alone(suite: Suite) -> None:
    if suite.name != "codes":  # a first look, with one target
        assert set(suite.sources) & set(suite.targets), "one target is unchanged"
    plain = make_env(suite.sources[0], observation=suite.observation)
    for env_id in suite.targets:
        changed = sensor_of(env_id)
        if changed is None:
            assert env_id in suite.sources
            continue
        is_for_studies = changed.sensor.number <= 3 or env_id.endswith("Colours5-v0")
        assert is_for_studies or suite.name == "codes"
        env = make_env(env_id, observation=suite.observation)
        assert env.action_space == plain.action_space
        differs = env.observation_space.shape != plain.observation_space.shape
        assert differs == bool(CHANGES_SPACE.search(env_id))
        assert suite.task(env_id).return_range == suite.task(suite.sources[0]).return_range
    assert suite_settings(suite)["sensors"] is True
    assert not any(
        each.sensors for each in SUITES.values() if "sensors" not in suite_settings(each)
    )


def test_the_sensor_suites_of_the_design() -> None:
    assert "sensors" not in suite_settings(get_suite("appearance"))
    targets = get_suite("sensors").targets
    assert "contrastive/DoorKey-5x5-Colours5-v0" in targets
    assert sum("5x5-Codes" in env_id for env_id in targets) == 3
    assert any("6x6-Codes" in env_id for env_id in targets)
    assert get_suite("sensors_vectors").agents == ("dqn", "ppo")
    assert {"sensors_pictures", "grid_to_pictures"} <= set(SUITES)


def test_the_suites_of_the_design() -> None:
    assert {"doorkey", "smoke", "keydoor", "appearance", "dynamics", "pixels"} <= set(SUITES)
    doorkey = get_suite("doorkey")
    assert doorkey.source_frames == doorkey.target_frames == 200_000
    assert doorkey.agents == ("ppo",)
    assert get_suite("keydoor").source_frames == 1_500_000
    assert get_suite("keydoor").target_frames == 400_000
    assert get_suite("dynamics").agents[0] == "dqn"


def test_unknown_suite() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown suite 'dorkey'\. Nearest: doorkey"):
        get_suite("dorkey")


def test_a_suite_survives_yaml_and_pickle(tmp_path: Path) -> None:
    for suite in SUITES.values():
        path = tmp_path / f"{suite.name}.yaml"
        path.write_text(yaml.safe_dump(suite_settings(suite)))
        assert load_suite(path) == suite
        assert pickle.loads(pickle.dumps(suite)) == suite


def test_own_suite(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", return_ranges={"MiniGrid-Empty-6x6-v0": [0, 0.5]})
    suite = load_suite(path)
    assert suite.name == "mine"
    assert suite.sources == ("MiniGrid-Empty-5x5-v0",)
    assert suite.task("MiniGrid-Empty-6x6-v0").score([0.25]).tolist() == [0.5]
    assert suite.task("MiniGrid-Empty-5x5-v0").return_range == (0, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"source_frame": 5}, "unknown suite key 'source_frame'. Nearest: source_frames"),
        ({"sources": None}, "; add sources"),
        ({"source_frames": 0}, "source_frames of a suite must be a whole number of at least 1"),
        ({"source_frames": "many"}, "source_frames of a suite must be a whole number"),
        ({"target_frames": True}, "target_frames of a suite must be a whole number"),
        ({"sources": []}, "sources of a suite must be a list of one or more names"),
        ({"sources": "CartPole-v1"}, "sources of a suite must be a list"),
        ({"agents": ["ppo", "ppo"]}, "without repetitions"),
        ({"observation": "pixel"}, "observation of a suite must be one of"),
        ({"sensors": "yes"}, "sensors of a suite must be true or false, got 'yes'"),
        ({"learnt_score": 2}, r"learnt_score of a suite must be a number in \(0, 1\]"),
        ({"sources": ["MiniGrid-Emty-5x5-v0"]}, "unknown environment.*MiniGrid-Empty-5x5-v0"),
        ({"return_ranges": {"X": [0, 1]}}, "unknown environment in return_ranges 'X'"),
        ({"return_ranges": {"MiniGrid-Empty-5x5-v0": [1, 0]}}, "low < high"),
    ],
)
def test_wrong_suite_files(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        load_suite(write(tmp_path / "mine.yaml", **changes))


def test_files_that_are_no_suites(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        load_suite(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ValueError, match="must hold keys and values"):
        load_suite(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(ValueError, match="is not YAML"):
        load_suite(tmp_path / "broken.yaml")


def test_scores() -> None:
    cartpole = get_task("CartPole-v1")
    assert cartpole.score([-5, 0, 250, 500, 900]).tolist() == [0, 0, 0.5, 1, 1]
    assert cartpole.max_episode_steps == 500
    assert get_task("Acrobot-v1").score(-500) == 0
    assert get_task("contrastive/CartPole-SwappedActions-v0").return_range == cartpole.return_range
    assert get_task("contrastive/CartPole-SwappedActions-v0").max_episode_steps == 500
    doorkey = get_task("MiniGrid-DoorKey-5x5-v0")
    assert doorkey.return_range == (0, 1)
    assert 0 < doorkey.success_return <= 0.1
    assert doorkey.max_episode_steps == 250


def test_without_a_known_range_scores_are_returns() -> None:
    pendulum = get_task("Pendulum-v1")
    assert (pendulum.return_range, pendulum.success_return) == (None, None)
    assert pendulum.score([-1200.5, 3]).tolist() == [-1200.5, 3]
    assert pendulum.is_learnt(1e9, 0.9) is None
    car = get_task("MountainCarContinuous-v0")  # its threshold is 90, an idle agent's return 0
    assert car.score(-33.0) == -33
    assert (car.is_learnt(-33, 0.9), car.is_learnt(90, 0.9)) == (False, True)
    assert get_task("CartPole-v1").is_learnt(0.91, 0.9) is True


def test_unknown_tasks() -> None:
    with pytest.raises(UnknownNameError):
        get_task("Nothing-v0")
