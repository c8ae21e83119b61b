"""Builds with setuptools; editable installs are folders of links, which type checkers can read.

By default setuptools installs an import hook, which no type checker follows. In its mode "strict"
it links each file, so that files of a later `git pull` are missing; here whole folders are linked.
"""

import shutil
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the other hooks of PEP 517 and 660)

ROOT = Path(__file__).resolve().parents[1]


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """`build_meta.build_editable` in the mode "strict", unless another was asked for."""
    settings = {"editable_mode": "strict", **(config_settings or {})}
    wheel: str = build_meta.build_editable(wheel_directory, settings, metadata_directory)
    for folder in ROOT.glob("build/__editable__.*/contrastive_distillation/*/"):
        if not folder.is_symlink() and (ROOT / folder.name).is_dir():
            shutil.rmtree(folder)
            folder.symlink_to(ROOT / folder.name, target_is_directory=True)
    return wheel
