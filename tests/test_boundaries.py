"""Who may import whom (docs: the rooms). Read from the source, not by importing."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "contrastive_distillation"
ROOMS = ("agents", "envs", "losses", "memory", "transfer")
MAY_IMPORT = {
    "memory": set(),
    "envs": set(),
    "losses": {"memory"},
    "agents": {"losses", "memory"},
    "transfer": {"agents", "envs", "losses", "memory"},
    "run_agent": {"agents", "envs", "losses", "memory", "transfer"},
}
FOLDERS_OF_TRANSFER = {
    "run_directory": set(),
    "settings": {"run_directory"},
    "evaluation": {"run_directory", "settings"},
    "training": {"run_directory", "settings", "evaluation"},
    "report": {"run_directory", "settings", "evaluation", "training"},
    "study": {"run_directory", "settings", "evaluation", "training", "report"},
}
"""Which folders of `transfer` each of them may import; each may import its top modules."""
ONLY_IN = {
    "stable_baselines3": {"agents", "envs", "transfer"},
    "sb3_contrib": {"agents", "envs", "transfer"},
    "faiss": {"memory"},
    "minigrid": {"envs"},
    "envpool": {"envs"},
}

PRIVATE_OF_LIBRARIES = {
    "_buffers",
    "_current_frames",
    "_current_progress_remaining",
    "_exit",
    "_foreach_lerp_",
    "_foreach_norm",
    "_get_constructor_parameters",
    "_last_episode_starts",
    "_last_obs",
    "_n_updates",
    "_stats_window_size",
}
"""Names of torch, Stable-Baselines3, `os` and `sys` that have no public counterpart."""


def sources() -> list[Path]:
    files = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return [*files, ROOT / "run_agent.py"]


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Absolute module and imported names of each import statement, wherever it stands."""
    package = [PACKAGE, *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if not node.level:
                yield str(node.module), names
                continue
            base = package[: len(package) - node.level + 1]
            yield ".".join([*base, *([node.module] if node.module else [])]), names


def rooms_reached(module: str, names: list[str]) -> set[str]:
    """The rooms (or `run_agent`) that an import reaches, by whatever spelling."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return set()
    return {parts[1]} if len(parts) > 1 else set(names)


def public_names(room: str) -> set[str]:
    stub = ROOT / room / "__init__.pyi"  # of a room whose names are imported on first use
    if stub.is_file():
        nodes = ast.parse(stub.read_text(encoding="utf-8")).body
        return {a.name for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names}
    tree = ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(each, ast.Name) and each.id == "__all__" for each in targets):
            return set(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return set()


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_stay_within_bounds(path: Path) -> None:
    room = room_of(path)
    for module, names in imports(path):
        top = module.split(".")[0]
        assert top not in (*ROOMS, "run_agent"), f"`import {module}`: spell out {PACKAGE}.{module}"
        if top in ONLY_IN:
            assert room in ONLY_IN[top], f"{top} is used only in {sorted(ONLY_IN[top])}"
        for other in rooms_reached(module, names) - {room}:
            assert other != "run_agent", "nobody imports run_agent"
            assert other in MAY_IMPORT[room], f"{room} may not import {other}"
            assert module == f"{PACKAGE}.{other}", f"use {other}'s public names, not {module}"
            hidden = set(names) - public_names(other)
            assert not hidden, f"{other}.__all__ does not offer {sorted(hidden)}"


@pytest.mark.parametrize("folder", FOLDERS_OF_TRANSFER)
def test_folders_of_transfer_stay_within_bounds(folder: str) -> None:
    transfer = f"{PACKAGE}.transfer"
    for path in sorted((ROOT / "transfer" / folder).rglob("*.py")):
        for module, names in imports(path):
            if not f"{module}.".startswith(f"{transfer}.") or module == transfer:
                continue
            other, _, inside = module.removeprefix(f"{transfer}.").partition(".")
            if other not in FOLDERS_OF_TRANSFER or other == folder:
                continue
            assert other in FOLDERS_OF_TRANSFER[folder], f"{path.name}: {folder} imports {other}"
            private = [n for n in (*names, *inside.split(".")) if n.startswith("_")]
            assert not private, f"{path.name}: {private} of {other} is private"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined_names(tree: ast.AST) -> set[str]:
    """The names that a module defines: functions, classes, variables and attributes of `self`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names |= {node.attr} if ast.unparse(node.value) in ("self", "cls") else set()
    return names


def private_names_of_others(source: str) -> Iterator[str]:
    """Each private name that a module imports, or reads from an object other than `self`."""
    tree = ast.parse(source)
    allowed = defined_names(tree) | PRIVATE_OF_LIBRARIES
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            of = ast.unparse(node.value)
            if of not in ("self", "cls", "super()") and node.attr not in allowed:
                yield f"{of}.{node.attr}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_private_names_stay_in_their_module(path: Path) -> None:
    found = sorted(set(private_names_of_others(path.read_text(encoding="utf-8"))))
    assert not found, f"private names of other modules: {found}"


def test_private_names_of_others_are_found() -> None:
    source = "from .a import _b\nx._c\nself._d\nclass E:\n    _f = 1\nE()._f\nmodel._last_obs"
    assert list(private_names_of_others(source)) == ["_b", "x._c"]


def test_every_folder_of_transfer_has_bounds() -> None:
    found = {path.parent.name for path in (ROOT / "transfer").glob("*/__init__.py")}
    assert found == set(FOLDERS_OF_TRANSFER)


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_is_public(room: str) -> None:
    text = (ROOT / room / "__init__.py").read_text(encoding="utf-8")
    assert "__all__" in text


def test_no_module_takes_the_place_of_what_its_room_offers() -> None:
    """Importing a module sets it on its package, where names come late in the place of one."""
    late = [r for r in ROOMS if (ROOT / r / "__init__.pyi").is_file()]
    assert "transfer" in late
    for room in late:
        assert not public_names(room) & {path.stem for path in (ROOT / room).iterdir()}


def test_every_folder_of_a_room_is_shipped() -> None:
    """Setuptools is told of each by name; one that is forgotten is missing in the wheel alone."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {path.parent.relative_to(ROOT).parts for path in sources() if path.parent != ROOT}
    assert set(told) == {PACKAGE, *(".".join([PACKAGE, *parts]) for parts in found)}


def test_tests_do_not_import_bare_rooms_either() -> None:
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for module, _ in imports(path):
            assert module.split(".")[0] not in ROOMS, f"{path}: `import {module}`"
