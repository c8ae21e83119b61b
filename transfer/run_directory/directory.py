"""The directory of one run: its files, its configuration, its state.

A run is *finished* when its ``result.json`` exists, which is written last. A directory belongs to
the configuration in its ``config.yaml``; another configuration is refused.
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import yaml

from ..errors import SettingsError
from .atomic_files import plain, sha256_of, write_json, write_text
from .locking import RUN_LOCK, TRAINING_LOCK
from .signing import KeyUnusableError, sign

WORKER_LOG = "worker.log"
"""Standard output and error of the process of a training; removed if empty."""
CONFIG = "config.yaml"
MANIFEST = "manifest.json"
RESULT = "result.json"
CURVES = "curves.csv"
SUMMARY = "summary.csv"
INFORMATION = "information.csv"
MEMORY = "memory.safetensors"
AUXILIARY = "aux.safetensors"
CARRIED = "carried.txt"
REALIGNMENT = "realignment.json"
"""Report of the realignment that a target began with."""
RANDOM_STEPS = "random.safetensors"
"""What a source saw and did under random actions, at its end."""
DYNAMICS = "dynamics.safetensors"
"""The latent dynamics of the best agent's features."""
FINAL = "checkpoints/final.zip"
BEST = "checkpoints/best.zip"
"""The agent at the evaluation with the highest score during training; the later of equal ones."""
INTERRUPTED = "checkpoints/interrupted.zip"

RESOLVED = "resolved"
"""Key of ``config.yaml`` for values that follow from the settings."""
AGENT_SETTINGS = "agent_settings"
"""Key of ``config.yaml`` for the agent's own hyperparameters, which follow from the settings too;
not part of the identity."""

NOT_IDENTITY = frozenset(
    {
        "output", "workers", "threads", "config", "debug", "resume", "trust", "checkpoint_every",
        "env_timeout", "information_points", "executor", "dry_run", "frames_per_second",
        "random_frames",
    }
)  # fmt: skip
"""Settings that do not change the learning: they may differ on a later call."""

PACKAGES = (
    "contrastive-distillation", "torch", "numpy", "gymnasium", "stable-baselines3", "minigrid",
    "envpool",
)  # fmt: skip
"""Packages whose versions are recorded with every run."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it is there

Config = dict[str, Any]
Chosen = Literal["best", "final"]
"""Which agent of a run."""
State = Literal["new", "unfinished", "finished"]


class RunDirectoryError(SettingsError):
    """A directory cannot be used for a run, or is not the directory of the expected run."""


_GROWING = frozenset({"arms", "seeds", "vary"})
"""Settings of `ablate` that may differ on a later call, which then adds trainings."""

_ADDED = {"keep": "fifo", "checkpoint": "final"}
"""Settings that older runs did not have, with their implied values. These are not part of an
identity, so that older runs are found again."""


def identity(config: Mapping[str, Any]) -> Config:
    """The part of a configuration that determines the learning."""
    left_out = {*NOT_IDENTITY, AGENT_SETTINGS}
    return {
        key: value
        for key, value in config.items()
        if key not in left_out and not (key in _ADDED and value == _ADDED[key])
    }


def fingerprint(config: Mapping[str, Any]) -> str:
    """Six hexadecimal digits of a configuration's identity."""
    return sha256_of(json.dumps(identity(config), sort_keys=True, default=str).encode())[:6]


def settings_hash(config: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of a configuration's identity without its seeds.

    Runs with equal ones are slices of one study.
    """
    rest = {k: v for k, v in identity(plain(config)).items() if k not in ("seed", "seeds")}
    return sha256_of(json.dumps(rest, sort_keys=True, default=str).encode())[:12]


def versions_text(versions: Mapping[str, str]) -> str:
    """``python 3.11.7; torch 2.6.0; …``, for a column of a table."""
    return "; ".join(f"{name} {version}" for name, version in versions.items())


def default_directory(config: Mapping[str, Any], *, subject: str) -> Path:
    """``runs/<command>-<subject>-<agent>[-loss]-seed<seed>-<6 hex>``."""
    loss = str(config.get("loss", "none")).rsplit(":", 1)[-1]
    parts = [config["command"], subject, config["agent"], *([] if loss == "none" else [loss])]
    name = "-".join([*map(str, parts), f"seed{config['seed']}", fingerprint(config)])
    return Path("runs") / "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def open_directory(directory: Path, config: Mapping[str, Any]) -> State:
    """Find the state of a run's directory, before any training.

    Returns:
        ``new``, ``unfinished`` (same configuration, no result) or ``finished``.

    Raises:
        RunDirectoryError: it belongs to another configuration, or is not a run directory.
    """
    if not directory.exists():
        return "new"
    if not directory.is_dir():
        raise RunDirectoryError(f"--output {directory}: is a file; give a directory")
    if all(_may_precede_a_run(path) for path in directory.iterdir()):
        return "new"  # empty, or a worker died before it had written anything of a run
    if not (directory / CONFIG).is_file():
        raise RunDirectoryError(
            f"--output {directory}: is not a run's directory, and it is not empty; give a new one"
        )
    differing = differences(read_config(directory), config)
    if differing:
        lines = "\n".join(f"  {key}: {old} there, {new} now" for key, old, new in differing)
        raise RunDirectoryError(
            f"--output {directory}: is the run of another configuration:\n{lines}\n"
            "Give another directory, or the settings it was made with."
        )
    return "finished" if (directory / RESULT).is_file() else "unfinished"


def _may_precede_a_run(path: Path) -> bool:
    """Whether a file may exist in the directory of a run that has not started."""
    return path.name in (WORKER_LOG, RUN_LOCK, TRAINING_LOCK) or ".writing" in path.name


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """``(key, old value, new value)`` of each difference between two identities.

    Nested keys, with dots, follow from the others; they are listed only if those agree.
    """
    old, new = identity(plain(old)), identity(plain(new))
    if old.get("command") == new.get("command") == "ablate":
        old, new = ({k: v for k, v in each.items() if k not in _GROWING} for each in (old, new))
    before, after = flattened(old), flattened(new)
    keys = dict.fromkeys([*before, *after])
    found = [
        (k, before.get(k, _ADDED.get(k)), after.get(k, _ADDED.get(k)))
        for k in keys
        if before.get(k) != after.get(k)
    ]
    nested = [entry for entry in found if "." in entry[0]]
    return [entry for entry in found if entry not in nested] or nested


def flattened(tree: Mapping[str, Any], prefix: str = "") -> Config:
    """A nested mapping as one of ``outer.inner`` → value."""
    flat: Config = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def start_directory(
    directory: Path,
    config: Mapping[str, Any],
    *,
    command: Sequence[str],
    agent_settings: Mapping[str, float] | None = None,
) -> None:
    """Write the configuration and the manifest of a run.

    Args:
        directory: the run directory, created if it is missing.
        config: the configuration.
        command: the command line.
        agent_settings: the agent's own hyperparameters, once they are known.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if agent_settings is not None:
        (directory / "checkpoints").mkdir(exist_ok=True)
        config = {**config, AGENT_SETTINGS: agent_settings}
    text = yaml.safe_dump(plain(config), sort_keys=False, width=100)
    write_text(directory / CONFIG, text)
    made = manifest(seed=int(config["seed"]), command=command)
    with contextlib.suppress(KeyUnusableError):  # unsigned: it counts as another user's
        made["signature"] = sign(config_digest(text))
    write_json(directory / MANIFEST, made)


def check_agent_settings(directory: Path, numbers: Mapping[str, float]) -> None:
    """Refuse to continue a run whose ``config.yaml`` says other hyperparameters than its agent's.

    Args:
        directory: the run directory.
        numbers: the agent's hyperparameters.

    Raises:
        RunDirectoryError: the file was edited, or is of a version with other defaults.
    """
    kept = read_config(directory).get(AGENT_SETTINGS, {})
    for key, value in flattened({AGENT_SETTINGS: kept}).items():
        expected = plain(dict(numbers)).get(key.partition(".")[2])
        if value != expected:
            raise RunDirectoryError(
                f"{directory / CONFIG}: {key} is {value}, but the agent of this run has "
                f"{expected}; these values record what the agent has and set nothing: restore "
                "the file, or start a new run in another directory"
            )


def config_digest(text: str) -> Config:
    """The content that is signed for a configuration."""
    return {"config": sha256_of(text.encode())}


def clear_directory(directory: Path) -> None:
    """Remove the files of an unfinished run, and no others, before it starts again."""
    names = ["progress.csv", CURVES, SUMMARY, INFORMATION, MEMORY, AUXILIARY, CARRIED]
    names += [REALIGNMENT, RANDOM_STEPS, DYNAMICS]
    paths = [directory / name for name in (*names, FINAL, BEST, INTERRUPTED)]
    for path in [*paths, *directory.glob("events.out.tfevents.*")]:
        path.unlink(missing_ok=True)


def agent_file(directory: Path, chosen: Chosen) -> Path:
    """The zip of a run's best or final agent.

    Raises:
        RunDirectoryError: there is none.
    """
    path = directory / (BEST if chosen == "best" else FINAL)
    if not path.is_file():
        other = "final" if chosen == "best" else "best"
        raise RunDirectoryError(
            f"{directory}: has no {chosen} agent: no {path.relative_to(directory)} there; "
            f"use --checkpoint {other}"
        )
    return path


def read_config(directory: Path) -> Config:
    """Read the configuration of a run.

    Raises:
        RunDirectoryError: there is none, or it cannot be read.
    """
    path = directory / CONFIG
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        config = None
    if not isinstance(config, dict):
        raise RunDirectoryError(
            f"{directory}: is not a run's directory: there is no readable {CONFIG} in it"
        )
    return config


def read_result(directory: Path) -> dict[str, Any]:
    """Read the result of a finished run.

    Raises:
        RunDirectoryError: the run has not finished, or its result cannot be read.
    """
    path = directory / RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunDirectoryError(
            f"{directory}: has not finished: there is no {RESULT} in it; give its command again"
        ) from None
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{path}: cannot be read: {error}") from None
    if not isinstance(result, dict):
        raise RunDirectoryError(f"{path}: cannot be read: not a mapping")
    return result


def record_resume(directory: Path, *, frames: int, command: Sequence[str]) -> None:
    """Add to a run's manifest that it was resumed; an unreadable manifest is replaced."""
    path = directory / MANIFEST
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = manifest(seed=int(read_config(directory)["seed"]), command=command)
    again = {"frames": frames, "started": _now(), "command": list(command)}
    write_json(path, {**known, "resumed": [*known.get("resumed", []), again]})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def manifest(*, seed: int, command: Sequence[str]) -> dict[str, Any]:
    """The manifest of a run: versions, revision, command, seed, kind of machine."""
    return {
        "command": list(command),
        "seed": seed,
        "started": _now(),
        "versions": installed_versions(PACKAGES),
        "git_revision": _git_revision(),
        "machine": {
            "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
        },
    }


def installed_versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of Python and of packages."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _git_revision() -> str | None:
    """The revision of this checkout, with ``+changes`` if files differ; None outside git."""
    git = ["git", "-C", str(Path(__file__).resolve().parent)]
    tracked = [*git, "ls-files", "--error-unmatch", __file__]
    revision = [*git, "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+changes"]
    try:
        subprocess.run(tracked, capture_output=True, timeout=10, check=True)
        described = subprocess.run(revision, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.decode().strip()


def _cpu_name() -> str:
    if sys.platform == "linux":
        try:
            for line in Path("/proc/cpuinfo").read_text().splitlines():
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
        except OSError:
            pass
    return platform.processor() or platform.machine()
