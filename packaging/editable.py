"""Builds with setuptools; editable installs are strict, so that type checkers find the package.

By default setuptools installs an import hook, which no type checker follows. A strict install is a
folder of links in ``build/``. Install again after you add or rename a file.
"""

from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the other hooks of PEP 517 and 660)


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """`build_meta.build_editable` in the mode "strict", unless another was asked for."""
    settings = {"editable_mode": "strict", **(config_settings or {})}
    return build_meta.build_editable(wheel_directory, settings, metadata_directory)
