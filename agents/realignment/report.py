"""What a realignment did, as data and as one paragraph."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class RestartResult:
    """One finalist of the search."""

    number: int
    """Of the restart; 0 began with the layers as they were."""
    loss: float
    """The objective on held-out episodes of the target."""
    terms: dict[str, float]
    """Its terms, without their weights."""
    score: float | None = None
    """Mean return of a few episodes, where finalists were chosen by return."""


@dataclass(frozen=True, kw_only=True)
class RealignReport:
    """What `realign` found and did. `print(report)` says it in words."""

    sensors_changed: bool | None
    """Whether the target's sensors differ from the source's; None: not tested (pairs, a view)."""
    aligned: bool | None
    """Whether they do not differ any more, by the same test; None: not tested."""
    frames: int
    """Frames that were gathered or played, all without learning from a reward."""
    loss_source: float | None = None
    """`L_dyn` on held-out episodes of the source."""
    loss_before: float | None = None
    """`L_dyn` in the target before, with equally many distinct keys."""
    loss_after: float | None = None
    """`L_dyn` in the target afterwards."""
    statistics_source: float | None = None
    """`L_stat` of the source's own held-out steps."""
    statistics_before: float | None = None
    statistics_after: float | None = None
    objective: str = ""
    moved: tuple[str, ...] = ()
    """Names of what moved; () where the encoder was left as it was."""
    behaviour: str = "random"
    """Of which steps of the source the statistics are: "random" actions, or "all"."""
    restarts: list[RestartResult] = field(default_factory=list)
    """The finalists, the chosen one first."""
    seconds: float = 0.0
    """Time that it took, gathering included."""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(_sentences(self))


def _sentences(report: RealignReport) -> list[str]:
    said = []
    if report.sensors_changed is None:
        said.append("Whether the target's sensors differ was not tested.")
    else:
        verb = "differ from" if report.sensors_changed else "agree with"
        if report.restarts and not report.moved:
            verb = "seem to agree with"
        measured = "their widths differ"
        if report.loss_before is not None:
            measured = f"L_dyn {report.loss_before:.2f}, source {report.loss_source:.2f}"
        said.append(f"The target's sensors {verb} the source's ({measured}).")
    if not report.moved:
        if report.restarts:
            said.append(
                "Rooms or dynamics seem to differ: an encoder that was realigned to the target "
                f"(L_dyn {report.loss_after:.2f}) still read the source's own observations."
            )
        said.append("The encoder was left as it was.")
        if report.restarts:
            said.append("keep=True keeps what was found.")
    elif report.loss_after is not None:
        said.append(
            f"After {report.frames:,} frames without a reward L_dyn is {report.loss_after:.2f}"
            f" (source {report.loss_source:.2f}) and L_stat {report.statistics_after:.2f} "
            f"(source {report.statistics_source:.2f})."
        )
    if report.behaviour == "all" and report.sensors_changed is not None:
        said.append(
            "The source's memory has no steps with random actions, so all its steps were used: "
            "gather_memory(source, env, epsilon=1.0) gives better ones."
        )
    if report.aligned is False and report.moved:
        said.append(
            "The sensors still differ: try more frames, more restarts, or select='return'; "
            "if rooms or dynamics differ too, the difference may be theirs."
        )
    return [*said, *report.notes]
