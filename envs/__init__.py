"""Where agents act: suites as data, and vectorised environments.

`make_vec` turns environment ids into one Stable-Baselines3 `VecEnv`, through EnvPool where it
can and through Gymnasium everywhere else, with the same observations.
"""

from .make import BACKENDS, make_vec
from .mission import (
    MISSION_LENGTH,
    MISSION_VOCABULARY,
    MISSION_WORDS,
    encode_mission,
    mission_varies,
)
from .names import UnknownNameError, nearest_names
from .pictures import draw_pictures
from .seeds import episode_seed
from .single import make_env
from .spaces import SpaceRow, compare_spaces, space_table
from .states import StateUnavailableError
from .stepping import STEPPING, EnvironmentFailedError, Stepping, stepping
from .suites import SUITES, Suite, get_suite, load_suite, suite_settings, unrelated_source
from .tasks import Task, task
from .vector import BadNumberError, TaskVecEnv

__all__ = [
    "BACKENDS",
    "MISSION_LENGTH",
    "MISSION_VOCABULARY",
    "MISSION_WORDS",
    "STEPPING",
    "SUITES",
    "BadNumberError",
    "EnvironmentFailedError",
    "SpaceRow",
    "StateUnavailableError",
    "Stepping",
    "Suite",
    "Task",
    "TaskVecEnv",
    "UnknownNameError",
    "compare_spaces",
    "draw_pictures",
    "encode_mission",
    "episode_seed",
    "get_suite",
    "load_suite",
    "make_env",
    "make_vec",
    "mission_varies",
    "nearest_names",
    "space_table",
    "stepping",
    "suite_settings",
    "task",
    "unrelated_source",
]
