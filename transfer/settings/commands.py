"""The settings of each command: frozen dataclasses, from which the command line is derived.

The line under a field is its help text. ``None`` stands for "decided later, from the suite or the
agent"; the resolved value is in the run's ``config.yaml``.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from .fields import real, whole

_HINT = tyro.conf.arg


def _default(text: str) -> object:
    return _HINT(help_behavior_hint=f"(default: {text})")


def _text(metavar: str, default: str) -> object:
    return _HINT(metavar=metavar, help_behavior_hint=f"(default: {default})")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of every command."""

    config: Annotated[str | None, _text("FILE", "none")] = None
    """YAML file of settings: keys are the flags' names with _ for -. Flags override it."""

    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class _Computing:
    """Where and how fast a training runs; nothing here changes its result, except by rounding."""

    output: Annotated[str | None, _text("DIR", "runs/<command>-<suite>-…")] = None
    """Directory of the run. The same command finds its directory again."""

    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """Where the networks live. These are small: a CPU is often the faster."""

    threads: Annotated[int, whole(1, 1024)] = 1
    """Threads of each training. Several trainings at once gain more than threads."""

    workers: Annotated[int | None, whole(1, 1024), _default("the cores, at most 2")] = None
    """Trainings at the same time, each in a process of its own."""

    resume: Literal["auto", "never", "require"] = "auto"
    """Continue an interrupted run: where possible, never, or refuse to start a new one."""

    checkpoint_every: Annotated[int, whole(1)] = 200_000
    """Frames between two checkpoints of a training; the last two and the best are kept."""

    information_points: Annotated[int, whole(1, 10_000)] = 2
    """How often the features' information is measured, evenly over the frames; 1: at the end."""

    trust: bool = False
    """Unpickle environments of checkpoints not signed by you: that can run their author's code."""

    env_timeout: Annotated[float, real(0, 1_000_000)] = 600.0
    """Seconds an environment's step may take before its training is given up; 0: no limit."""


@dataclass(frozen=True, kw_only=True)
class _Learning:
    """The agent, its auxiliary loss, its memory and its environments."""

    agent: Annotated[str | None, _text("AGENT", "the suite's first")] = None
    """The agent: ppo or dqn."""

    loss: Annotated[str, _HINT(metavar="LOSS")] = "contrastive_distillation"
    """Auxiliary loss: a name (see `list`), package.module:Class, or none."""

    negatives: Annotated[str | None, _text("NAME", "the loss's")] = None
    """How the loss draws its negatives (see `list`)."""

    n_negatives: Annotated[int | None, whole(1, 1_000_000), _default("the loss's")] = None
    """Number of negatives for each anchor."""

    positives: Annotated[str | None, _text("NAME", "the loss's")] = None
    """Kind of positive for each anchor (see `list`)."""

    loss_settings: Annotated[tuple[str, ...], _text("NAME=VALUE", "the loss's")] = ()
    """Other settings of the loss, such as temperature=0.2 band_high=0.1."""

    weight: Annotated[float | None, real(0, 1000), _default("the agent's")] = None
    """Weight of the loss; with --balance norm, a fraction of the RL gradient's norm."""

    balance: Annotated[
        Literal["norm", "project", "none"] | None, _text("{norm,project,none}", "norm")
    ] = None
    """How the loss's gradient joins the RL gradient."""

    every: Annotated[int | None, whole(1, 1_000_000), _default("8; dqn: 16")] = None
    """Apply the loss at every so many optimiser steps."""

    as_published: bool = False
    """Weight, balance and frequency of the loss's own paper, in place of these three; an arm
    whose loss has no paper keeps ours."""

    memory: Annotated[str, _HINT(metavar="NAME")] = "episodic"
    """Kind of memory the loss draws from: episodic or replay."""

    keep: Annotated[str, _HINT(metavar="NAME")] = "fifo"
    """Which episodes stay when an episodic memory is full (see `list`)."""

    memory_capacity: Annotated[int, whole(256, 100_000_000)] = 100_000
    """Transitions the memory holds."""

    seed: Annotated[int, whole(0, 999_999)] = 0
    """Random seed; with --seeds, that of the first run."""

    seeds: Annotated[int, whole(1, 1000)] = 1
    """Number of seeds, counted up from --seed."""

    backend: Literal["auto", "envpool", "gymnasium"] = "auto"
    """Library that steps the environments: EnvPool where it has them, else Gymnasium."""

    n_envs: Annotated[int | None, whole(1, 65_536), _default("the agent's")] = None
    """Environments stepped together, shared equally among the ids."""

    gamma: Annotated[float | None, real(0, 1), _default("the agent's")] = None
    """Discount per step."""

    return_range: Annotated[tuple[float, float] | None, _text("LOW HIGH", "the environment's")] = (
        None
    )
    """Returns that are score 0 and score 1, in every environment of the run. Where they are
    unknown, scores are raw returns."""


@dataclass(frozen=True, kw_only=True)
class _TrainScope:
    """The environments of `train`, and for how long."""

    suite: Annotated[str | None, _text("SUITE", "doorkey")] = None
    """Suite whose sources are trained on: a name (see `list`) or a YAML file."""

    env: Annotated[tuple[str, ...], _text("ID", "the suite's sources")] = ()
    """Environments to train on: Gymnasium ids, or module:ID."""

    frames: Annotated[int | None, whole(1), _default("the suite's")] = None
    """Frames to train for, over all environments together."""

    until_learnt: bool = False
    """Stop as soon as every environment reaches the suite's score for "learnt"."""

    random_frames: Annotated[
        int | None, whole(0), _default("40_000; 0 for fewer than 100_000 frames")
    ] = None
    """Frames of random actions to play at the end, and to fit the agent's latent dynamics to: for
    a later transfer to other sensors."""


@dataclass(frozen=True, kw_only=True)
class _Realigning:
    """How arms realign their encoder where the target's sensors are not the source's."""

    realign_frames: Annotated[int, whole(1)] = 20_000
    """Frames of random actions gathered in the target, without learning from a reward."""

    realign_epsilon: Annotated[float, real(0, 1)] = 1.0
    """Chance of a random action while gathering."""

    realign_updates: Annotated[
        int | None, whole(1), _default("400; pictures: 300; vectors: 790")
    ] = None
    """Updates of the restart that goes furthest."""

    realign_restarts: Annotated[int | None, whole(1), _default("8; vectors: 32")] = None
    """Restarts of the search."""

    realign_layers: Annotated[str, _HINT(metavar="LAYERS")] = "first"
    """What moves: first (the layers that read the observation), encoder, or names of layers."""

    realign_objective: Annotated[str, _HINT(metavar="NAME")] = "contrast_statistics"
    """Objective of contrastive_distillation where sensors changed (see `list`: realign_NAME)."""

    realign_negatives: Literal["in_batch", "uniform", "nearest"] = "in_batch"
    """Negatives of its contrast."""

    realign_statistics_weight: Annotated[float, real(0, 1_000_000)] = 3.0
    """Weight of the source's feature statistics."""

    zero_shot: bool = False
    """End before the first rewarded frame: sources, realignment, scores."""


@dataclass(frozen=True, kw_only=True)
class _TransferScope:
    """The sources, targets and arms of `transfer`."""

    suite: Annotated[str | None, _text("SUITE", "codes; ablate: doorkey")] = None
    """Suite of sources and targets: a name (see `list`) or a YAML file."""

    source: Annotated[tuple[str, ...], _text("ID", "the suite's")] = ()
    """Source environments: Gymnasium ids, or module:ID."""

    target: Annotated[tuple[str, ...], _text("ID", "the suite's")] = ()
    """Target environments; each is trained on by itself."""

    from_: Annotated[str | None, _HINT(name="from", metavar="RUN", help_behavior_hint="")] = None
    """Directory of a finished `train`: its agent is the source of every arm."""

    checkpoint: Annotated[Literal["best", "final"] | None, _text("{best,final}", "best")] = None
    """Which agent of a source: of the best evaluation during training, or of its end."""

    arms: Annotated[tuple[str, ...], _HINT(metavar="ARM", help_behavior_hint="")] = (
        "contrastive_distillation",
        "fine_tune",
        "scratch",
    )
    """What to compare (see `list`; default: contrastive_distillation, fine_tune, scratch)."""

    frames: Annotated[int | None, whole(1), _default("the suite's")] = None
    """Frames on each target."""

    source_frames: Annotated[int | None, whole(1), _default("the suite's")] = None
    """Most frames on all sources together; training stops when they are learnt."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings, _Computing, _Learning, _TrainScope):
    """Train one agent on a suite's sources, or on environments of your own."""


@dataclass(frozen=True, kw_only=True)
class TransferSettings(Settings, _Computing, _Learning, _Realigning, _TransferScope):
    """Train on source environments, carry over to each target, compare the arms.

    Every arm of a seed is paired: the same source, the same target seed.
    """


@dataclass(frozen=True, kw_only=True)
class AblateSettings(TransferSettings):
    """Compare arms over seeds, targets and values of any setting.

    Interrupt it at any moment: the same command continues. Every seed is paired.
    """

    arms: Annotated[tuple[str, ...], _HINT(metavar="ARM", help_behavior_hint="")] = (
        "contrastive_distillation",
        "fine_tune",
        "random_teacher",
        "scratch",
    )
    """What to compare (see `list`; default: contrastive_distillation, fine_tune,
    random_teacher, scratch)."""

    vary: Annotated[tuple[str, ...], _text("SETTING=V1,V2", "nothing")] = ()
    """Settings that vary, and their values: n_negatives=8,128 negatives=uniform,nearest."""

    frames: Annotated[int | None, whole(1), _default("the suite's")] = None
    """Frames on each target, and the most on all sources together: shortens every stage."""

    executor: Literal["local", "ray"] = "local"
    """Where trainings run: in processes of this machine, or on a running Ray cluster."""

    dry_run: bool = False
    """Show the trainings, their frames and a forecast of the hours; train nothing."""

    frames_per_second: Annotated[float, real(1)] = 5_000.0
    """Speed of one training that --dry-run assumes."""


@dataclass(frozen=True, kw_only=True)
class _EvaluateScope:
    """The run and the episodes of `evaluate`."""

    run: Annotated[tyro.conf.Positional[str], _HINT(metavar="RUN")]
    """Directory of a run."""

    env: Annotated[tuple[str, ...], _text("ID", "the run's")] = ()
    """Environments to play."""

    checkpoint: Literal["best", "final"] = "final"
    """Which agent: of the best evaluation during training, or of its end."""

    episodes: Annotated[int, whole(1, 1_000_000)] = 100
    """Episodes of each environment."""

    seed: Annotated[int, whole(0, 999_999)] = 0
    """Seed of the episodes; never one that training sees."""

    backend: Literal["auto", "envpool", "gymnasium"] = "gymnasium"
    """Library that steps the environments; Gymnasium is the reference."""


@dataclass(frozen=True, kw_only=True)
class _WatchScope:
    """The run and the episodes of `watch`."""

    run: Annotated[tyro.conf.Positional[str], _HINT(metavar="RUN")]
    """Directory of a run."""

    output: Annotated[str, _HINT(metavar="FILE")] = "agent.gif"
    """The GIF to write."""

    env: Annotated[tuple[str, ...], _text("ID", "the run's")] = ()
    """Environments to show."""

    checkpoint: Literal["best", "final"] = "final"
    """Which agent: of the best evaluation during training, or of its end."""

    episodes: Annotated[int, whole(1, 1000)] = 3
    """Episodes of each environment."""

    seed: Annotated[int, whole(0, 999_999)] = 0
    """Seed of the episodes; never one that training sees."""


@dataclass(frozen=True, kw_only=True)
class _ReportScope:
    """The directories of `report`."""

    directory: Annotated[tyro.conf.Positional[tuple[str, ...]], _HINT(metavar="DIR")]
    """Directory of a transfer, an ablate or a train; unfinished trainings are left out. Several
    directories, or their CSV files, are joined if they differ in nothing but their seeds."""

    output: Annotated[str | None, _text("DIR", "DIRECTORY/report; of several: report")] = None
    """Where to write the page, its figures and its tables."""


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Settings, _EvaluateScope):
    """Play complete episodes with a trained agent and report its returns."""


@dataclass(frozen=True, kw_only=True)
class WatchSettings(Settings, _WatchScope):
    """Record a few episodes of a trained agent as an animated GIF."""


@dataclass(frozen=True, kw_only=True)
class ReportSettings(Settings, _ReportScope):
    """Make one self-contained page of a run: the answer, intervals, curves, tables."""


@dataclass(frozen=True, kw_only=True)
class ListSettings(Settings):
    """List the suites, environments, agents, losses, negatives, memories and arms."""


COMMANDS: dict[str, type[Settings]] = {
    "train": TrainSettings,
    "transfer": TransferSettings,
    "ablate": AblateSettings,
    "evaluate": EvaluateSettings,
    "watch": WatchSettings,
    "report": ReportSettings,
    "list": ListSettings,
}
