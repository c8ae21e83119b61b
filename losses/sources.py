"""What losses take from a source agent: its frozen encoder, its policy, its memory."""

from __future__ import annotations

from .auxiliary import SourcePolicy, Teacher


def required_teacher(teacher: Teacher | None, loss: str) -> Teacher:
    """The teacher; ValueError, with a way out, where there is none."""
    if teacher is None:
        raise ValueError(
            f"{loss} needs the frozen encoder of a source agent: pass teacher="
            "FrozenTeacher.from_model(source_model), or use the command transfer"
        )
    return teacher


def required_policy(source_policy: SourcePolicy | None, loss: str) -> SourcePolicy:
    """The source policy; ValueError, with a way out, where there is none."""
    if source_policy is None:
        raise ValueError(
            f"{loss} needs the policy of a source agent: pass source_policy="
            "FrozenPolicy.from_model(source_model), or use the command transfer"
        )
    return source_policy
