"""Which environment is in the middle of a step just now, for whoever watches from outside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class Stepping:
    """Written by what steps environments, read by another thread; costs next to nothing."""

    def __init__(self) -> None:
        self.env_id: str | None = None
        """None while no environment is being stepped or reset."""
        self.env_index = 0
        """Its number among those of its id; 0 where all are stepped together."""
        self.count = 0
        """Steps begun since the process started: tells one step from the next."""

    def begin(self, env_id: str, env_index: int = 0) -> None:
        """A step or reset begins."""
        self.count += 1
        self.env_index = env_index
        self.env_id = env_id

    def end(self) -> None:
        """No environment is at work any more."""
        self.env_id = None


STEPPING = Stepping()
"""Of this process: it trains one agent."""


@contextlib.contextmanager
def stepping(env_id: str, env_index: int) -> Iterator[None]:
    """Around a step or reset of one environment: says so, and names it where it raises."""
    STEPPING.begin(env_id, env_index)
    try:
        yield
    except Exception as error:
        raise EnvironmentFailedError(env_id=env_id, env_index=env_index, error=error) from error
    finally:
        STEPPING.end()


class EnvironmentFailedError(RuntimeError):
    """An environment raised; the error it raised is the cause.

    Attributes: `env_id`, `env_index`.
    """

    def __init__(self, *, env_id: str, env_index: int, error: Exception) -> None:
        self.env_id, self.env_index = env_id, env_index
        text = " ".join(str(error).split())
        super().__init__(
            f"environment {env_id!r} (number {env_index}) raised {type(error).__name__}: {text}"
        )
