"""From settings to a plan: the trainings of a run, their directories and their configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from contrastive_distillation.envs import Suite, suite_settings

from ..errors import SettingsError
from ..run_directory.directory import RESOLVED, default_directory
from ..settings.arms import Arm, choose_arms, in_suite
from ..settings.command_line import read_settings_file
from ..settings.commands import AblateSettings, TrainSettings, TransferSettings
from ..settings.loss_settings import Value
from ..settings.resolve import ResolvedSettings, choose_workers, resolve
from ..settings.source_run import find_source_run, note_on_source, source_checkpoint
from ..settings.spec import TrainingSpec, to_config
from ..settings.suite import raw_returns
from .arm_trainings import ArmTrainings, check_arms, check_distinct
from .ray_executor import import_ray
from .recorded_values import check_recorded
from .variations import check_axes_are_used, read_axes, variants_of


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
    """Lines to show to the user before it starts."""
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
    if settings.config is not None:
        _check_file(settings, settings.config)
    resolved = resolve(settings)
    suite = resolved.suite
    for task in map(suite.task, suite.sources if settings.until_learnt else ()):
        if task.return_range is None and task.success_return is None:
            raise SettingsError(
                f"--until-learnt: nothing says when {task.env_id} is learnt; give the range of its "
                "returns, --return-range LOW HIGH, or leave the flag out"
            )
    first = resolved.training(
        suite.sources,
        frames=resolved.source_frames,
        until_learnt=settings.until_learnt,
        name="",
        role="source",
        arms=("train",),
        seed=settings.seed,
        random_frames=resolved.random_frames,
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
        notes=_notes(resolved, specs),
    )


def plan_transfer(settings: TransferSettings) -> Plan:
    """The plan of `transfer` or `ablate`: for each seed the sources, and each target of each arm.

    For `ablate` these are planned for each variation of the settings that vary.

    Raises:
        ValueError: for anything that cannot be done as asked, such as a setting that cannot vary;
            also, with a table, where observations or actions of a target do not fit the source.
    """
    if settings.config is not None:
        _check_file(settings, settings.config)
    vary: tuple[str, ...] = ()
    command, executor = "transfer", "local"
    if isinstance(settings, AblateSettings):
        command, executor, vary = "ablate", settings.executor, settings.vary
    arms = choose_arms(settings.arms)
    if executor == "ray":
        import_ray()
    source_run = find_source_run(settings)
    resolved = resolve(settings, source_run)
    suite = resolved.suite
    arms = [in_suite(arm, sensors=suite.sensors) for arm in arms]
    check_arms(arms, settings, resolved)
    axes = read_axes(vary, settings, arms)
    for name in ("agent", "gamma"):
        if source_run is not None and name in axes:
            raise SettingsError(
                f"--vary {name}=…: the agent of --from is trained already; leave out one of the two"
            )
    config = _config(settings, resolved, command)
    specs = _specs(settings, arms, axes, resolved)
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
        given_source=None if source_run is None else source_run.result,
        notes=(
            *_notes(resolved, specs),
            *(() if source_run is None else (note_on_source(settings, source_run),)),
        ),
    )


def _check_file(settings: TrainSettings | TransferSettings, path: str) -> None:
    """Refuse a ``--config`` file with values that are not settings and were edited."""
    alone, recorded = read_settings_file(type(settings), path)
    if recorded:
        plan = plan_train(alone) if isinstance(alone, TrainSettings) else plan_transfer(alone)
        check_recorded(recorded, plan.config, plan.specs[0], origin=path)


def _specs(
    settings: TransferSettings,
    arms: Sequence[Arm],
    axes: Mapping[str, tuple[Value, ...]],
    resolved: ResolvedSettings,
) -> tuple[TrainingSpec, ...]:
    """Of each seed the sources, each once, and then the targets."""
    variants = [
        ArmTrainings(variant, resolved)
        for arm in arms
        for variant in variants_of(arm, settings, axes)
    ]
    check_axes_are_used(axes, [each.variant.label for each in variants])
    check_distinct(variants)
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


def _config(settings: TransferSettings, resolved: ResolvedSettings, command: str) -> dict[str, Any]:
    """What ``config.yaml`` of the whole run says: the settings, with defaults filled in."""
    suite = resolved.suite
    config: dict[str, Any] = {
        "command": command,
        "suite": resolved.suite_as_given,
        "source": list(suite.sources),
        "target": list(suite.targets),
        "from": settings.from_,
        "checkpoint": source_checkpoint(settings),
        "arms": list(settings.arms),
        "frames": resolved.target_frames,
        "source_frames": resolved.source_frames,
        "seeds": settings.seeds,
    }
    if settings.return_range is not None:
        config["return_range"] = list(settings.return_range)
    if suite.sensors:
        kept = asdict(resolved.realign)
        config |= {f"realign_{name}": value for name, value in kept.items() if name != "select"}
    if settings.zero_shot:
        config["zero_shot"] = True
    if settings.from_ is not None:
        del config["source"], config["source_frames"]
    if isinstance(settings, AblateSettings):
        config["vary"] = list(settings.vary)
    config |= {
        **to_config(resolved.agent),
        **to_config(resolved.loss),
        "seed": settings.seed,
        "backend": settings.backend,
        **to_config(resolved.runtime),
        "n_envs": settings.n_envs,
    }
    if settings.as_published:  # weight, balance and frequency are each arm's own
        config |= {"weight": None, "balance": None, "every": None, "as_published": True}
    config[RESOLVED] = {"mission": resolved.mission, "suite": suite_settings(suite)}
    return config


def _notes(resolved: ResolvedSettings, specs: Sequence[TrainingSpec]) -> tuple[str, ...]:
    suite, agent = resolved.suite, resolved.agent.name
    notes = [
        f"{spec.task.frames:_} frames are rounded up to {spec.most_frames:_}, a multiple of the "
        f"{spec.task.n_envs} environments that step together."
        for spec in specs
        if spec.task.frames % spec.task.n_envs and not spec.source.extra_frames
    ]
    tasks = [
        suite.task(env_id) for env_id in dict.fromkeys(env for s in specs for env in s.task.env_ids)
    ]
    if unknown := [task.env_id for task in tasks if task.return_range is None]:
        notes.append(raw_returns(unknown))
    if agent not in suite.agents:
        made_for = " and ".join(suite.agents)
        notes.append(f"The suite {suite.name} is made for {made_for}; {agent} may not learn it.")
    return tuple(dict.fromkeys(notes))


def _seeds(settings: TrainSettings | TransferSettings) -> range:
    return range(settings.seed, settings.seed + settings.seeds)


def _directory(output: str | None, config: Mapping[str, Any], subject: str) -> Path:
    return Path(output) if output is not None else default_directory(config, subject=subject)
