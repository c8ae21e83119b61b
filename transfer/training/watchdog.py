"""A thread that detects an environment that hangs in a step."""

import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

from contrastive_distillation.envs import RUNNING_STEP

GiveUp = Callable[[str, str], None]
"""Receives the reason, in one line, and the stack of the training's thread."""

_SECONDS_BETWEEN_LOOKS = 0.5


@contextlib.contextmanager
def watching_steps(timeout_seconds: float, give_up: GiveUp) -> Iterator[None]:
    """Call `give_up`, from another thread, when a step of an environment takes too long.

    Time during which the whole process is suspended does not count. An environment whose C code
    holds Python's global lock while it hangs cannot be detected.

    Args:
        timeout_seconds: time limit of one step; 0 for no limit.
        give_up: called with the environment that hangs, at most once.
    """
    ended = threading.Event()
    trained_by = threading.get_ident()

    def watch() -> None:
        pause = min(_SECONDS_BETWEEN_LOOKS, timeout_seconds / 4)
        known, waited, before = -1, 0.0, time.monotonic()
        while not ended.wait(pause):
            now = time.monotonic()
            passed, before = min(now - before, 2 * pause), now
            count, env_id = RUNNING_STEP.count, RUNNING_STEP.env_id
            waited = waited + passed if count == known and env_id is not None else 0.0
            known = count
            if waited > timeout_seconds:
                stack = "".join(traceback.format_stack(sys._current_frames()[trained_by]))
                give_up(
                    f"environment {env_id!r} (number {RUNNING_STEP.env_index}) has not come back "
                    f"from a step for more than {timeout_seconds:g} s (--env-timeout); where it "
                    "hangs is in the training's worker.log",
                    stack,
                )
                return

    if timeout_seconds <= 0:
        yield
        return
    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
