"""One training as a value: everything that a worker needs to know about it.

A run's ``config.yaml`` is a `TrainingSpec` in YAML. The metadata of each field gives its key (by
default the field's name); `to_config` and `_read` convert between the two.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Self, TypeVar, get_type_hints

from contrastive_distillation.envs import Suite, suite_settings

from ..run_directory.directory import RESOLVED, Chosen
from .arms import Mode
from .loss_settings import read_loss_settings, write_loss_settings

Entry = Callable[[Any], Any]


def _at(
    path: str | None,
    *,
    optional: bool = False,
    write: Entry | None = None,
    read: Entry | None = None,
) -> dict[str, Any]:
    """A field's place in ``config.yaml``.

    Args:
        path: its key, behind ``resolved.`` where no flag says it; empty: its value is a mapping
            whose keys are the configuration's own; None: it is not kept.
        optional: leave it out where it has its default.
        write: converts the field's value to the entry of the configuration.
        read: converts the entry back.
    """
    return {"path": path, "optional": optional, "write": write, "read": read}


def _suite(kept: Mapping[str, Any]) -> Suite:
    settings = dict(kept)
    for key in ("sources", "targets", "agents"):
        settings[key] = tuple(settings[key])
    settings["return_ranges"] = {
        env_id: (float(low), float(high))
        for env_id, (low, high) in settings["return_ranges"].items()
    }
    return Suite(**settings)


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """What a training trains on, and for how long."""

    suite: Suite = field(metadata=_at(f"{RESOLVED}.suite", write=suite_settings, read=_suite))
    suite_as_given: str | None = field(metadata=_at("suite"))
    """The suite's name or file as the user gave it; None for environments of their own."""
    env_ids: tuple[str, ...] = field(metadata=_at("env"))
    frames: int
    """Frames to train for; the most there may be with ``until_learnt``."""
    until_learnt: bool = False
    """Whether to stop as soon as every environment is learnt."""
    backend: str = "auto"
    n_envs: int = 1
    return_range: tuple[float, float] | None = field(
        default=None, metadata=_at("return_range", optional=True)
    )
    """As the user gave it, for every environment; the suite has it in its `return_ranges`."""
    mission: bool = field(default=False, metadata=_at(f"{RESOLVED}.mission"))
    """Whether observations of a grid hold the mission; one answer for sources and targets."""


@dataclass(frozen=True, kw_only=True)
class AgentSpec:
    """Which agent learns."""

    name: str = field(metadata=_at("agent"))
    gamma: float | None = None
    """Discount per step; None: the agent's own."""


@dataclass(frozen=True, kw_only=True)
class LossSpec:
    """Which loss, over which memory, and how it joins the agent's update."""

    name: str = field(metadata=_at("loss"))
    """A name of `losses.LOSSES`, ``module:Class``, or ``none``."""
    settings: Mapping[str, Any] = field(
        default_factory=dict, metadata=_at("", write=write_loss_settings, read=read_loss_settings)
    )
    """Keywords of its constructor."""
    weight: float = 0.1
    balance: str = "norm"
    every: int = 1
    memory: str = "episodic"
    keep: str = "fifo"
    """Which episodes stay when the memory is full."""
    memory_capacity: int = 100_000


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """What a training takes from the training of a source; nothing by default."""

    directory: str | None = field(default=None, metadata=_at(f"{RESOLVED}.source"))
    """Directory of the source, relative to the training's own; or a path as the user gave it."""
    checkpoint: Chosen = field(
        default="final", metadata=_at(f"{RESOLVED}.checkpoint", optional=True)
    )
    """Which of its agents."""
    mode: Mode = field(default="fine_tune", metadata=_at(f"{RESOLVED}.mode"))
    """What becomes of the source's weights."""
    teacher: bool = field(default=False, metadata=_at(f"{RESOLVED}.teacher"))
    """Whether the loss distils from a frozen encoder, and has the source's memory beside it."""
    random_teacher: bool = field(
        default=False, metadata=_at(f"{RESOLVED}.random_teacher", optional=True)
    )
    """Whether the weights of that encoder are random, in place of the source's."""
    adds_frames_of: str | None = field(
        default=None, metadata=_at(f"{RESOLVED}.adds_frames_of", optional=True)
    )
    """Directory, as `directory`, of a training whose frames are added before its own."""
    extra_frames: int = field(default=0, metadata=_at(None))
    """Those frames: at most, as long as they are not known."""


@dataclass(frozen=True, kw_only=True)
class RealignSpec:
    """How a training realigns its encoder to other sensors before it learns; see
    `agents.realign`."""

    frames: int = 20_000
    epsilon: float = 1.0
    updates: int | None = None
    restarts: int | None = None
    layers: str = "first"
    """``first``, ``encoder``, or names of layers with commas between them."""
    objective: str = "contrast_statistics"
    negatives: str = "in_batch"
    statistics_weight: float = 3.0
    select: str = "loss"


def _realign(kept: Mapping[str, Any] | None) -> RealignSpec | None:
    return None if kept is None else RealignSpec(**kept)


@dataclass(frozen=True, kw_only=True)
class RuntimeSpec:
    """Where a training runs and how often it records; no field here changes the result."""

    device: str = "cpu"
    threads: int = 1
    checkpoint_every: int = 200_000
    """Frames between two checkpoints."""
    env_timeout: float = 600.0
    """Seconds that a step of an environment may take; 0 for as long as it likes."""
    information_points: int = field(default=2, metadata=_at(None))
    """How often the information of the features is measured; 1: at the end."""


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """One training of one agent, on the sources together or on one target."""

    name: str = field(metadata=_at(None))
    """Its directory, under that of the whole run; empty where it is the whole run."""
    role: str = field(metadata=_at(f"{RESOLVED}.role"))
    """``source`` or ``target``."""
    arms: tuple[str, ...] = field(metadata=_at(None))
    """The arms that its learning curve is a part of."""
    needs: str | None = field(default=None, metadata=_at(None))
    """Name of the spec that must be finished first: its source."""
    seed: int
    task: TaskSpec
    agent: AgentSpec
    loss: LossSpec
    """Its memory is written in every training; its name is ``none`` where no loss joins."""
    matched_loss: LossSpec | None = field(default=None, metadata=_at(None))
    """The agent learns more often instead, so that its encoder sees as much as with this loss."""
    source: SourceSpec = field(default_factory=SourceSpec)
    realign: RealignSpec | None = field(
        default=None,
        metadata=_at(
            f"{RESOLVED}.realign", optional=True, write=lambda spec: asdict(spec), read=_realign
        ),
    )
    """How its encoder is realigned before it learns; its loss joins only where the sensors are the
    source's."""
    zero_shot: bool = field(default=False, metadata=_at(f"{RESOLVED}.zero_shot", optional=True))
    """Whether it ends before the first rewarded frame."""
    random_frames: int = field(default=0, metadata=_at("random_frames", optional=True))
    """Frames of random actions that it plays at its end, for the latent dynamics of its features,
    which are fitted to them; 0: neither."""
    runtime: RuntimeSpec = field(default_factory=RuntimeSpec)

    @property
    def most_frames(self) -> int:
        """Frames it trains for at most: as asked, rounded up to whole steps of its environments."""
        n_steps = -(-(self.task.frames + self.source.extra_frames) // self.task.n_envs)
        return n_steps * self.task.n_envs

    @property
    def stream(self) -> int:
        """Number of its random streams: sources and each target have their own."""
        if self.role == "source":
            return 0
        env_id, targets = self.task.env_ids[0], self.task.suite.targets
        return 1 + (targets.index(env_id) if env_id in targets else len(targets))

    @property
    def group(self) -> str:
        """The group that tables count it in: its arm or its kind of source, with what varies."""
        if self.role == "target" and self.arms:
            return self.arms[0]
        return self.name.rpartition("-seed")[0] or self.name

    @property
    def cost(self) -> int:
        """Roughly how long it takes, to start long ones early: frames, a loss counting double."""
        return self.most_frames * (1 if self.loss.name == "none" else 2)

    def config(self) -> dict[str, Any]:
        """Its ``config.yaml``: settings of ``train``, and under ``resolved`` what no flag says."""
        config = {"command": "train", **to_config(self)}
        if self.matched_loss is not None:
            matched = {
                "loss": self.matched_loss.name,
                **write_loss_settings(self.matched_loss.settings),
            }
            if self.matched_loss.every != self.loss.every:
                matched["every"] = self.matched_loss.every
            config[RESOLVED]["matched_loss"] = matched
        config[RESOLVED] = config.pop(RESOLVED)  # last: a person reads the settings first
        return config

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, name: str, arms: tuple[str, ...], needs: str | None
    ) -> Self:
        """The spec whose ``config.yaml`` this is; its place among others is not in there.

        Raises:
            KeyError, TypeError, ValueError: `config` did not write it.
        """
        matched = config[RESOLVED].get("matched_loss")
        if matched is not None:
            matched = _read(LossSpec, {"every": config["every"], **matched})
        return _read(cls, config, name=name, arms=arms, needs=needs, matched_loss=matched)


_Spec = TypeVar("_Spec")
_GROUPS = (TaskSpec, AgentSpec, LossSpec, SourceSpec, RuntimeSpec)


def to_config(spec: Any, config: dict[str, Any] | None = None) -> dict[str, Any]:
    """The entries of a spec, or of a group of one, in ``config.yaml``.

    Args:
        spec: a `TrainingSpec` or one of its groups.
        config: a configuration to add the entries to; a new one by default.
    """
    config = {} if config is None else config
    for each in fields(spec):
        value, entry = getattr(spec, each.name), each.metadata or _at(each.name)
        if isinstance(value, _GROUPS) and not each.metadata:
            to_config(value, config)
        elif entry["path"] is not None and not (entry["optional"] and value == each.default):
            value = list(value) if isinstance(value, tuple) else value
            value = entry["write"](value) if entry["write"] else value
            *above, key = entry["path"].split(".")
            place = config
            for name in above:
                place = place.setdefault(name, {})
            place.update({key: value} if key else value)
    return config


def _read(kind: type[_Spec], config: Mapping[str, Any], **known: Any) -> _Spec:
    """A spec, or a group of one, from a configuration.

    Missing settings get their default; under ``resolved`` only optional entries may be missing.
    """
    hints = get_type_hints(kind)
    for each in fields(kind):  # type: ignore[arg-type]
        entry = each.metadata or _at(each.name)
        if each.name in known or entry["path"] is None:
            continue
        if hints[each.name] in _GROUPS:
            known[each.name] = _read(hints[each.name], config)
            continue
        *above, key = entry["path"].split(".")
        place: Any = config
        for name in above:
            place = place[name]
        required = each.default is MISSING or (above and not entry["optional"])
        if not key or key in place or required:
            value = place[key] if key else place
            value = entry["read"](value) if entry["read"] else value
            known[each.name] = tuple(value) if isinstance(value, list) else value
    return kind(**known)
