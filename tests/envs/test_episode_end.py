"""No transition crosses an episode's end, whatever the actions are."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_distillation.envs import make_vec

pytest.importorskip("envpool")

LEFT, RIGHT = 0, 1
CASES = [
    ("envpool", ["BabyAI-GoToLocalS5N2-v0"]),
    ("envpool", ["MiniGrid-Empty-Random-5x5-v0", "MiniGrid-LavaGapS5-v0"]),
    ("envpool", ["contrastive/DoorKey-5x5-Colours3-v0"]),
    ("gymnasium", ["BabyAI-GoToLocalS5N2-v0"]),
    ("gymnasium", ["MiniGrid-Empty-Random-5x5-v0", "MiniGrid-LavaGapS5-v0"]),
]


def row(observations: dict[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    return {key: values[i].copy() for key, values in observations.items()}


def assert_succeeds(before: dict[str, Any], action: int, after: dict[str, Any]) -> None:
    """`after` can follow `before`: turning turns by one, and the mission stays as it was."""
    turned = {LEFT: -1, RIGHT: 1}.get(action, 0)
    assert int(after["direction"][0]) == (int(before["direction"][0]) + turned) % 4
    if "mission" in before:
        np.testing.assert_array_equal(after["mission"], before["mission"])


@pytest.mark.parametrize(("backend", "env_ids"), CASES)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**30 - 1), forward=st.floats(0.0, 0.9), data=st.randoms())
def test_no_transition_crosses_an_end(
    backend: str, env_ids: list[str], seed: int, forward: float, data: Any
) -> None:
    n_envs, n_steps = 4, 150
    vec = make_vec(env_ids, n_envs, seed, backend)
    generator = np.random.default_rng(data.randrange(2**32))
    rest = (1 - forward) / 6
    chances = [rest, rest, forward, rest, rest, rest, rest]
    plan = generator.choice(7, p=chances, size=(n_steps, n_envs))
    before = vec.reset()
    kept: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = []
    lengths, returns, n_ends = np.zeros(n_envs, int), np.zeros(n_envs), 0
    for actions in plan:
        kept.append((before, {key: values.copy() for key, values in before.items()}))
        after, rewards, dones, infos = vec.step(actions)
        lengths += 1
        returns += rewards
        for i in range(n_envs):
            if not dones[i]:
                assert infos[i] == {}
                assert_succeeds(row(before, i), actions[i], row(after, i))
                continue
            n_ends += 1
            assert_succeeds(row(before, i), actions[i], infos[i]["terminal_observation"])
            assert infos[i]["episode"]["l"] == lengths[i]
            assert infos[i]["episode"]["r"] == pytest.approx(returns[i])
            assert isinstance(infos[i]["TimeLimit.truncated"], bool)
            lengths[i], returns[i] = 0, 0
        assert vec.observation_space.contains(row(after, 0))
        before = after
    assert n_ends > 0 or "DoorKey" in env_ids[0]
    for given_then, copied_then in kept:
        for key, values in given_then.items():
            np.testing.assert_array_equal(values, copied_then[key], "a given array was changed")
    vec.close()


@pytest.mark.parametrize("backend", ["envpool", "gymnasium"])
def test_after_an_end_comes_a_start(backend: str) -> None:
    """Empty-5x5 always starts alike, and no other state looks like its start after a turn."""
    vec = make_vec("MiniGrid-Empty-5x5-v0", 2, 0, backend)
    start = row(vec.reset(), 0)
    way_to_the_goal = [2, 2, 1, 2, 2]
    for episode in range(3):
        for step, action in enumerate(way_to_the_goal):
            after, rewards, dones, infos = vec.step(np.array([action, action]))
            assert dones.tolist() == [step == 4] * 2
        assert rewards == pytest.approx([1 - 0.9 * 5 / 100] * 2)
        assert infos[0]["episode"]["l"] == 5, episode
        assert not infos[0]["TimeLimit.truncated"]
        for key in start:
            np.testing.assert_array_equal(after[key][0], start[key])
        assert not np.array_equal(infos[0]["terminal_observation"]["image"], start["image"])


@pytest.mark.parametrize("backend", ["envpool", "gymnasium"])
def test_a_cut_is_told_from_an_end(backend: str) -> None:
    vec = make_vec("MiniGrid-Empty-5x5-v0", 1, 0, backend)
    vec.reset()
    for step in range(1, 101):
        _, _, dones, infos = vec.step(np.array([LEFT]))
        assert dones[0] == (step == 100)
    assert infos[0]["TimeLimit.truncated"] is True
    assert infos[0]["episode"]["l"] == 100
    assert infos[0]["episode"]["r"] == 0
