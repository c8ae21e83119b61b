"""What a ``--config`` file records beside its settings must be what these settings give.

The ``config.yaml`` of a run holds settings and, under ``resolved`` and ``agent_settings``, values
that follow from them. The latter set nothing: an edited one is refused instead of being ignored.
"""

from collections.abc import Mapping
from typing import Any

from ..errors import SettingsError
from ..run_directory.atomic_files import plain
from ..run_directory.directory import AGENT_SETTINGS, RESOLVED, flattened
from ..settings.spec import TrainingSpec


def check_recorded(
    recorded: Mapping[str, Any], config: Mapping[str, Any], spec: TrainingSpec, *, origin: str
) -> None:
    """Refuse recorded values that differ from those of the file's own settings.

    Args:
        recorded: the values of ``resolved`` and ``agent_settings`` in the file.
        config: the configuration that the settings of the file give.
        spec: the first training that they give.
        origin: the file's name.

    Raises:
        SettingsError: naming the first value that differs.
    """
    found = {RESOLVED: config[RESOLVED]}
    if AGENT_SETTINGS in recorded and config["command"] == "train":
        from ..training.train import agent_settings

        found[AGENT_SETTINGS] = agent_settings(spec)
    expected = flattened(plain(found))
    for key, value in flattened(recorded).items():
        if key not in expected or value != expected[key]:
            gives = f"give {expected[key]}" if key in expected else "give no such value"
            raise SettingsError(
                f"--config {origin}: {key} is {value}, but the settings in the file {gives}; "
                f"{RESOLVED} and {AGENT_SETTINGS} record what follows from the settings and set "
                f"nothing: delete {key.partition('.')[0]} from the file, and change a setting "
                "instead"
            )
