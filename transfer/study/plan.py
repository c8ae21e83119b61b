"""From settings to a plan: every name resolved, every space compared, before a frame is spent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contrastive_distillation.envs import Suite, check_backend, suite_settings

from ..errors import SettingsError
from ..run_directory.directory import RESOLVED, default_directory
from ..settings.arms import Arm
from ..settings.commands import AblateSettings, TrainSettings, TransferSettings
from ..settings.loss_settings import Value
from ..settings.resolve import (
    choose_arms,
    choose_n_envs,
    choose_suite,
    choose_workers,
    needs_mission,
)
from ..settings.settled import settled_spec
from ..settings.source_run import around_given, find_given_source, note_on_given
from ..settings.spaces import compare_all
from ..settings.spec import TrainingSpec
from .arm_trainings import ArmTrainings, check_arms
from .ray_executor import check_executor
from .variations import (
    any_published,
    check_axes_are_used,
    joined_as_ours,
    read_axes,
    variants_of,
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole run: its specs, its directory, its configuration."""

    command: str
    suite: Suite
    specs: tuple[TrainingSpec, ...]
    config: Mapping[str, Any]
    """What the run's own ``config.yaml`` says."""
    directory: Path
    workers: int | None
    """Trainings at once; None: as many as the cluster can."""
    executor: str = "local"
    n_retries: int = 0
    """How often a spec that has failed is tried again."""
    notes: tuple[str, ...] = ()
    """What the user should know before it starts."""
    given_source: Mapping[str, Any] | None = None
    """Result of the run that every arm starts from, with ``--from``."""
    resume: str = "auto"
    trust: bool = False
    """Whether checkpoints that this user has not signed may be unpickled."""

    @property
    def is_one_training(self) -> bool:
        """Whether the run's directory is that of its only spec."""
        return len(self.specs) == 1 and not self.specs[0].name

    def directory_of(self, spec: TrainingSpec) -> Path:
        """Where a spec keeps its files."""
        return self.directory / spec.name if spec.name else self.directory


def plan_train(settings: TrainSettings) -> Plan:
    """The plan of `train`: one spec for each seed.

    Raises:
        ValueError: for anything that cannot be trained as asked.
    """
    suite = choose_suite(settings.suite, settings.env, ())
    check_backend(suite.sources, settings.backend)
    mission = needs_mission(suite.sources, suite.observation)
    compare_all(suite, suite.sources[0], suite.sources, mission)
    common = settled_spec(settings, suite, mission)
    first = replace(
        common,
        role="source",
        arms=("train",),
        task=replace(
            common.task,
            env_ids=suite.sources,
            n_envs=choose_n_envs(
                settings.n_envs, common.agent.name, len(suite.sources), suite, mission
            ),
            frames=settings.frames or suite.source_frames,
            until_learnt=settings.until_learnt,
        ),
    )
    specs: tuple[TrainingSpec, ...] = (first,)
    config = first.config()
    if settings.seeds > 1:
        config |= {"seeds": settings.seeds}
        specs = tuple(replace(first, name=f"seed{seed}", seed=seed) for seed in _seeds(settings))
    subject = settings.suite or ("+".join(settings.env) if settings.env else suite.name)
    return Plan(
        command="train",
        suite=suite,
        specs=specs,
        config=config,
        directory=_directory(settings.output, config, subject),
        workers=choose_workers(settings.workers),
        resume=settings.resume,
        trust=settings.trust,
        notes=_notes(common),
    )


def plan_transfer(settings: TransferSettings) -> Plan:
    """The plan of `transfer`: the sources each arm needs, and a spec per arm, target and seed.

    Raises:
        ValueError: for anything that cannot be done as asked; also, with a table, where
            observations or actions of a target do not fit the source.
    """
    return _plan_arms(settings, command="transfer", vary=())


def plan_ablate(settings: AblateSettings) -> Plan:
    """The plan of `ablate`: that of `transfer` for each variation of the settings that vary.

    Raises:
        ValueError: as `plan_transfer`; also for a setting that cannot vary, or a value of one.
    """
    return _plan_arms(settings, command="ablate", vary=settings.vary)


def _plan_arms(settings: TransferSettings, *, command: str, vary: Sequence[str]) -> Plan:
    arms = choose_arms(settings.arms)
    given = find_given_source(settings)
    if given is None:
        suite, mission = _around_suite(settings)
    else:
        settings, suite, mission = around_given(settings, given)
    trained_on = suite.targets if given else (*suite.sources, *suite.targets)
    check_backend(trained_on, settings.backend)
    if isinstance(settings, AblateSettings):
        settings = shortened(settings, suite)
        check_executor(settings.executor)
    alike = joined_as_ours(settings) if any_published(arms) else settings
    common = settled_spec(alike, suite, mission)
    check_arms(arms, settings, suite, common.agent.name, mission)
    axes = read_axes(vary, settings, arms)
    for name in ("agent", "gamma"):
        if given is not None and name in axes:
            raise SettingsError(f"--vary {name}=…: the agent of --from is trained already")
    specs = _specs(settings, arms, axes, suite, mission)
    executor = settings.executor if isinstance(settings, AblateSettings) else "local"
    config = _config(settings, common, command)
    return Plan(
        command=command,
        suite=suite,
        specs=specs,
        config=config,
        directory=_directory(settings.output, config, settings.suite or suite.name),
        workers=settings.workers if executor == "ray" else choose_workers(settings.workers),
        executor=executor,
        resume=settings.resume,
        trust=settings.trust,
        n_retries=1 if command == "ablate" else 0,
        given_source=None if given is None else given.result,
        notes=(
            *_notes(common),
            *(() if given is None else (note_on_given(settings, given),)),
        ),
    )


def _specs(
    settings: TransferSettings,
    arms: Sequence[Arm],
    axes: Mapping[str, tuple[Value, ...]],
    suite: Suite,
    mission: bool,
) -> tuple[TrainingSpec, ...]:
    """Of each seed the sources, each once, and then the targets."""
    variants = [
        ArmTrainings(variant, suite, mission)
        for arm in arms
        for variant in variants_of(arm, settings, axes)
    ]
    check_axes_are_used(axes, [each.variant.label for each in variants])
    specs: list[TrainingSpec] = []
    for seed in _seeds(settings):
        sources: dict[str, TrainingSpec] = {}
        for variant in variants:
            source = variant.source(seed)
            if source is not None:
                before = sources.get(source.name)
                shared = () if before is None else before.arms
                sources[source.name] = replace(source, arms=(*shared, *source.arms))
        targets = [spec for variant in variants for spec in variant.targets(seed)]
        targets.sort(key=lambda spec: spec.stream)
        specs += [*sources.values(), *targets]
    return tuple(specs)


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


def _config(settings: TransferSettings, common: TrainingSpec, command: str) -> dict[str, Any]:
    suite = common.task.suite
    config: dict[str, Any] = {
        "command": command,
        "suite": common.task.suite_as_given,
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
    if isinstance(settings, AblateSettings):
        config["vary"] = list(settings.vary)
    shared = common.config()
    left_out = {"command", "suite", "env", "frames", "until_learnt", "n_envs", RESOLVED}
    config |= {key: value for key, value in shared.items() if key not in left_out}
    config["n_envs"] = settings.n_envs
    if settings.as_published:  # weight, balance and frequency are each arm's own
        config |= {"weight": None, "balance": None, "every": None, "as_published": True}
    config[RESOLVED] = {"mission": common.task.mission, "suite": suite_settings(suite)}
    return config


def _notes(common: TrainingSpec) -> tuple[str, ...]:
    suite = common.task.suite
    if common.agent.name in suite.agents:
        return ()
    made_for = " and ".join(suite.agents)
    return (
        f"The suite {suite.name} is made for {made_for}; {common.agent.name} may not learn it.",
    )


def shortened(settings: AblateSettings, suite: Suite) -> AblateSettings:
    """With ``--frames``, no stage is longer, sources neither."""
    if settings.frames is None or settings.source_frames is not None:
        return settings
    return replace(settings, source_frames=min(settings.frames, suite.source_frames))


def _seeds(settings: TrainSettings | TransferSettings) -> range:
    return range(settings.seed, settings.seed + settings.seeds)


def _directory(output: str | None, config: Mapping[str, Any], subject: str) -> Path:
    return Path(output) if output is not None else default_directory(config, subject=subject)
