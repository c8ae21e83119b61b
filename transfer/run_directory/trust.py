"""Check who made a run before its configuration imports modules.

A run's configuration can name modules, as ``module:ID``, and importing a module runs its code. From
another user's run only weights and numbers are used, unless this user trusts it explicitly.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from .directory import CONFIG, MANIFEST, RESOLVED, config_digest
from .signing import is_signed


def is_own(directory: Path) -> bool:
    """Whether this user made the configuration of a run."""
    try:
        text = (directory / CONFIG).read_text(encoding="utf-8")
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        signature = manifest.get("signature")
    except (OSError, ValueError, AttributeError):
        return False
    return is_signed(config_digest(text), signature)


def check_modules(
    directory: Path, config: Mapping[str, Any], *, typed: Iterable[str] = (), trust: bool = False
) -> None:
    """Refuse to import modules that only another user's configuration names.

    Args:
        directory: the run directory.
        config: its configuration.
        typed: environment ids that the user typed; their modules may be imported.
        trust: whether the user trusts the run.

    Raises:
        SettingsError: the run names modules, and this user neither made it nor typed them.
    """
    suite = config.get(RESOLVED, {}).get("suite", {})
    named = [*config.get("env", ()), *suite.get("sources", ()), *suite.get("targets", ())]
    named.append(suite.get("unrelated") or "")
    wanted = {"", *(_module(env_id) for env_id in typed)}
    foreign = [env_id for env_id in map(str, named) if _module(env_id) not in wanted]
    if foreign and not trust and not is_own(directory):
        raise SettingsError(
            f"{directory}: was not made by you, and its {CONFIG} names the module "
            f"'{_module(foreign[0])}', whose code would run. If you trust it, say so: "
            f"--env {foreign[0]} (with transfer: --trust)"
        )


def _module(env_id: str) -> str:
    return env_id.rpartition(":")[0]
