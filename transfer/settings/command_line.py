"""From the words typed to the settings of one command."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union

import tyro
import yaml

from ..errors import SettingsError
from ..run_directory.directory import AGENT_SETTINGS, RESOLVED
from .commands import COMMANDS, Settings
from .fields import from_mapping, nearest, validate

_DESCRIPTION = "Train agents, carry them over to other tasks, and see how much that helped."

_TYRO = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)


_REPEATABLE = "--vary"

_RECORDED = (RESOLVED, AGENT_SETTINGS)
"""Keys of a run's ``config.yaml`` that no flag sets."""

_AnySettings = TypeVar("_AnySettings", bound=Settings)


def parse_command_line(words: Sequence[str], *, program: str = "run_agent.py") -> Settings:
    """The command's settings: defaults, overridden by ``--config``, overridden by flags.

    Raises:
        SettingsError: for an unknown command, a bad YAML file, a value out of range.
        SystemExit: from tyro, with code 2 for an unknown flag and 0 after ``--help``.
    """
    command = words[0] if words and not words[0].startswith("-") else None
    if command is not None and command not in COMMANDS:
        raise SettingsError(f"unknown command {command!r}.{nearest(command, [*COMMANDS])}")
    commands: list[Any] = [
        Annotated[kind, tyro.conf.subcommand(name, default=_defaults(name, kind, words, command))]
        for name, kind in COMMANDS.items()
    ]
    union: Any = Union[tuple(commands)]  # noqa: UP007 (a computed union has no other spelling)
    settings: Settings = tyro.cli(
        union,
        args=_gathered(words),
        prog=program,
        description=_DESCRIPTION,
        config=_TYRO,
    )
    validate(settings)
    return settings


def _gathered(words: Sequence[str]) -> list[str]:
    """The words with the values of every ``--vary`` behind the first one."""
    kept: list[str] = []
    values: list[str] = []
    at: int | None = None
    is_value = False
    for word in words:
        if word == _REPEATABLE or word.startswith(f"{_REPEATABLE}="):
            at = len(kept) if at is None else at
            values += [word.removeprefix(f"{_REPEATABLE}=")] if word != _REPEATABLE else []
            is_value = word == _REPEATABLE
        elif is_value and not word.startswith("-"):
            values.append(word)
        else:
            is_value = False
            kept.append(word)
    return kept if at is None else [*kept[:at], _REPEATABLE, *values, *kept[at:]]


def _defaults(
    name: str, kind: type[Settings], words: Sequence[str], command: str | None
) -> Settings:
    """An instance to start from: the class's defaults with the YAML file's values over them."""
    values: dict[str, Any] = {
        field.name: tyro.MISSING
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING
    }
    path = _config_path(words) if name == command else None
    if path is not None:
        values |= from_mapping(kind, _read_config(path, name)[0], origin=path)
    return kind(**values)


def read_settings_file(
    kind: type[_AnySettings], path: str
) -> tuple[_AnySettings, dict[str, object]]:
    """The settings of a ``--config`` file without any flag, and what it records beside them.

    Raises:
        SettingsError: it cannot be read, or has an unknown key or a value out of range.
    """
    command = next(name for name, each in COMMANDS.items() if each is kind)
    values, recorded = _read_config(path, command)
    return kind(**from_mapping(kind, values, origin=path)), recorded


def _config_path(words: Sequence[str]) -> str | None:
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == "--config":
            return following
        if word.startswith("--config="):
            return word.removeprefix("--config=")
    return None


def _read_config(path: str, command: str) -> tuple[dict[str, object], dict[str, object]]:
    """The settings in a file, and its values of `_RECORDED`."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"--config {path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = str(error).replace("\n", " ")
        raise SettingsError(f"--config {path}: is not YAML: {line}") from None
    if values is None:
        return {}, {}
    if not isinstance(values, dict):
        raise SettingsError(f"--config {path}: must be a mapping of settings, key: value")
    if values.get("trust"):
        raise SettingsError(f"--config {path}: trust cannot be set in a file; type --trust")
    if "config" in values:
        raise SettingsError(
            f"--config {path}: config: a file of settings cannot name another one; remove the key"
        )
    written_for = values.pop("command", command)
    if written_for != command:
        raise SettingsError(f"--config {path}: is for the command {written_for!r}, not {command!r}")
    recorded = {key: values.pop(key) for key in _RECORDED if key in values}
    return values, recorded
