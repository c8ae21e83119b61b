"""A learner and memories small enough to compute by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from contrastive_distillation.memory import EpisodicMemory, Memory, Observations

N_FEATURES = 6


class SmallEncoder(nn.Module):
    """Counts how many observations it has encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, N_FEATURES)
        self.n_features = N_FEATURES
        self.device = torch.device("cpu")
        self.n_encoded = 0

    def forward(self, observations: Observations) -> Tensor:
        assert isinstance(observations, np.ndarray)
        self.n_encoded += len(observations)
        return torch.tanh(self.layer(torch.as_tensor(observations).float()))


class Average(nn.Module):
    def __init__(self, encoder: SmallEncoder, momentum: float) -> None:
        super().__init__()
        self.average = copy.deepcopy(encoder).requires_grad_(False)
        self._encoder = (encoder,)
        self.momentum = momentum

    @torch.no_grad()
    def forward(self, observations: Observations) -> Tensor:
        return self.average(observations)

    @torch.no_grad()
    def update(self) -> None:
        current = self._encoder[0].parameters()
        for ours, theirs in zip(self.average.parameters(), current, strict=True):
            ours.lerp_(theirs, 1.0 - self.momentum)

    def copy_from(self, other: Average) -> None:
        self.load_state_dict(other.state_dict())


class SmallPolicy(nn.Module):
    """The encoder, a head of three actions, and a value function."""

    def __init__(self, encoder: SmallEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.actions = nn.Linear(N_FEATURES, 3)
        self.value = nn.Linear(N_FEATURES, 1)
        self.action_space = gym.spaces.Discrete(3)

    @property
    def weights(self) -> dict[str, Tensor]:
        return dict(self.named_parameters())

    acts_by = "probabilities"

    def logits(self, observations: Observations) -> Tensor:
        return self.actions(self.encoder(observations))

    def fisher_information(self, observations: Observations) -> dict[str, Tensor]:
        """Ones and twos, by how many letters a name has; the value function has none."""
        if hasattr(self, "seen"):
            self.seen.append(observations)
        named = self.named_parameters()
        return {n: torch.ones_like(p) * (1 + len(n) % 2) for n, p in named if "value" not in n}


class SmallLearner:
    def __init__(self) -> None:
        self.encoder = SmallEncoder()
        self.policy = SmallPolicy(self.encoder)
        self.n_features = N_FEATURES
        self.device = torch.device("cpu")
        self.gamma = 0.9
        self.progress = 0.0

    acts_by = "probabilities"

    def logits(self, observations: Observations) -> Tensor:
        return self.policy.logits(observations)

    def logit_parameters(self) -> list[nn.Parameter]:
        return [p for name, p in self.policy.named_parameters() if not name.startswith("value")]

    def named_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.policy.named_parameters())

    def moving_average(self, momentum: float) -> Average:
        return Average(self.encoder, momentum)

    def prediction_errors(self, memory: Memory, rows: np.ndarray) -> np.ndarray:
        return np.abs(memory.returns(rows)) + np.float32(0.1)


@pytest.fixture
def learner() -> SmallLearner:
    torch.manual_seed(0)
    return SmallLearner()


@pytest.fixture
def teacher() -> SmallEncoder:
    torch.manual_seed(1)
    return SmallEncoder().requires_grad_(False)


@pytest.fixture
def source_policy() -> SmallPolicy:
    torch.manual_seed(2)
    return SmallPolicy(SmallEncoder()).requires_grad_(False)


@pytest.fixture
def filled() -> Callable[..., Memory]:
    def make(*, n_steps: int = 60, seed: int = 0, n_values: int = 50, n_envs: int = 8) -> Memory:
        generator = np.random.default_rng(seed)
        memory = EpisodicMemory(capacity=1000)
        memory.start(n_envs=n_envs, gamma=0.9, tasks=["a", "b"])
        for time in range(n_steps):
            memory.add(
                observations=generator.integers(0, n_values, (n_envs, 4), dtype=np.uint8),
                actions=generator.integers(0, 3, n_envs),
                rewards=generator.normal(size=n_envs),
                terminated=generator.random(n_envs) < 0.1,
                truncated=np.zeros(n_envs, dtype=bool),
                tasks=np.arange(n_envs) % 2,
                time=time,
            )
        return memory

    return make
