"""From settings to a plan: every name resolved, every space compared, before a frame is spent."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contrastive_distillation.agents import AGENTS, resolve_device
from contrastive_distillation.envs import (
    Suite,
    UnknownNameError,
    check_backend,
    suite_settings,
)
from contrastive_distillation.memory import KEEPS

from .arms import Arm
from .cells import Cell
from .choices import (
    choose_arms,
    choose_loss,
    choose_n_envs,
    choose_suite,
    choose_workers,
    needs_mission,
    without_loss,
)
from .command_line import RESOLVED
from .fields import SettingsError
from .fitting import check_spaces, compare_all
from .given import around_given, find_given_source, note_on_given
from .runs import default_directory
from .settings import TrainSettings, TransferSettings


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole run: its cells, its directory, its configuration."""

    command: str
    suite: Suite
    cells: tuple[Cell, ...]
    config: Mapping[str, Any]
    """What the run's own ``config.yaml`` says."""
    directory: Path
    workers: int
    arms: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What the user should know before it starts."""
    given_source: Mapping[str, Any] | None = None
    """Result of the run that every arm starts from, with ``--from``."""
    resume: str = "auto"
    trust: bool = False
    """Whether checkpoints that this user has not signed may be unpickled."""

    @property
    def is_one_cell(self) -> bool:
        """Whether the run's directory is that of its only cell."""
        return len(self.cells) == 1 and not self.cells[0].name

    def directory_of(self, cell: Cell) -> Path:
        """Where a cell keeps its files."""
        return self.directory / cell.name if cell.name else self.directory


def plan_train(settings: TrainSettings) -> Plan:
    """The plan of `train`: one cell for each seed.

    Raises:
        ValueError: for anything that cannot be trained as asked.
    """
    suite = choose_suite(settings.suite, settings.env, ())
    check_backend(suite.sources, settings.backend)
    mission = needs_mission(suite.sources, suite.observation)
    compare_all(suite, suite.sources[0], suite.sources, mission)
    common = _common_cell(settings, suite, mission)
    first = replace(
        common,
        role="source",
        arms=("train",),
        env_ids=suite.sources,
        n_envs=choose_n_envs(
            settings.n_envs, common.agent, len(suite.sources), suite, common.mission
        ),
        frames=settings.frames or suite.source_frames,
        until_learnt=settings.until_learnt,
    )
    cells: tuple[Cell, ...] = (first,)
    config = first.config()
    if settings.seeds > 1:
        config |= {"seeds": settings.seeds}
        cells = tuple(replace(first, name=f"seed{seed}", seed=seed) for seed in _seeds(settings))
    subject = settings.suite or ("+".join(settings.env) if settings.env else suite.name)
    return Plan(
        command="train",
        suite=suite,
        cells=cells,
        config=config,
        directory=_directory(settings.output, config, subject),
        workers=choose_workers(settings.workers),
        resume=settings.resume,
        trust=settings.trust,
        notes=_notes(common),
    )


def plan_transfer(settings: TransferSettings) -> Plan:
    """The plan of `transfer`: the sources each arm needs, and a cell per arm, target and seed.

    Raises:
        ValueError: for anything that cannot be done as asked; also, with a table, where
            observations or actions of a target do not fit the source.
    """
    arms = choose_arms(settings.arms)
    given = find_given_source(settings)
    if given is None:
        suite, mission = _around_suite(settings)
    else:
        settings, suite, mission = around_given(settings, given)
    trained_on = suite.targets if given else (*suite.sources, *suite.targets)
    check_backend(trained_on, settings.backend)
    common = _common_cell(settings, suite, mission)
    cells: list[Cell] = []
    for seed in _seeds(settings):
        if given is None:
            cells += _source_cells(settings, replace(common, seed=seed), arms)
        cells += _target_cells(settings, replace(common, seed=seed), arms)
    config = _transfer_config(settings, common)
    return Plan(
        command="transfer",
        suite=suite,
        cells=tuple(cells),
        config=config,
        directory=_directory(settings.output, config, settings.suite or suite.name),
        workers=choose_workers(settings.workers),
        resume=settings.resume,
        trust=settings.trust,
        arms=settings.arms,
        given_source=None if given is None else given.result,
        notes=(
            *_notes(common),
            *(() if given is None else (note_on_given(settings, given),)),
        ),
    )


def _around_suite(settings: TransferSettings) -> tuple[Suite, bool]:
    """The suite, its spaces compared, and whether observations hold the mission."""
    if settings.source and not settings.target and settings.suite is None:
        raise SettingsError("--source: say --target ID… as well, or name a --suite")
    if settings.target and not settings.source and settings.suite is None:
        raise SettingsError("--target: say --source ID… or --from RUN as well, or name a --suite")
    suite = choose_suite(settings.suite, settings.source, settings.target)
    env_ids = (*suite.sources, *suite.targets)
    mission = needs_mission(env_ids, suite.observation)
    compare_all(suite, suite.sources[0], env_ids, mission)
    return suite, mission


def _transfer_config(settings: TransferSettings, common: Cell) -> dict[str, Any]:
    suite = common.suite
    config: dict[str, Any] = {
        "command": "transfer",
        "suite": common.suite_as_given,
        "source": list(suite.sources),
        "target": list(suite.targets),
        "from": settings.from_,
        "arms": list(settings.arms),
        "frames": settings.frames or suite.target_frames,
        "source_frames": settings.source_frames or suite.source_frames,
        "seeds": settings.seeds,
    }
    if settings.from_ is not None:
        del config["source"], config["source_frames"]
    shared = common.config()
    left_out = {"command", "suite", "env", "frames", "until_learnt", "n_envs", RESOLVED}
    config |= {key: value for key, value in shared.items() if key not in left_out}
    config["n_envs"] = settings.n_envs
    config[RESOLVED] = {"mission": common.mission, "suite": suite_settings(suite)}
    return config


def _common_cell(settings: TrainSettings | TransferSettings, suite: Suite, mission: bool) -> Cell:
    """What all cells of a run have in common: the settings, checked."""
    agent = settings.agent or suite.agents[0]
    if agent not in AGENTS:
        raise UnknownNameError("agent", agent, AGENTS, hint=f"There are: {', '.join(AGENTS)}.")
    check_spaces(agent, suite.sources[0], suite, mission)
    loss = choose_loss(settings, agent)
    n_envs = choose_n_envs(settings.n_envs, agent, 1, suite, mission)
    per_env = KEEPS[loss.keep].rows_per_env
    if loss.memory_capacity < n_envs * per_env:
        of_keep = "" if per_env == 1 else f" times {per_env} with --keep {loss.keep}"
        raise SettingsError(
            f"--memory-capacity {loss.memory_capacity}: must be at least the number of "
            f"environments, {n_envs}{of_keep}"
        )
    return Cell(
        name="",
        role="target",
        arms=(),
        suite=suite,
        suite_as_given=_suite_as_given(settings, suite),
        env_ids=(),
        agent=agent,
        loss=loss,
        seed=settings.seed,
        frames=1,
        backend=settings.backend,
        n_envs=n_envs,
        gamma=settings.gamma,
        mission=mission,
        device=resolve_device(settings.device),
        threads=settings.threads,
        checkpoint_every=settings.checkpoint_every,
        env_timeout=settings.env_timeout,
    )


def _source_cells(settings: TransferSettings, common: Cell, arms: Sequence[Arm]) -> list[Cell]:
    """One cell for each kind of source that some arm needs."""
    suite = common.suite
    kinds = dict.fromkeys(arm.source_kind for arm in arms if arm.source_kind is not None)
    return [
        replace(
            common,
            name=f"sources/{kind}-seed{common.seed}",
            role="source",
            arms=tuple(arm.name for arm in arms if arm.source_kind == kind),
            env_ids=suite.sources,
            loss=common.loss if kind == "with_loss" else without_loss(common.loss),
            frames=settings.source_frames or suite.source_frames,
            until_learnt=True,
            n_envs=choose_n_envs(
                settings.n_envs, common.agent, len(suite.sources), suite, common.mission
            ),
        )
        for kind in kinds
    ]


def _target_cells(settings: TransferSettings, common: Cell, arms: Sequence[Arm]) -> list[Cell]:
    """One cell for each target and arm."""
    return [
        _target_cell(settings, common, arm, env_id)
        for env_id in common.suite.targets
        for arm in arms
    ]


def _target_cell(settings: TransferSettings, common: Cell, arm: Arm, env_id: str) -> Cell:
    name = f"targets/{arm.name}/{_folder(env_id)}/seed{common.seed}"
    needs, source = None, None
    if arm.source_kind is not None and settings.from_ is not None:
        source = settings.from_
    elif arm.source_kind is not None:
        needs = f"sources/{arm.source_kind}-seed{common.seed}"
        source = os.path.relpath(needs, name)
    return replace(
        common,
        name=name,
        arms=(arm.name,),
        env_ids=(env_id,),
        loss=common.loss if arm.target_loss else without_loss(common.loss),
        frames=settings.frames or common.suite.target_frames,
        needs=needs,
        source=source,
        mode=arm.mode,
        teacher=arm.teacher,
    )


def _suite_as_given(settings: TrainSettings | TransferSettings, suite: Suite) -> str | None:
    """What names the suite again: None where environments were named in its place."""
    if settings.suite is not None:
        return settings.suite
    if isinstance(settings, TrainSettings):
        return None if settings.env else suite.name
    return None if settings.target or settings.from_ else suite.name


def _notes(common: Cell) -> tuple[str, ...]:
    suite = common.suite
    if common.agent in suite.agents:
        return ()
    made_for = " and ".join(suite.agents)
    return (f"The suite {suite.name} is made for {made_for}; {common.agent} may not learn it.",)


def _folder(env_id: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in env_id)


def _seeds(settings: TrainSettings | TransferSettings) -> range:
    return range(settings.seed, settings.seed + settings.seeds)


def _directory(output: str | None, config: Mapping[str, Any], subject: str) -> Path:
    return Path(output) if output is not None else default_directory(config, subject=subject)
