"""One step's batch of every sampler on random memories, against a ledger of what was written.

The ledger knows rows by their serial, which is each row's action; so nothing that the memory says
of episodes, steps, returns or repetitions is used to judge it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import (
    EVICTIONS,
    NEGATIVES,
    POSITIVES,
    EpisodicMemory,
    Memory,
    NegativeSampler,
    ReplayMemory,
    make_negatives,
)

GAMMA = 0.8


@dataclass
class Written:
    observation: bytes
    episode: int
    step: int
    task: int
    reward: float
    rollout: int
    return_to_go: float | None = None


class Ledger:
    """Everything that was ever written, by serial."""

    def __init__(self) -> None:
        self.rows: list[Written] = []
        self.open: list[list[Written]] = []
        self.n_episodes = self.rollout = 0

    def start(self, n_envs: int) -> None:
        for rows in self.open:
            self.end(rows, terminated=False)
        self.open = [[] for _ in range(n_envs)]
        self.rollout = 0
        for row in self.rows:
            row.rollout = 0  # all count as recent until begin_rollout

    def end(self, rows: list[Written], *, terminated: bool) -> None:
        for i, row in enumerate(rows):
            later = rows[i:]
            if terminated or GAMMA ** len(later) < 0.01:
                row.return_to_go = math.fsum(GAMMA**k * r.reward for k, r in enumerate(later))
        rows.clear()
        self.n_episodes += 1

    def add(self, step: dict[str, np.ndarray]) -> None:
        for i, rows in enumerate(self.open):
            # an episode's number does not matter, only that it is its own
            rows.append(
                Written(
                    observation=step["observations"][i].tobytes(),
                    episode=rows[0].episode if rows else len(self.rows),
                    step=len(rows),
                    task=int(step["tasks"][i]),
                    reward=float(step["rewards"][i]),
                    rollout=self.rollout,
                )
            )
            self.rows.append(rows[-1])
        for i, rows in enumerate(self.open):
            if step["terminated"][i] or step["truncated"][i]:
                self.end(rows, terminated=bool(step["terminated"][i]))


REWARDS = {
    "normal": lambda g, n: g.normal(size=n).astype(np.float32),
    "sparse": lambda g, n: (g.random(n) < 0.05).astype(np.float32),
    "none": lambda g, n: np.zeros(n, np.float32),
}
memories = st.fixed_dictionaries(
    {
        "memory": st.sampled_from([ReplayMemory, *EVICTIONS]),
        "capacity": st.integers(20, 150),
        "runs": st.lists(st.tuples(st.integers(1, 5), st.integers(2, 30)), min_size=1, max_size=3),
        "n_tasks": st.integers(1, 3),
        "n_values": st.sampled_from([1, 2, 5, 50]),
        "p_end": st.sampled_from([0.0, 0.02, 0.2, 0.9]),
        "rewards": st.sampled_from(sorted(REWARDS)),
        "p_rollout": st.sampled_from([0.0, 0.1]),
        "seed": st.integers(0, 2**32 - 1),
    }
)


def filled(memory, capacity, runs, n_tasks, n_values, p_end, rewards, p_rollout, seed):
    generator = np.random.default_rng(seed)
    if memory is ReplayMemory:
        memory = ReplayMemory(capacity=capacity)
    else:
        memory = EpisodicMemory(capacity=capacity, keep=memory)
    ledger = Ledger()
    for n_envs, n_steps in runs:
        n_envs = min(n_envs, capacity // memory.keep.rows_per_env)
        memory.start(n_envs=n_envs, gamma=GAMMA, tasks=["a", "b", "c"][:n_tasks])
        ledger.start(n_envs)
        for time in range(n_steps):
            if generator.random() < p_rollout:
                memory.begin_rollout()
                ledger.rollout = len(ledger.rows)
            step = {
                "observations": generator.integers(0, n_values, (n_envs, 4), dtype=np.uint8),
                "actions": len(ledger.rows) + np.arange(n_envs),
                "rewards": REWARDS[rewards](generator, n_envs),
                "terminated": generator.random(n_envs) < p_end,
                "truncated": generator.random(n_envs) < p_end / 2,
                "tasks": np.arange(n_envs) % n_tasks,
            }
            memory.add(**step, time=time)
            ledger.add(step)
    return memory, ledger


class Watched(NegativeSampler):
    """A sampler that remembers which anchors it was given."""

    def __init__(self, sampler: NegativeSampler) -> None:
        self._sampler = sampler
        self.recent = sampler.recent

    def draw_anchors(self, memory, n, generator, insight):
        return self._sampler.draw_anchors(memory, n, generator, insight)

    def draw(self, memory, anchors, k, generator, insight):
        self.anchors = anchors
        self.pool = self._sampler.draw(memory, anchors, k, generator, insight)
        return self.pool


def of(memory: Memory, ledger: Ledger, rows: np.ndarray) -> list[Written]:
    """What was written to these rows; none of them may be empty."""
    assert np.isin(rows, memory.rows()).all()
    return [ledger.rows[serial] for serial in memory.actions(rows)]


def apart(one: Written, other: Written, window: int) -> bool:
    """May the one be a negative of the other?"""
    if one is other or one.observation == other.observation:
        return False
    return one.episode != other.episode or abs(one.step - other.step) > window


def weight(anchor: Written, negative: Written, scale: float) -> float:
    known = anchor.return_to_go is not None and negative.return_to_go is not None
    if not known or anchor.task != negative.task or not scale > 1e-6:
        return 1.0
    return 1.0 - math.exp(-abs(anchor.return_to_go - negative.return_to_go) / scale)


def scales(memory: Memory, ledger: Ledger) -> dict[int, float]:
    """Standard deviation of the known returns of each task that are stored."""
    found = {}
    for task in range(3):
        returns = [
            row.return_to_go
            for row in of(memory, ledger, memory.rows())
            if row.task == task and row.return_to_go is not None
        ]
        found[task] = float(np.std(returns)) if returns else 0.0
    return found


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    arguments=memories,
    negatives=st.sampled_from(sorted(NEGATIVES)),
    positives=st.sampled_from(sorted(POSITIVES)),
    k=st.integers(1, 200),
    n_anchors=st.integers(1, 20),
    window=st.integers(0, 12),
)
def test_a_batch_of_any_sampler(learner, arguments, negatives, positives, k, n_anchors, window):
    memory, ledger = filled(**arguments)
    sampler = Watched(make_negatives(negatives))
    loss = ContrastiveDistillation(
        negatives=sampler, n_negatives=k, positives=positives, window=window
    )
    with torch.random.fork_rng():
        loss.build(learner)
    drawn_from = [
        row
        for row in of(memory, ledger, memory.rows())
        if not sampler.recent or row.rollout >= ledger.rollout
    ]
    batch = loss.sample(memory, n_anchors, np.random.default_rng(arguments["seed"]))
    if len(drawn_from) < 2:
        assert batch is None
        return
    anchors = of(memory, ledger, sampler.anchors)
    held_to = of(memory, ledger, batch.target.positive_rows)
    groups = batch.target.negative_rows
    pools = [of(memory, ledger, group) for group in groups]
    near = negatives in ("nearest", "value_contrast")  # fewer anchors where they repeat
    assert len(anchors) <= n_anchors if near else len(anchors) == min(n_anchors, len(drawn_from))
    assert len(pools) == (min(8, len(anchors)) if near else 1)
    allowed = {id(row) for row in drawn_from}
    assert {id(row) for row in anchors} <= allowed
    for pool in pools:
        assert len({id(row) for row in pool}) == len(pool) == min(k, len(drawn_from))
        assert {id(row) for row in pool} <= allowed
    assert not sampler.recent or {id(row) for row in held_to} <= allowed
    fits = {
        "temporal": lambda a, p: p.episode == a.episode and p.step > a.step,
        "same": lambda a, p: p is a,
        "value_matched": lambda a, p: p.episode != a.episode,
    }[positives]
    spread = scales(memory, ledger)
    for b, (anchor, positive) in enumerate(zip(anchors, held_to, strict=True)):
        assert anchor.observation == batch.anchors[b].tobytes()
        valid = positives == "same" or positive is not anchor
        if valid:
            assert fits(anchor, positive)
            assert positives == "same" or positive.observation != anchor.observation
        for j, negative in enumerate(pools[b % len(pools)]):
            usable = apart(anchor, negative, window) and apart(positive, negative, window)
            assert batch.target.mask[b, j] == (valid and usable)
            if negatives == "value_contrast":
                assert math.exp(batch.target.log_weights[b, j]) == pytest.approx(
                    weight(anchor, negative, spread[anchor.task]), abs=2e-5
                )
    assert negatives == "value_contrast" or batch.target.log_weights is None
    rows = np.concatenate([batch.target.positive_rows, groups.reshape(-1)])
    keys = loss.target_keys
    with torch.no_grad():
        expected = keys.snapshot_head(keys.snapshot_encoder(memory.observations(rows)))
    expected = torch.nn.functional.normalize(expected, dim=1)
    drawn = np.concatenate([batch.target.positive_keys, *batch.target.negative_keys])
    np.testing.assert_allclose(drawn, expected.numpy(), atol=1e-5)
    terms = loss(learner, batch)
    assert torch.isfinite(terms["target"])
    assert loss.metrics["usable_anchors"] <= len(anchors)
