"""Writing a memory: rows, the episodes they belong to, and their returns."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from . import storage
from .episode_table import NONE
from .eviction import EvictionPolicy, FifoEviction, make_eviction
from .observations import Int64Array, Observations, hash_observations, named_arrays
from .paged_buffer import PagedBuffer
from .returns import returns_of_episodes
from .ring_buffer import RingBuffer, RowLayout
from .row_store import Step
from .stored_rows import StoredRows

_log = logging.getLogger(__name__)

_VECTORS = ("rewards", "terminated", "truncated", "tasks")
_TOO_LARGE_REWARD = 1e30  # sums of them would leave float32, in which returns are kept


class Memory(StoredRows):
    """What `EpisodicMemory` and `ReplayMemory` share: everything but what is forgotten."""

    kind: ClassVar[str]
    """Its name in `MEMORIES` and in files."""
    keeps_episodes_whole: ClassVar[bool]
    """Is an episode forgotten as a whole when its first row must make place?"""

    def __init__(self, *, capacity: int = 50_000, keep: str | EvictionPolicy = "fifo") -> None:
        """
        Args:
            capacity: rows, over all environments together.
            keep: which episodes stay when it is full: a name of `EVICTIONS`, or an object of one's
                own, which is then this memory's alone.
        """
        if capacity < 1:
            raise ValueError(f"capacity is {capacity} rows; it must be 1 or more")
        self._keep = make_eviction(keep)
        super().__init__(layout=self._make_layout(int(capacity)))
        self.n_envs = 0
        """Rows that each `add` brings; 0 before the first `start`."""
        self.gamma = 1.0
        self._open_slots = np.zeros(0, dtype=np.int64)  # of each environment
        self._task_map = np.zeros(0, dtype=np.int64)  # start()'s task numbers -> ours
        self._tasks_before, self._task_ids = b"", self._task_map  # the last step's, and ours

    def _make_layout(self, capacity: int) -> RowLayout:
        if isinstance(self._keep, FifoEviction):
            return RingBuffer(capacity=capacity, whole=self.keeps_episodes_whole)
        if not self.keeps_episodes_whole:
            raise ValueError(
                f"a {self.kind} memory forgets row by row, first in first out; keep "
                f"'{self._keep.name}' chooses among whole episodes. Use an episodic memory, or "
                "keep 'fifo'"
            )
        return PagedBuffer(capacity=capacity, keep=self._keep)

    @property
    def keep(self) -> EvictionPolicy:
        """Chooses which episodes stay."""
        return self._keep

    # ---------------------------------------------------------------- writing

    def start(self, *, n_envs: int, gamma: float, tasks: Sequence[str]) -> None:
        """Begins a run of `add`s: call it at the start of each `learn()`.

        Episodes still open are cut: their returns stay unknown but for rows so early that the
        missing tail does not matter. All stored rows count as recent until `begin_rollout`.

        Args:
            n_envs: rows that every `add` will bring.
            gamma: the agent's discount, in [0, 1].
            tasks: names; the task numbers given to `add` are indexes into this.
        """
        if not 1 <= n_envs <= self.capacity:
            raise ValueError(
                f"{n_envs} environments cannot write into a memory of {self.capacity} rows: "
                "each step brings one row of each. Need 1 <= n_envs <= capacity"
            )
        if n_envs * self.keep.rows_per_env > self.capacity:
            raise ValueError(
                f"{n_envs} environments cannot write into a memory of {self.capacity} rows with "
                f"keep '{self.keep.name}': it needs {self.keep.rows_per_env} rows for each. Use a "
                f"capacity of {n_envs * self.keep.rows_per_env} or more, or keep 'fifo'"
            )
        if not 0.0 <= gamma <= 1.0:
            raise ValueError(f"gamma is {gamma}; it must lie in [0, 1]")
        if not tasks:
            raise ValueError("tasks is empty; name at least one")
        self._close(self._open_slots[self._open_slots != NONE], terminated=False)
        self.tasks = tuple(dict.fromkeys([*self.tasks, *tasks]))
        self._task_map = np.array([self.tasks.index(task) for task in tasks], dtype=np.int64)
        self.n_envs, self.gamma = int(n_envs), float(gamma)
        self._tasks_before = b""
        self._open_slots = np.full(n_envs, NONE, dtype=np.int64)
        self._recent_from = 0
        self._rows = self._recent_rows = None

    @property
    def n_written(self) -> int:
        """Rows ever added: frames, as long as this memory is learnt with. It only grows."""
        return self._layout.n_written

    def begin_rollout(self) -> None:
        """Rows written from now on are the recent ones (on-policy: the current rollout)."""
        self._recent_from = self._layout.n_written
        self._recent_rows = None

    def add(
        self,
        *,
        observations: Observations,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        tasks: np.ndarray,
        time: int,
    ) -> None:
        """Store one step of all environments.

        Args:
            observations: (n_envs, ...) or a dict of such: what the agents saw *before* acting.
            actions: (n_envs, ...).
            rewards: (n_envs,).
            terminated, truncated: (n_envs,) bool: did the episode end with this step, by its own
                rules or by a limit of time? Terminated wins where both are set.
            tasks: (n_envs,) int, indexes into the `tasks` given to `start`.
            time: the agent's count of frames.

        Raises:
            ValueError: a shape or dtype differs from the first step's, a number is NaN or
                infinite, or a reward is 1e30 or more (the text names task and step); the memory
                is then as it was.
        """
        actions, rewards = np.asarray(actions), np.asarray(rewards, dtype=np.float32)
        terminated, truncated = np.asarray(terminated, np.bool_), np.asarray(truncated, np.bool_)
        tasks = np.asarray(tasks, dtype=np.int64)
        task_ids = self._check_step(
            observations, actions, rewards, terminated, truncated, tasks, time
        )
        step = Step(observations, actions, rewards, task_ids, np.full(self.n_envs, time, np.int64))
        is_first = not self._store.columns
        hashes = hash_observations(observations)
        self._store.write(self._layout.take(self._open_slots), step, hashes)
        self._rows = self._recent_rows = None
        truncated = truncated & ~terminated
        self._close(self._open_slots[terminated], terminated=True)
        self._close(self._open_slots[truncated], terminated=False)
        self._open_slots[terminated | truncated] = NONE
        if is_first:
            _log_floats(observations)

    def _close(self, slots: Int64Array, *, terminated: bool) -> None:
        """Ends the episodes in `slots` and fills in what is now known of their returns."""
        layout, columns = self._layout, self._store.columns
        if not len(slots):
            return
        layout.episodes.is_open[slots] = False
        slots = layout.admit(slots)
        if not len(slots):
            return
        rows = layout.rows_of_all(slots)
        lengths = layout.episodes.length[slots]
        columns["returns"][rows], columns["return_known"][rows] = returns_of_episodes(
            columns["rewards"][rows], lengths, self.gamma, terminated=terminated
        )
        firsts = rows[np.cumsum(lengths) - lengths]
        values = np.where(columns["return_known"][firsts], columns["returns"][firsts], np.nan)
        layout.finish(slots, tasks=columns["task_ids"][firsts], values=values)

    def _check_step(
        self,
        observations: Observations,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        tasks: Int64Array,
        time: int,
    ) -> Int64Array:
        """Refuses what does not fit; gives our numbers of the tasks."""
        n = self.n_envs
        if n == 0:
            raise ValueError("call start() before the first add()")
        if not rewards.shape == terminated.shape == truncated.shape == tasks.shape == (n,):
            vectors = zip(_VECTORS, (rewards, terminated, truncated, tasks), strict=True)
            name, vector = next(both for both in vectors if both[1].shape != (n,))
            raise ValueError(f"{name} has shape {vector.shape}; expected ({n},)")
        task_ids = self._known_tasks(tasks)
        self._store.check(observations, actions, n)
        for key, array in named_arrays(observations):
            label = f"observation '{key}'" if key else "observation"
            self._check_finite(label, array, tasks, time)
        self._check_finite("action", actions, tasks, time)
        self._check_finite("reward", rewards, tasks, time, below=_TOO_LARGE_REWARD)
        return task_ids

    def _known_tasks(self, tasks: Int64Array) -> Int64Array:
        """Our numbers of `start`'s tasks, (n_envs,); mostly they are those of the step before."""
        if tasks.tobytes() != self._tasks_before:
            if tasks.min() < 0 or tasks.max() >= len(self._task_map):
                raise ValueError(
                    f"tasks holds numbers {tasks.min()} to {tasks.max()}; "
                    f"start() named {len(self._task_map)}, counted from 0"
                )
            self._tasks_before, self._task_ids = tasks.tobytes(), self._task_map[tasks]
        return self._task_ids

    def _check_finite(
        self,
        label: str,
        values: np.ndarray,
        tasks: Int64Array,
        time: int,
        *,
        below: float = np.inf,
    ) -> None:
        if values.dtype.kind != "f" or np.vdot(values, values) < np.inf:
            return  # one call, as most often; it is not so, too, where only the sum is too large
        if np.abs(values).max(initial=0.0) < below:
            return
        fine = np.abs(values.reshape(len(values), -1)) < below
        env = int(np.flatnonzero(~fine.all(axis=1))[0])
        bad = values.reshape(len(values), -1)[env][~fine[env]][0]
        expected = "finite numbers" if below == np.inf else f"numbers below {below:g}"
        episodes, slot = self._episodes, self._open_slots[env]
        step = 0 if slot == NONE else int(episodes.first_step[slot] + episodes.length[slot])
        raise ValueError(
            f"{label} is {bad} in {self.tasks[self._task_map[tasks[env]]]} (environment {env}, "
            f"step {step} of its episode, frame {time}); expected {expected}"
        )

    # ---------------------------------------------------------------- keeping

    def state_tensors(self) -> dict[str, np.ndarray]:
        """Copies of its arrays, for a file; with `metadata()` they are the whole memory."""
        is_open = self._open_slots != NONE
        open_ids = np.where(is_open, self._episodes.ids[self._open_slots], NONE)
        return {
            **self._store.state(self._slots[: self._layout.end] != NONE),
            **self._episodes.state(),
            "open_episodes": open_ids,
            "task_map": self._task_map.copy(),
            **self._layout.tensors(),
        }

    def metadata(self) -> dict[str, str]:
        """Its numbers and names, for a file."""
        state = storage.MemoryState(
            capacity=self.capacity,
            n_envs=self.n_envs,
            n_written=self.n_written,
            recent_from=self._recent_from,
            next_id=self._episodes.next_id,
            gamma=self.gamma,
            tasks=self.tasks,
            keep=self.keep.name,
            keep_state=self.keep.state(),
        )
        return state.metadata(self.kind)

    @classmethod
    def from_state(
        cls,
        tensors: Mapping[str, np.ndarray],
        metadata: Mapping[str, str],
        *,
        keep: EvictionPolicy | None = None,
    ) -> Self:
        """The memory of which these are `state_tensors()` and `metadata()`, to the bit.

        Args:
            keep: a fresh object of the memory's `keep`, where that is not in `EVICTIONS`.

        Raises:
            ValueError: they are of another version or kind of memory, or contradict themselves.
        """
        state = storage.MemoryState.from_metadata(cls.kind, metadata)
        memory = cls(capacity=state.capacity, keep=state.restored_keep(keep))
        memory._restore(state, tensors)
        return memory

    def _restore(self, state: storage.MemoryState, tensors: Mapping[str, np.ndarray]) -> None:
        """Fill this memory, which is empty; ValueError if the state contradicts itself."""
        self.n_envs, self.gamma, self.tasks = state.n_envs, state.gamma, state.tasks
        self._recent_from, self._layout.n_written = state.recent_from, state.n_written
        self._store.restore(tensors, self._layout.saved_rows(tensors))
        slots = self._episodes.restore(
            tensors,
            next_id=state.next_id,
            serials=(self._layout.oldest, state.n_written),
            capacity=self.capacity,
        )
        self._layout.restore(slots, tensors, self._store.columns)
        self._open_slots = self._episodes.open_slots(tensors, self.n_envs, self.n_written)
        self._task_map = storage.tensor_of(tensors, "task_map", np.int64).copy()
        rows = self.rows()
        stored = self.task_ids(rows) if len(rows) else rows
        for name, numbers in (("task_map", self._task_map), ("task_ids", stored)):
            known = storage.within(numbers, 0, len(self.tasks))
            storage.require(known, f"{name} names tasks that are not there")

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file, whole or not at all; what repeats in it is packed (`pack`)."""
        storage.write_file(path, self.state_tensors(), self.metadata())

    @classmethod
    def load(cls, path: str | Path, *, keep: EvictionPolicy | None = None) -> Self:
        """Reads such a file. ValueError, in one line, for one that is damaged or foreign."""
        tensors, metadata = storage.read_file(path)
        try:
            return cls.from_state(tensors, metadata, keep=keep)
        except (ValueError, MemoryError) as error:
            raise ValueError(f"{path}: {error}") from error


def _log_floats(observations: Observations) -> None:
    if any(array.dtype.kind == "f" for _, array in named_arrays(observations)):
        _log.info(
            "observations hold floats, of which equal ones are hardly ever found again: "
            "negatives are masked by the window of steps, seldom by their hash."
        )
