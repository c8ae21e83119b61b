"""A thread that notices an environment that hangs in a step."""

import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

from contrastive_distillation.envs import RUNNING_STEP

GiveUp = Callable[[str, str], None]
"""Takes the reason, in one line, and where the training stands, as a stack."""

_SECONDS_BETWEEN_LOOKS = 0.5


@contextlib.contextmanager
def watching_steps(timeout_seconds: float, give_up: GiveUp) -> Iterator[None]:
    """Call `give_up`, from another thread, when a step of an environment takes too long.

    Time during which the whole process was suspended does not count. Environments whose C code
    keeps Python's lock while it hangs cannot be noticed.

    Args:
        timeout_seconds: how long one step may take; 0 for any time.
        give_up: told which environment hangs; called at most once.
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
