"""Suites as data: source and target environments, with the frames to train on each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from .names import UnknownNameError
from .observations import OBSERVATIONS
from .obstacles import SEVEN_ACTIONS_ID
from .registry import find_spec
from .tasks import Task, get_task, task_in_range
from .variants import BASE_OF_VARIANT


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Source and target environments, and the frames to train on them.

    Raises ValueError, naming the field, for a value of the wrong type or range.
    """

    name: str
    """Its name on the command line."""
    summary: str
    """One line: what sources and targets share, and what differs."""
    sources: tuple[str, ...]
    """Ids of the environments that one agent learns together; their spaces must be equal."""
    targets: tuple[str, ...]
    """Ids of the environments that the agent is transferred to, one at a time."""
    source_frames: int
    """The maximum of frames for all sources together."""
    target_frames: int
    """Frames for each target."""
    agents: tuple[str, ...]
    """Names of agents that can learn the suite; the first is the default."""
    observation: str = "auto"
    """`auto` or `picture`; see `make_vec`."""
    sensors: bool = False
    """Whether targets differ from the sources in their sensors: only the actions must be equal."""
    return_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Returns that are score 0 and score 1, by id, if they differ from those of `get_task`."""
    learnt_score: float = 0.9
    """The score that every source must reach to count as learnt."""
    unrelated: str | None = None
    """The source of the control `unrelated_source`; None: that of the function of this name."""

    def __post_init__(self) -> None:
        _check_fields(self)
        object.__setattr__(self, "return_ranges", MappingProxyType(dict(self.return_ranges)))

    def task(self, env_id: str) -> Task:
        """The task of one of its environments."""
        if env_id in self.return_ranges:
            return task_in_range(env_id, self.return_ranges[env_id])
        return get_task(env_id)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by value (a mapping proxy does not pickle)."""
        return _suite_of, (suite_settings(self),)


def suite_settings(suite: Suite) -> dict[str, Any]:
    """The suite as plain data, as in a YAML file; `load_suite` reads it back."""
    settings: dict[str, Any] = {}
    for each in fields(Suite):
        value = getattr(suite, each.name)
        if each.name in ("unrelated", "sensors") and not value:
            continue
        if isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, Mapping):
            value = {key: list(bounds) for key, bounds in value.items()}
        settings[each.name] = value
    return settings


def load_suite(path: str | Path) -> Suite:
    """Load a suite from a YAML file whose keys are the fields of `Suite`; `name` is optional.

    Raises UnknownNameError for an unknown key or environment, ValueError for a missing key, for a
    value of the wrong type or range, and for a file that does not hold a YAML mapping.
    """
    path = Path(path)
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"the suite file {str(path)!r} does not exist") from None
    except OSError as error:
        raise ValueError(
            f"the suite file {str(path)!r} cannot be read: {error.strerror}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"the suite file {str(path)!r} is not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(
            f"the suite file {str(path)!r} must hold keys and values, such as name: my_suite"
        )
    suite = _suite_of({"name": path.stem, **settings})
    named = () if suite.unrelated is None else (suite.unrelated,)
    for env_id in (*suite.sources, *suite.targets, *named):
        find_spec(env_id)
    return suite


def unrelated_source(suite: Suite) -> str | None:
    """The source environment of the control `unrelated_source`.

    It is the suite's own `unrelated`, or Dynamic-Obstacles with seven actions for a suite of
    MiniGrid's and BabyAI's grids, or None.
    """
    if suite.unrelated is not None:
        return suite.unrelated
    members = (*suite.sources, *suite.targets)
    bases = [BASE_OF_VARIANT.get(env_id, env_id) for env_id in members]
    of_grids = all(base.startswith(("MiniGrid-", "BabyAI-")) for base in bases)
    return SEVEN_ACTIONS_ID if of_grids else None


def _suite_of(settings: Mapping[str, Any]) -> Suite:
    known = {each.name: each for each in fields(Suite)}
    for key in settings:
        if key not in known:
            raise UnknownNameError("suite key", str(key), known)
    required = ["summary", "sources", "targets", "source_frames", "target_frames", "agents"]
    missing = [key for key in required if key not in settings]
    if missing:
        raise ValueError(f"a suite needs the keys {', '.join(required)}; add {', '.join(missing)}")
    values = dict(settings)
    for key in ("sources", "targets", "agents"):
        value = values[key]
        values[key] = tuple(value) if isinstance(value, list | tuple) else value
    ranges = values.get("return_ranges", {})
    if isinstance(ranges, Mapping):
        values["return_ranges"] = {
            key: tuple(bounds) if isinstance(bounds, list) else bounds
            for key, bounds in ranges.items()
        }
    return Suite(**values)


def _check_fields(suite: Suite) -> None:
    for key in ("name", "summary"):
        value = getattr(suite, key)
        _require(isinstance(value, str) and bool(value), key, "a non-empty text", value)
    for key in ("sources", "targets", "agents"):
        value = getattr(suite, key)
        fine = isinstance(value, tuple) and value and all(isinstance(x, str) and x for x in value)
        _require(bool(fine), key, "a list of one or more names", value)
        _require(len(set(value)) == len(value), key, "a list without repetitions", value)
    for key in ("source_frames", "target_frames"):
        value = getattr(suite, key)
        whole = isinstance(value, int) and not isinstance(value, bool)
        _require(whole and value >= 1, key, "a whole number of at least 1", value)
    _require(suite.observation in OBSERVATIONS, "observation", f"one of {OBSERVATIONS}", suite)
    _require(isinstance(suite.sensors, bool), "sensors", "true or false", suite.sensors)
    score = suite.learnt_score
    number = isinstance(score, int | float) and not isinstance(score, bool)
    _require(number and 0 < score <= 1, "learnt_score", "a number in (0, 1]", score)
    other = suite.unrelated
    is_id = other is None or (isinstance(other, str) and bool(other))
    _require(is_id, "unrelated", "an environment's id", other)
    _check_ranges(suite)


def _check_ranges(suite: Suite) -> None:
    ranges = suite.return_ranges
    _require(
        isinstance(ranges, Mapping), "return_ranges", "pairs of numbers by environment", ranges
    )
    members = (*suite.sources, *suite.targets)
    for env_id, bounds in ranges.items():
        if env_id not in members:
            raise UnknownNameError("environment in return_ranges", str(env_id), members)
        fine = (
            isinstance(bounds, tuple)
            and len(bounds) == 2
            and all(isinstance(x, int | float) for x in bounds)
            and bounds[0] < bounds[1]
        )
        _require(fine, f"return_ranges[{env_id!r}]", "[low, high] with low < high", bounds)


def _require(fine: bool, key: str, expected: str, value: object) -> None:
    if not fine:
        value = value.observation if isinstance(value, Suite) else value
        raise ValueError(f"{key} of a suite must be {expected}, got {value!r}")
