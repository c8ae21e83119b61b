"""Progress of a run: frames done, speed, time left."""

import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Literal

_SPEED_OVER_SECONDS = 20.0

State = Literal["waiting", "running", "finished", "failed"]


class RunProgress:
    """Counts the frames done by all trainings of a run and estimates the time left."""

    def __init__(self, frames: Mapping[str, int], *, groups: Mapping[str, str] | None = None):
        """
        Args:
            frames: name of a spec → most frames it may take.
            groups: name of a spec → name of the group it is counted in; None: one group.
        """
        self._frames = dict(frames)
        self._groups = {} if groups is None else dict(groups)
        self._states: dict[str, State] = dict.fromkeys(frames, "waiting")
        self._done = dict.fromkeys(frames, 0)
        self._recent: deque[tuple[float, int]] = deque()
        self._skipped = 0

    def skip(self, name: str) -> None:
        """A spec was finished before this run."""
        self._skipped += self._frames[name]
        self._states[name] = "finished"
        self._done[name] = self._frames[name]

    def start(self, name: str) -> None:
        """A spec's training starts."""
        self._states[name] = "running"

    def update(self, name: str, frames: int) -> None:
        """A spec has done this number of frames."""
        self._done[name] = min(frames, self._frames[name])
        now = time.monotonic()
        self._recent.append((now, self.done - self._skipped))
        while now - self._recent[0][0] > _SPEED_OVER_SECONDS:
            self._recent.popleft()

    def finish(self, name: str, frames: int | None, *, failed: bool = False) -> None:
        """A spec has ended.

        Args:
            name: of the spec.
            frames: number of frames it took; None if it did not finish.
            failed: whether it failed.
        """
        least = min(self._frames[name], self._done[name] if frames is None else frames)
        self._frames[name] = least
        self._states[name] = "failed" if failed else "finished" if frames else "waiting"
        self.update(name, least)

    def counts(self) -> dict[str, Counter[State]]:
        """Group → number of its specs in each state."""
        found: dict[str, Counter[State]] = {}
        for name, state in self._states.items():
            found.setdefault(self._groups.get(name, ""), Counter())[state] += 1
        return found

    @property
    def done(self) -> int:
        """Frames done by all trainings."""
        return sum(self._done.values())

    @property
    def total(self) -> int:
        """Frames of all trainings, at most."""
        return sum(self._frames.values())

    @property
    def frames_per_second(self) -> float:
        """Speed of all trainings together over the last 20 seconds."""
        if not self._recent:
            return 0.0
        (start, before), (end, after) = self._recent[0], self._recent[-1]
        return max(0, after - before) / (end - start) if end - start > 1 else 0.0

    @property
    def time_left(self) -> str:
        """``m:ss`` or ``h:mm:ss``; dashes while it is unknown."""
        speed = self.frames_per_second
        if speed <= 0:
            return "-:--"
        minutes, seconds = divmod(round((self.total - self.done) / speed), 60)
        hours, minutes_left = divmod(minutes, 60)
        return f"{hours}:{minutes_left:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

    @property
    def trainings(self) -> str:
        """``12 of 60 trainings, 2 running, 1 failed``."""
        states = Counter(self._states.values())
        parts = [f"{states['finished']} of {len(self._states)} trainings"]
        parts += [f"{states[s]} {s}" for s in ("running", "failed") if states[s]]
        return ", ".join(parts)

    def __str__(self) -> str:
        text = f"{short(self.done)} of {short(self.total)} frames"
        speed = self.frames_per_second
        return f"{text} · {short(speed)} frames/s · {self.time_left} left" if speed else text


def short(number: float) -> str:
    """``950``, ``62k``, ``1.40M``."""
    if number >= 1e6:
        return f"{number / 1e6:.2f}M"
    return f"{number / 1e3:.0f}k" if number >= 1e4 else f"{number:.0f}"
