"""Which environment this process is stepping now, for a watchdog in another thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .contract import ContractError


class RunningStep:
    """The step or reset that runs now: written by the environments, read by another thread."""

    def __init__(self) -> None:
        self.env_id: str | None = None
        """The environment's id; None while no step or reset runs."""
        self.env_index = 0
        """Its number among those of its id; 0 where all are stepped together."""
        self.count = 0
        """Steps and resets begun since the process started."""

    def begin(self, env_id: str, env_index: int = 0) -> None:
        """Record that a step or reset begins."""
        self.count += 1
        self.env_index = env_index
        self.env_id = env_id

    def end(self) -> None:
        """Record that it has returned."""
        self.env_id = None


RUNNING_STEP = RunningStep()
"""The one of this process, which trains one agent."""


@contextlib.contextmanager
def track_step(env_id: str, env_index: int) -> Iterator[None]:
    """Record a step or reset in `RUNNING_STEP`; turn errors into EnvironmentFailedError."""
    RUNNING_STEP.begin(env_id, env_index)
    try:
        yield
    except Exception as error:
        raise EnvironmentFailedError(env_id=env_id, env_index=env_index, error=error) from error
    finally:
        RUNNING_STEP.end()


class EnvironmentFailedError(RuntimeError):
    """An environment raised an error, or ContractError was raised for it: the cause (`__cause__`).

    Attributes: `env_id`, `env_index`, `reason`.
    """

    def __init__(self, *, env_id: str, env_index: int, error: Exception) -> None:
        self.env_id, self.env_index = env_id, env_index
        text = " ".join(str(error).split())
        broken = isinstance(error, ContractError)
        self.reason = text if broken else f"raised {type(error).__name__}: {text}"
        separator = ": " if broken else " "
        super().__init__(f"environment {env_id!r} (number {env_index}){separator}{self.reason}")
