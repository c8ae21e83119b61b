"""One training as a value: everything a worker needs to know, and nothing it has to look up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import yaml

from contrastive_distillation.envs import Suite, suite_settings

from ..run_directory.directory import RESOLVED
from .arms import Mode

_LOSS_FLAGS = ("negatives", "n_negatives", "positives")


@dataclass(frozen=True, kw_only=True)
class LossChoice:
    """Which loss, over which memory, and how it joins the agent's update."""

    name: str
    """A name of `losses.LOSSES`, ``module:Class``, or ``none``."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of its constructor."""
    weight: float = 0.1
    balance: str = "norm"
    every: int = 1
    memory: str = "episodic"
    keep: str = "fifo"
    """Which episodes stay when the memory is full."""
    memory_capacity: int = 100_000

    def flags(self) -> dict[str, Any]:
        """Its settings as flags of the command line."""
        named = {key: self.settings[key] for key in _LOSS_FLAGS if key in self.settings}
        others = [f"{key}={x}" for key, x in self.settings.items() if key not in _LOSS_FLAGS]
        return {**named, "loss_settings": others} if others else named

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The choice that a run's ``config.yaml`` keeps."""
        settings = {key: config[key] for key in _LOSS_FLAGS if config.get(key) is not None}
        for each in config.get("loss_settings") or ():
            name, _, text = each.partition("=")
            settings[name] = yaml.safe_load(text)
        own = ("weight", "balance", "every", "memory", "keep", "memory_capacity")
        given = {key: config[key] for key in own if key in config}
        return cls(name=config["loss"], settings=settings, **given)


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """One training of one agent, on the sources together or on one target."""

    name: str
    """Its directory, under that of the whole run; empty where it is the whole run."""
    role: str
    """``source`` or ``target``."""
    arms: tuple[str, ...]
    """The arms that its learning curve is a part of."""
    suite: Suite
    suite_as_given: str | None
    """The suite's name or file as the user named it; None for environments of their own."""
    env_ids: tuple[str, ...]
    agent: str
    loss: LossChoice
    """Its memory is written in every training; its name is ``none`` where no loss joins."""
    seed: int
    frames: int
    """Frames to train for; the most there may be with ``until_learnt``."""
    until_learnt: bool = False
    backend: str = "auto"
    n_envs: int = 1
    gamma: float | None = None
    """None: the agent's own."""
    mission: bool = False
    """Whether observations of a grid hold the mission; one answer for sources and targets."""
    device: str = "cpu"
    threads: int = 1
    checkpoint_every: int = 200_000
    """Frames between two checkpoints."""
    env_timeout: float = 600.0
    """Seconds that a step of an environment may take; 0 for as long as it likes."""
    needs: str | None = None
    """Name of the spec that must be finished first: its source."""
    source: str | None = None
    """Directory of its source, relative to its own; or a path as the user gave it."""
    mode: Mode = "fine_tune"
    """What becomes of the source's weights."""
    teacher: bool = False
    """Whether the loss distils from a frozen encoder, and has the source's memory beside it."""
    random_teacher: bool = False
    """Whether that encoder's weights are random, in place of the source's."""
    matched_loss: LossChoice | None = None
    """It learns more often instead, so that its encoder sees as much as with this loss."""
    adds_frames_of: str | None = None
    """Directory, as `source`, of a training whose frames are added to its own, before them."""
    extra_frames: int = 0
    """Those frames: at most, as long as they are not known."""

    @property
    def most_frames(self) -> int:
        """Frames it trains for at most."""
        return self.frames + self.extra_frames

    @property
    def stream(self) -> int:
        """Number of its random streams: sources and each target have their own."""
        if self.role == "source":
            return 0
        targets = self.suite.targets
        return 1 + (targets.index(self.env_ids[0]) if self.env_ids[0] in targets else len(targets))

    @property
    def group(self) -> str:
        """What it is counted with: its arm, or its kind of source, with what varies."""
        if self.role == "target" and self.arms:
            return self.arms[0]
        return self.name.rpartition("-seed")[0] or self.name

    @property
    def cost(self) -> int:
        """Roughly how long it takes, to start long ones early: frames, a loss counting double."""
        return self.most_frames * (1 if self.loss.name == "none" else 2)

    def config(self) -> dict[str, Any]:
        """What its ``config.yaml`` says: settings of ``train``, and what those cannot say."""
        return {
            "command": "train",
            "suite": self.suite_as_given,
            "env": list(self.env_ids),
            "agent": self.agent,
            "loss": self.loss.name,
            **self.loss.flags(),
            "weight": self.loss.weight,
            "balance": self.loss.balance,
            "every": self.loss.every,
            "memory": self.loss.memory,
            "keep": self.loss.keep,
            "memory_capacity": self.loss.memory_capacity,
            "frames": self.frames,
            "until_learnt": self.until_learnt,
            "seed": self.seed,
            "backend": self.backend,
            "n_envs": self.n_envs,
            "gamma": self.gamma,
            "device": self.device,
            "threads": self.threads,
            "checkpoint_every": self.checkpoint_every,
            "env_timeout": self.env_timeout,
            RESOLVED: {
                "role": self.role,
                "mission": self.mission,
                "source": self.source,
                "mode": self.mode,
                "teacher": self.teacher,
                **self._controls(),
                "suite": suite_settings(self.suite),
            },
        }

    def _controls(self) -> dict[str, Any]:
        """What only controls have; left out elsewhere, so that earlier runs are found again."""
        controls: dict[str, Any] = {}
        if self.random_teacher:
            controls["random_teacher"] = True
        if self.matched_loss is not None:
            matched: dict[str, Any] = {"loss": self.matched_loss.name, **self.matched_loss.flags()}
            if self.matched_loss.every != self.loss.every:
                matched["every"] = self.matched_loss.every
            controls["matched_loss"] = matched
        if self.adds_frames_of is not None:
            controls["adds_frames_of"] = self.adds_frames_of
        return controls

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, name: str, arms: tuple[str, ...], needs: str | None
    ) -> Self:
        """The spec whose ``config.yaml`` this is; its place among others is not in there.

        Raises:
            KeyError, TypeError, ValueError: it is not what `config` gives.
        """
        own = (
            "agent", "seed", "frames", "until_learnt", "backend", "n_envs", "gamma", "device",
            "threads", "checkpoint_every", "env_timeout",
        )  # fmt: skip
        resolved = config[RESOLVED]
        return cls(
            name=name,
            role=resolved["role"],
            arms=arms,
            suite=suite_of(config),
            suite_as_given=config["suite"],
            env_ids=tuple(config["env"]),
            loss=LossChoice.from_config(config),
            mission=resolved["mission"],
            needs=needs,
            source=resolved["source"],
            mode=resolved["mode"],
            teacher=resolved["teacher"],
            random_teacher=bool(resolved.get("random_teacher", False)),
            matched_loss=(
                LossChoice.from_config({"every": config["every"], **resolved["matched_loss"]})
                if "matched_loss" in resolved
                else None
            ),
            adds_frames_of=resolved.get("adds_frames_of"),
            **{key: config[key] for key in own if key in config},
        )


def suite_of(config: Mapping[str, Any]) -> Suite:
    """The suite that a run's ``config.yaml`` keeps in full."""
    kept = dict(config[RESOLVED]["suite"])
    for key in ("sources", "targets", "agents"):
        kept[key] = tuple(kept[key])
    kept["return_ranges"] = {
        env_id: (float(low), float(high)) for env_id, (low, high) in kept["return_ranges"].items()
    }
    return Suite(**kept)
