"""Environments: suites as data, and vectorised environments.

`make_vec` makes one Stable-Baselines3 `VecEnv` from environment ids. It uses EnvPool for the
environments that EnvPool has and Gymnasium for the others; observations are the same in both.
"""

from .contract import ContractError
from .grid_sensors import Codes, Colours
from .gymnasium_block import quiet, stack_observations
from .make import BACKENDS, check_backend, make_vec
from .mission import (
    MISSION_LENGTH,
    MISSION_VOCABULARY,
    MISSION_WORDS,
    encode_mission,
    mission_varies,
)
from .names import UnknownNameError, nearest_names
from .observations import compared_spaces, make_env
from .offered_suites import SUITES, get_suite
from .picture_sensors import ChannelsMixed, HueTurned, Inverted, Noise, Pictures
from .pictures import draw_pictures
from .running_step import RUNNING_STEP, EnvironmentFailedError, track_step
from .seeds import episode_seed
from .sensor_ids import ChangedEnvironment, sensor_families, sensor_of
from .sensors import ChangedSensors, Sensor
from .spaces import SpaceRow, compare_spaces, space_table
from .states import StateUnavailableError
from .suites import Suite, load_suite, suite_settings, unrelated_source
from .tasks import Task, get_task
from .tile_set import TileSet
from .vector import BadNumberError, TaskVecEnv
from .vector_sensors import Distractors, Mixed, Rotated, Units

__all__ = [
    "BACKENDS",
    "MISSION_LENGTH",
    "MISSION_VOCABULARY",
    "MISSION_WORDS",
    "RUNNING_STEP",
    "SUITES",
    "BadNumberError",
    "ChangedEnvironment",
    "ChangedSensors",
    "ChannelsMixed",
    "Codes",
    "Colours",
    "ContractError",
    "Distractors",
    "EnvironmentFailedError",
    "HueTurned",
    "Inverted",
    "Mixed",
    "Noise",
    "Pictures",
    "Rotated",
    "Sensor",
    "SpaceRow",
    "StateUnavailableError",
    "Suite",
    "Task",
    "TaskVecEnv",
    "TileSet",
    "Units",
    "UnknownNameError",
    "check_backend",
    "compare_spaces",
    "compared_spaces",
    "draw_pictures",
    "encode_mission",
    "episode_seed",
    "get_suite",
    "get_task",
    "load_suite",
    "make_env",
    "make_vec",
    "mission_varies",
    "nearest_names",
    "quiet",
    "sensor_families",
    "sensor_of",
    "space_table",
    "stack_observations",
    "suite_settings",
    "track_step",
    "unrelated_source",
]
