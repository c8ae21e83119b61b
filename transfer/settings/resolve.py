"""From the settings of a command to resolved settings: every name is looked up here, once."""

import os
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from contrastive_distillation.agents import (
    AGENTS,
    default_n_envs,
    observation_kind,
    resolve_device,
)
from contrastive_distillation.envs import Suite, UnknownNameError, check_backend
from contrastive_distillation.losses import LOSSES, OBJECTIVES
from contrastive_distillation.memory import EVICTIONS

from ..errors import SettingsError
from .arms import choose_arms
from .commands import AblateSettings, TrainSettings, TransferSettings
from .loss_choice import choose_loss, with_published_where_known
from .source_run import SourceRun, suite_around
from .spaces import check_spaces, compare_all, spaces_of
from .spec import AgentSpec, LossSpec, RealignSpec, RuntimeSpec, TaskSpec, TrainingSpec
from .suite import in_range, name_as_given, needs_mission, suite_of_settings

RANDOM_FRAMES = 40_000
"""Frames of random actions that a source plays at its end, for its latent dynamics."""
_LONG_TRAINING = 100_000  # shorter ones are trials, which need not take longer


@dataclass(frozen=True, kw_only=True)
class ResolvedSettings:
    """Settings of a training command, with every name looked up and every default filled in."""

    suite: Suite
    suite_as_given: str | None
    """The suite's name or file as the user gave it; None for environments of their own."""
    mission: bool
    """Whether observations hold the mission; one answer for sources and targets."""
    agent: AgentSpec
    loss: LossSpec
    matched_loss: LossSpec | None = None
    """The agent learns more often instead, so that its encoder sees as much as with this loss."""
    runtime: RuntimeSpec
    backend: str
    n_envs: int | None
    """As given; None: the agent's default."""
    return_range: tuple[float, float] | None = None
    """As given."""
    source_frames: int
    target_frames: int
    realign: RealignSpec = field(default_factory=RealignSpec)
    """As given, for the arms that realign."""
    zero_shot: bool = False
    random_frames: int = 0
    """Of random actions that sources play at their end."""

    def training(
        self,
        env_ids: tuple[str, ...],
        *,
        frames: int,
        until_learnt: bool = False,
        **place: Any,
    ) -> TrainingSpec:
        """A training with these settings.

        Args:
            env_ids: environments to train on together.
            frames: frames to train for.
            until_learnt: whether to stop as soon as every environment is learnt.
            **place: the fields of `TrainingSpec` that these settings do not give: name, role,
                arms, needs, seed and source.
        """
        task = TaskSpec(
            suite=self.suite,
            suite_as_given=self.suite_as_given,
            env_ids=env_ids,
            frames=frames,
            until_learnt=until_learnt,
            backend=self.backend,
            n_envs=self._n_envs(env_ids),
            return_range=self.return_range,
            mission=self.mission,
        )
        return TrainingSpec(
            task=task,
            agent=self.agent,
            loss=self.loss,
            matched_loss=self.matched_loss,
            runtime=self.runtime,
            **place,
        )

    def varied(self, settings: TransferSettings) -> Self:
        """The same with other settings; suite, environments and mission stay.

        Raises:
            ValueError: a setting that cannot be used.
        """
        gamma = self.agent.gamma if settings.gamma is None else settings.gamma
        agent = AgentSpec(name=settings.agent or self.agent.name, gamma=gamma)
        varied = replace(
            self,
            agent=agent,
            loss=_choose_loss(settings, agent.name, self.suite, self.mission),
            backend=settings.backend,
            n_envs=settings.n_envs,
            realign=_realign(settings),
            source_frames=settings.source_frames or self.source_frames,
            target_frames=settings.frames or self.target_frames,
        )
        varied.check_memory()
        return varied

    def check_memory(self) -> None:
        """Refuse a memory that is too small for the environments of a training."""
        n_envs, rows = self._n_envs(self.suite.sources[:1]), EVICTIONS[self.loss.keep].rows_per_env
        if self.loss.memory_capacity < n_envs * rows:
            of_keep = "" if rows == 1 else f" times {rows} with --keep {self.loss.keep}"
            raise SettingsError(
                f"--memory-capacity {self.loss.memory_capacity}: must be at least the number of "
                f"environments, {n_envs}{of_keep}"
            )

    def _n_envs(self, env_ids: tuple[str, ...]) -> int:
        """As given, or the agent's default, rounded up to equal shares for the tasks."""
        given, n_tasks = self.n_envs, len(env_ids)
        if given is None:
            spaces = spaces_of(env_ids[0], self.suite.observation, self.mission)
            default = default_n_envs(self.agent.name, observation_kind(spaces.observation))
            return -(-default // n_tasks) * n_tasks
        if given % n_tasks:
            lower = given // n_tasks * n_tasks
            near = f"{lower} or {lower + n_tasks}" if lower else str(n_tasks)
            raise SettingsError(
                f"--n-envs {given}: must be a multiple of the number of environments trained "
                f"together, {n_tasks}; use {near}"
            )
        return given


def resolve(
    settings: TrainSettings | TransferSettings, source_run: SourceRun | None = None
) -> ResolvedSettings:
    """Look up every name of the settings, and compare every space.

    Args:
        settings: the settings of `train`, `transfer` or `ablate`.
        source_run: the run that ``--from`` names.

    Raises:
        ValueError: a setting that cannot be used; also, with a table, where observations or
            actions of the environments do not fit one another.
    """
    spaces_of.cache_clear()  # an id may have been registered again in this process
    if isinstance(settings, TransferSettings) and source_run is not None:
        suite = suite_around(settings, source_run)
        trained_on = suite.targets
        agent = source_run.spec.agent
        source_mission: bool | None = source_run.spec.task.mission
    else:
        suite = suite_of_settings(settings)
        targets = () if isinstance(settings, TrainSettings) else suite.targets
        trained_on = (*suite.sources, *targets)
        agent = AgentSpec(name=settings.agent or suite.agents[0], gamma=settings.gamma)
        source_mission = None
    env_ids = (*suite.sources, *trained_on)
    mission = bool(source_mission) or needs_mission(env_ids, suite.observation)
    _compare_spaces(suite, trained_on, mission, source_mission)
    check_backend(trained_on, settings.backend)
    if settings.return_range is not None:
        suite = in_range(suite, settings.return_range)
    of_sources, of_targets = _frames(settings, suite)
    resolved = ResolvedSettings(
        suite=suite,
        suite_as_given=name_as_given(settings, suite),
        mission=mission,
        agent=agent,
        loss=_choose_loss(_for_all_arms(settings), agent.name, suite, mission),
        runtime=RuntimeSpec(
            device=resolve_device(settings.device),
            threads=settings.threads,
            checkpoint_every=settings.checkpoint_every,
            env_timeout=settings.env_timeout,
            information_points=settings.information_points,
        ),
        backend=settings.backend,
        n_envs=settings.n_envs,
        return_range=settings.return_range,
        source_frames=of_sources,
        target_frames=of_targets,
        random_frames=_random_frames(settings, suite, of_sources),
    )
    if isinstance(settings, TransferSettings):
        resolved = replace(resolved, realign=_realign(settings), zero_shot=settings.zero_shot)
    resolved.check_memory()
    return resolved


def _compare_spaces(
    suite: Suite, trained_on: tuple[str, ...], mission: bool, source_mission: bool | None
) -> None:
    """Refuse environments that do not fit the source; in a sensor suite, observations may differ.

    Raises:
        SettingsError: with a table.
    """
    targets = [env_id for env_id in trained_on if suite.sensors and env_id in suite.targets]
    others = [env_id for env_id in trained_on if env_id not in targets]
    source = suite.sources[0]
    compare_all(suite, source, others, mission, source_mission=source_mission)
    compare_all(suite, source, targets, mission, source_mission=source_mission, actions_only=True)


def choose_workers(given: int | None) -> int:
    """As given, or the number of cores, at most two."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return given or max(1, min(2, cores or 1))


def _choose_loss(
    settings: TrainSettings | TransferSettings, agent: str, suite: Suite, mission: bool
) -> LossSpec:
    """The loss, for an agent that is known and that can act in the suite's environments."""
    if agent not in AGENTS:
        raise UnknownNameError("agent", agent, AGENTS)
    for env_id in (suite.sources[0], *(suite.targets if suite.sensors else ())):
        check_spaces(agent, env_id, suite, mission)
    return choose_loss(settings, agent)


def _for_all_arms(
    settings: TrainSettings | TransferSettings,
) -> TrainSettings | TransferSettings:
    """With ``--as-published``, it is enough that one arm's loss has a paper."""
    if isinstance(settings, TrainSettings):
        return settings
    arms = choose_arms(settings.arms)
    names = {str(loss) for arm in arms for loss in (arm.source_loss, arm.target_loss)}
    published = any(LOSSES[name].published for name in names if name in LOSSES)
    return with_published_where_known(settings) if published else settings


def _realign(settings: TransferSettings) -> RealignSpec:
    """How arms realign; `RealignSpec` has the flags' names without ``realign_``.

    Raises:
        SettingsError: an unknown objective.
    """
    if settings.realign_objective not in OBJECTIVES:
        raise UnknownNameError("objective", settings.realign_objective, OBJECTIVES)
    names = [each.name for each in fields(RealignSpec) if each.name != "select"]
    return RealignSpec(**{name: getattr(settings, f"realign_{name}") for name in names})


def _random_frames(
    settings: TrainSettings | TransferSettings, suite: Suite, source_frames: int
) -> int:
    """Frames of random actions at the end of a source."""
    if isinstance(settings, TransferSettings):
        return RANDOM_FRAMES if suite.sensors else 0
    if settings.random_frames is not None:
        return settings.random_frames
    return RANDOM_FRAMES if source_frames >= _LONG_TRAINING else 0


def _frames(settings: TrainSettings | TransferSettings, suite: Suite) -> tuple[int, int]:
    """Frames on the sources and on each target; `ablate` shortens both by ``--frames``."""
    if isinstance(settings, TrainSettings):
        return settings.frames or suite.source_frames, suite.target_frames
    of_sources = suite.source_frames
    if isinstance(settings, AblateSettings) and settings.frames is not None:
        of_sources = min(settings.frames, of_sources)
    return settings.source_frames or of_sources, settings.frames or suite.target_frames
