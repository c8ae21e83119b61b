"""Negatives where the value function is most mistaken."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .base import Memory
from .candidates import SAVED, CandidateRows
from .negatives import (
    Insight,
    NegativeSampler,
    Pool,
    check_searched,
    check_share,
    n_hard,
    with_uniform,
)
from .observations import Int64Array


class PredictionErrorNegatives(NegativeSampler):
    """Rows in proportion to the error of the value function; at least half stay uniform.

    `P(j) = e_j / Σ e` over a sample of the memory (`n_searched` rows; all of a smaller one), by
    the inverse of the cumulated errors; e as `Insight.errors` has it (compare prioritised replay,
    Schaul et al. 2016, https://arxiv.org/abs/1511.05952). Without any error: uniformly. Rows
    drawn twice are there once.
    """

    name = "prediction_error"
    uses_returns = True

    def __init__(self, *, uniform_share: float = 0.5, n_searched: int = 4096) -> None:
        """
        Args:
            uniform_share: of the negatives, in [0.5, 1].
            n_searched: rows of the memory whose errors are computed, >= 2.
        """
        check_share(uniform_share)
        check_searched(n_searched)
        self.uniform_share = uniform_share
        self._candidates = CandidateRows(n_searched)
        self._cumulated = np.empty(0)

    def draw(
        self,
        memory: Memory,
        anchors: np.ndarray,
        k: int,
        generator: np.random.Generator,
        insight: Insight,
    ) -> Pool:
        hard = self.hard(memory, n_hard(k, self.uniform_share), generator, insight)
        return Pool(with_uniform(hard, memory, k, generator))

    def hard(
        self, memory: Memory, n: int, generator: np.random.Generator, insight: Insight
    ) -> Int64Array:
        """Up to n different rows in proportion to their errors.

        Raises:
            FloatingPointError: an error is NaN, infinite or below 0 (names task and frame).
        """
        if self._candidates.renew(memory, insight.snapshot, generator):
            errors = insight.errors(self._candidates.rows)
            _check_errors(errors, memory, self._candidates.rows)
            self._cumulated = np.cumsum(errors, dtype=np.float64)
        total = self._cumulated[-1]
        if not total > 0.0:
            return self._candidates.rows[:0]
        places = np.searchsorted(self._cumulated, generator.random(n) * total, side="right")
        places = np.unique(np.minimum(places, len(self._cumulated) - 1))
        rows: Int64Array = self._candidates.rows[places[self._candidates.unchanged(memory, places)]]
        return rows

    def state_arrays(self) -> dict[str, np.ndarray]:
        if not len(self._cumulated):
            return {}
        return {**self._candidates.state_arrays(), "cumulated": self._cumulated}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._candidates.restore({key: arrays[key] for key in arrays if key in SAVED})
        self._cumulated = arrays["cumulated"].astype(np.float64) if arrays else np.empty(0)


def _check_errors(errors: np.ndarray, memory: Memory, rows: np.ndarray) -> None:
    bad = ~((errors >= 0.0) & (errors < np.inf))
    if bad.any():
        row = rows[bad][:1]
        task = memory.tasks[memory.task_ids(row)[0]]
        raise FloatingPointError(
            f"the value function is off by {errors[bad][0]} in {task} (step "
            f"{memory.steps(row)[0]} of its episode, frame {memory.times(row)[0]}); expected a "
            "finite number >= 0: lower the learning rate if it has diverged"
        )
