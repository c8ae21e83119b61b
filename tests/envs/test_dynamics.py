"""Other physics: parameters lie where the paper says, and what follows from them follows."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastive_distillation.envs import make_env, make_vec
from contrastive_distillation.envs.dynamics import ACROBOT_RANGES, CARTPOLE_RANGES, Range

RANDOM, EXTREME = "contrastive/CartPole-Random-v0", "contrastive/CartPole-Extreme-v0"


@given(st.integers(0, 2**32), st.sampled_from([*CARTPOLE_RANGES.values(), ACROBOT_RANGES["mass"]]))
def test_extreme_is_outside_random(seed: int, which: Range) -> None:
    generator = np.random.default_rng(seed)
    for _ in range(20):
        assert which.random[0] <= which.draw("random", generator) <= which.random[1]
        value = which.draw("extreme", generator)
        assert which.extreme[0] <= value <= which.extreme[1]
        assert not which.random[0] < value < which.random[1]


def test_extreme_reaches_both_sides() -> None:
    generator = np.random.default_rng(0)
    values = [CARTPOLE_RANGES["force"].draw("extreme", generator) for _ in range(200)]
    assert min(values) < 5 < 15 < max(values)


@pytest.mark.parametrize("env_id", [RANDOM, EXTREME])
def test_cartpole_masses_follow(env_id: str) -> None:
    env = make_env(env_id)
    drawn = set()
    for seed in range(30):
        env.reset(seed=seed)
        physics = env.unwrapped
        assert physics.total_mass == physics.masscart + physics.masspole
        assert physics.polemass_length == physics.masspole * physics.length
        drawn.add((physics.force_mag, physics.length, physics.masspole))
    assert len(drawn) == 30


def test_one_parameter_alone() -> None:
    env = make_env("contrastive/CartPole-Force-Random-v0")
    env.reset(seed=3)
    assert env.unwrapped.force_mag != 10
    assert (env.unwrapped.length, env.unwrapped.masspole) == (0.5, 0.1)
    assert env.spec is not None and env.spec.max_episode_steps == 500


def test_acrobot_links_follow() -> None:
    env = make_env("contrastive/Acrobot-Extreme-v0")
    env.reset(seed=0)
    physics = env.unwrapped
    assert physics.LINK_LENGTH_1 == physics.LINK_LENGTH_2 != 1
    assert physics.LINK_COM_POS_1 == physics.LINK_COM_POS_2 == physics.LINK_LENGTH_1 / 2
    assert physics.LINK_MASS_1 == physics.LINK_MASS_2 != 1
    assert physics.LINK_MOI != 1
    assert gym.make("Acrobot-v1").unwrapped.LINK_MASS_1 == 1, "the class must stay as it was"


def test_a_seed_draws_the_same_physics() -> None:
    one, other = make_env(RANDOM), make_env(RANDOM)
    for env in (one, other):
        env.reset(seed=5)
        env.reset()
    assert one.unwrapped.force_mag == other.unwrapped.force_mag
    before = one.unwrapped.force_mag
    one.reset()
    assert one.unwrapped.force_mag != before, "every episode draws new values"


def test_physics_changes_what_an_action_does() -> None:
    """A force of 1 … 20 on the default state, against the equations of Barto et al. (1983)."""
    env = make_env(EXTREME)
    env.reset(seed=1)
    physics = env.unwrapped
    physics.state = np.zeros(4)
    after, *_ = env.step(1)
    force, mass, half = physics.force_mag, physics.total_mass, physics.length
    push = force / mass
    turn = -push / (half * (4 / 3 - physics.masspole / mass))
    slide = push - physics.polemass_length * turn / mass
    np.testing.assert_allclose(after, [0, 0.02 * slide, 0, 0.02 * turn], rtol=1e-5)


def test_swapped_actions_are_the_other_way_round() -> None:
    plain, swapped = make_env("CartPole-v1"), make_env("contrastive/CartPole-SwappedActions-v0")
    plain.reset(seed=0), swapped.reset(seed=0)
    for action in (0, 1, 1, 0, 1):
        np.testing.assert_array_equal(plain.step(action)[0], swapped.step(1 - action)[0])


def test_variants_share_a_vector_with_their_base() -> None:
    vec = make_vec(["CartPole-v1", RANDOM], 4, 0)
    vec.reset()
    assert vec.env_ids == ("CartPole-v1", RANDOM)
    assert vec.backend[1] == "gymnasium"
    assert vec.task_of_env.tolist() == [0, 0, 1, 1]
