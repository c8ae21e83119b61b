"""Every environment that is offered passes Gymnasium's and Stable-Baselines3's own checkers."""

import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as stable_baselines_check

from contrastive_distillation.envs import SUITES, make_env
from contrastive_distillation.envs.procgen import PROCGEN
from contrastive_distillation.envs.sensor_ids import SENSOR_IDS
from contrastive_distillation.envs.variants import BASE_OF_VARIANT

IN_SUITES = {each for suite in SUITES.values() for each in (*suite.sources, *suite.targets)}
ELSEWHERE = {*PROCGEN, *SENSOR_IDS}  # Procgen has no single environment; see test_sensors
OFFERED = sorted({*BASE_OF_VARIANT, *IN_SUITES} - ELSEWHERE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("env_id", OFFERED)
def test_offered_environments_pass_both_checkers(env_id: str) -> None:
    env = make_env(env_id)
    gymnasium_check(env, skip_render_check=True)
    stable_baselines_check(env, warn=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("env_id", ["MiniGrid-DoorKey-5x5-v0"])
def test_pictures_pass_both_checkers(env_id: str) -> None:
    env = make_env(env_id, observation="picture")
    gymnasium_check(env, skip_render_check=True)
    stable_baselines_check(env, warn=True)
