"""The Python in README and in docs/*.md runs as it stands, and says what is true."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from contrastive_distillation import agents, losses
from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    FrozenTeacher,
    RealignReport,
    VectorEncoder,
)
from contrastive_distillation.losses import AuxiliaryLoss, ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory
from contrastive_distillation.run_agent import main
from contrastive_distillation.transfer.settings.arms import ARMS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLUG_IN = ROOT / "docs" / "plug_in.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"


def blocks(page: Path, language: str = "python") -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda p: p.name)
def test_the_python_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(page), start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
        callbacks = [each for each in names.values() if isinstance(each, AuxiliaryLossCallback)]
        for callback in callbacks:
            if callback.learner is not None and callback.weight != 0.0:
                assert callback.n_updates > 0, f"block {number} of {page.name} never used the loss"
    if page.name in ("README.md", PLUG_IN.name):
        check_realigned(page, names)
    without_loss = page.name in ("report.md", "sensors.md")
    assert without_loss or any(callback.n_updates > 0 for callback in callbacks)


def check_realigned(page: Path, names: dict[str, Any]) -> None:
    """The example of `realign` on a page did what the page says."""
    report = names["report"]
    assert isinstance(report, RealignReport)
    assert report.sensors_changed
    assert report.aligned
    if page == PLUG_IN:  # random actions have returns near -50
        scores = names["scores"]
        assert scores["source"] > -15.0
        assert scores["realigned"] > -20.0


def test_both_pages_have_python() -> None:
    assert len(blocks(ROOT / "README.md")) >= 3
    assert len(blocks(PLUG_IN)) >= 7


def test_a_loss_of_ones_own_has_ten_lines() -> None:
    block = next(block for block in blocks(PLUG_IN) if "AuxiliaryLoss)" in block)
    loss = block[block.index("class ") : block.index("\n\n\nauxiliary")]
    assert len([line for line in loss.splitlines() if line.strip()]) <= 10


def test_readme_links_the_pages() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in ("plug_in", "architecture", "glossary"):
        assert f"(docs/{page}.md)" in readme


def test_the_architecture_page_names_what_exists() -> None:
    """Each "`folder/file.py`: `Class.method`" of the page, in at most eight stops per list."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)`:\s+((?:`[\w.]+`(?:, )?)+)", text)
    assert len(named) >= 12
    for file, names in named:
        defined = names_defined_in(ROOT / file)
        missing = set(re.findall(r"`([\w.]+)`", names)) - defined
        assert not missing, f"{file} does not define {sorted(missing)}"
    assert max(map(int, re.findall(r"^(\d+)\. ", text, flags=re.MULTILINE))) <= 8


def names_defined_in(path: Path) -> set[str]:
    """Functions, classes and `Class.method` of a module."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = [each.name for each in node.body if isinstance(each, ast.FunctionDef)]
            found |= {node.name, *(f"{node.name}.{name}" for name in methods)}
    return found


def test_the_arm_and_the_suite_of_the_architecture_page_are_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(next(each for each in blocks(ARCHITECTURE) if "import Arm\n" in each), names)
    arm = names["slow_encoder"]
    import_module("contrastive_distillation.transfer.study.run")
    before, after = ARMS, {**ARMS, arm.name: arm}
    for module in list(sys.modules.values()):
        if vars(module).get("ARMS") is before:
            monkeypatch.setattr(module, "ARMS", after)
    Path("my_rooms.yaml").write_text(*blocks(ARCHITECTURE, "yaml"))
    words = ["--suite", "my_rooms.yaml", "--arms", arm.name, "fine_tune", "--seeds", "1"]
    assert main(["ablate", *words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "slow_encoder" in said
    assert "50_000" in said


def test_the_two_commands_are_what_is_run_from_a_fresh_clone() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme[readme.index("## Two commands") :].split("```bash\n")[1].split("```")[0]
    commands = block.strip().splitlines()
    assert len(commands) == 2
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    for command in commands:
        assert any(line.removesuffix(" || exit 1") == command for line in run), command


def test_local_links_lead_somewhere() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert (page.parent / link).exists(), f"{page.name} links {link}"


def logged_names() -> set[str]:
    """All that a run with both terms logs under aux/ and memory/."""
    seen: set[str] = set()

    class Watch(BaseCallback):
        def _on_rollout_start(self) -> None:
            seen.update(self.logger.name_to_value)

        _on_rollout_end = _on_rollout_start

        def _on_step(self) -> bool:
            return True

    kwargs = {"features_extractor_class": VectorEncoder}
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, policy_kwargs=kwargs, batch_size=32)
    loss = ContrastiveDistillation(teacher=FrozenTeacher.from_model(model), n_negatives=16)
    joined = AuxiliaryLossCallback(loss, memory=EpisodicMemory(), diagnostics_frames=32)
    model.learn(1_088, callback=[joined, Watch()])
    return {name for name in seen if name.split("/")[0] in ("aux", "memory")}


def test_all_that_is_logged_is_explained() -> None:
    page = PLUG_IN.read_text(encoding="utf-8")
    names = logged_names()
    assert len(names) >= 10
    assert not [name for name in sorted(names) if f"`{name}`" not in page]


def test_help_of_the_callback_is_enough_to_use_it() -> None:
    text = inspect.getdoc(AuxiliaryLossCallback) or ""
    arguments = inspect.signature(AuxiliaryLossCallback).parameters
    assert not [name for name in arguments if f"\n    {name}: " not in text]
    promised = {
        "aux/loss", "aux/accuracy", "aux/gradient_ratio", "aux/gradient_cosine", "aux/entropy",
        "aux/effective_rank", "memory/size", "memory/known_returns", "memory/masked_fraction",
        "memory/key_drift",
    }  # fmt: skip
    assert not [name for name in sorted(promised) if name not in text]
    for part in ("Example:", "Args:", "Raises:", "Logged", "arXiv"):
        assert part in text
    example = text[text.index("Example:") : text.index("Args:")]
    code = [line.strip() for line in example.splitlines() if line.startswith("    ")]
    names: dict[str, Any] = {}
    exec("\n".join(code), names)
    assert names["auxiliary"].n_updates > 0


def test_the_loss_in_the_help_of_auxiliary_loss_runs() -> None:
    text = inspect.getdoc(AuxiliaryLoss) or ""
    code = text[text.index("    class Inverse") : text.index("Pass an instance in Python")]
    names: dict[str, Any] = {"AuxiliaryLoss": AuxiliaryLoss, "nn": nn, "torch": torch, "F": F}
    exec(textwrap.dedent(code), names)
    kwargs = {"features_extractor_class": VectorEncoder}
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, policy_kwargs=kwargs, batch_size=32)
    joined = AuxiliaryLossCallback(names["Inverse"](), memory=EpisodicMemory())
    model.learn(64, callback=joined)
    assert joined.n_updates > 0


PUBLIC = [
    *(getattr(agents, name) for name in agents.__all__ if not name.isupper()),
    AuxiliaryLoss,
    ContrastiveDistillation,
    losses.Learner,
    losses.Teacher,
]


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_public_names_are_documented(thing: Any) -> None:
    assert inspect.getdoc(thing)
    if not isinstance(thing, type):
        return
    for name, member in vars(thing).items():
        if name.startswith("_") or not (callable(member) or isinstance(member, property)):
            continue
        assert inspect.getdoc(getattr(thing, name)), f"{thing.__name__}.{name}"
