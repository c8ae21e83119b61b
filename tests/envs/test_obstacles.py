"""The unrelated source: seven actions, of which the surplus ones let a step pass."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from contrastive_distillation.envs import (
    SUITES,
    get_suite,
    get_task,
    load_suite,
    make_env,
    make_vec,
    suite_settings,
    unrelated_source,
)
from contrastive_distillation.envs.obstacles import SEVEN_ACTIONS_BASE, SEVEN_ACTIONS_ID


def test_known_actions_do_what_they_did() -> None:
    plain, seven = make_env(SEVEN_ACTIONS_BASE), make_env(SEVEN_ACTIONS_ID)
    generator = np.random.default_rng(0)
    for seed in range(10):
        plain.reset(seed=seed), seven.reset(seed=seed)
        done = False
        while not done:
            action = int(generator.integers(3))
            expected, got = plain.step(action), seven.step(action)
            assert expected[1:4] == got[1:4]
            assert all((expected[0][key] == got[0][key]).all() for key in expected[0])
            done = expected[2] or expected[3]


@pytest.mark.parametrize("action", [3, 4, 5, 6])
def test_surplus_actions_let_a_step_pass(action: int) -> None:
    env = make_env(SEVEN_ACTIONS_ID)
    n_faced = 0
    for seed in range(40):
        env.reset(seed=seed)
        inside = env.unwrapped
        before = tuple(inside.agent_pos), inside.agent_dir
        faced = inside.grid.get(*inside.front_pos)
        n_faced += faced is not None and faced.type == "ball"
        _, reward, terminated, _, _ = env.step(action)
        assert (tuple(inside.agent_pos), inside.agent_dir) == before
        assert inside.carrying is None
        assert (reward, terminated, inside.step_count) == (0, False, 1)
    assert n_faced > 0, "an obstacle in front of it was never met"


def test_it_can_be_continued() -> None:
    vec, other = (make_vec([SEVEN_ACTIONS_ID], 2, seed) for seed in (0, 1))
    vec.reset(), other.reset()
    for action in (2, 5, 1):
        vec.step(np.array([action, action]))
    other.load_state(vec.save_state())
    for action in (3, 2, 0, 2):
        (seen, *_), (same, *_) = (each.step(np.array([action, action])) for each in (vec, other))
        assert all((seen[key] == same[key]).all() for key in seen)


def test_it_fits_the_grids_and_scores_as_they_do() -> None:
    vec = make_vec([SEVEN_ACTIONS_ID, "MiniGrid-DoorKey-5x5-v0"], 2, 0)
    assert vec.action_space.n == 7
    assert (
        get_task(SEVEN_ACTIONS_ID).return_range == get_task("MiniGrid-DoorKey-5x5-v0").return_range
    )
    vec.close()


def test_a_suite_has_an_unrelated_source_or_none() -> None:
    assert unrelated_source(get_suite("keydoor")) == SEVEN_ACTIONS_ID
    assert unrelated_source(get_suite("appearance")) == SEVEN_ACTIONS_ID
    assert unrelated_source(get_suite("dynamics")) is None
    assert all("unrelated" not in suite_settings(suite) for suite in SUITES.values())


def test_a_suite_of_ones_own_names_it(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"

    def write(unrelated: object) -> Path:
        own = {**suite_settings(get_suite("doorkey")), "unrelated": unrelated}
        path.write_text(yaml.safe_dump(own))
        return path

    suite = load_suite(write("MiniGrid-Unlock-v0"))
    assert unrelated_source(suite) == "MiniGrid-Unlock-v0"
    assert suite_settings(suite)["unrelated"] == "MiniGrid-Unlock-v0"
    with pytest.raises(ValueError, match="unknown environment 'Nothing-v0'"):
        load_suite(write("Nothing-v0"))
    with pytest.raises(ValueError, match="unrelated of a suite must be an environment's id"):
        load_suite(write(7))
