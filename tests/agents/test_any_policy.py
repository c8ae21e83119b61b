"""Any policy: the loss reaches its encoder and nothing else, and weight 0 changes nothing."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from torch import nn
from torch.nn.utils import spectral_norm, weight_norm

from contrastive_distillation.agents import AuxiliaryLossCallback, VectorEncoder, policy_sha256
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory

_PICTURE, _VECTOR = Box(0, 255, (3, 36, 36), np.uint8), Box(-1, 1, (5,), np.float32)
_SPACES: dict[str, gym.Space[Any]] = {
    "vector": _VECTOR,
    "picture": _PICTURE,
    "dict": Dict(image=_PICTURE, vector=_VECTOR),
}
_EXTRACTORS: dict[str, tuple[type, str, dict[str, int]]] = {
    "vector": (VectorEncoder, "MlpPolicy", {"features_dim": 8}),
    "picture": (NatureCNN, "CnnPolicy", {"features_dim": 8}),
    "dict": (CombinedExtractor, "MultiInputPolicy", {"cnn_output_dim": 8}),
}
_NORMS: dict[str, Any] = {"spectral": spectral_norm, "weight": weight_norm}
_FRAMES = 48


class Sampled(gym.Env[Any, Any]):
    """Random observations and rewards; the episode ends after 12 steps."""

    def __init__(self, space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = space, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(0)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self.observation_space.sample(), float(self.t % 3), self.t >= 12, False, {}


def _layers(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]


def normed(kind: type, norm: str) -> type:
    """The extractor with a norm on the weight of its first layer."""

    class Normed(kind):  # type: ignore[misc]
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            _NORMS[norm](_layers(self)[0])

    return Normed


_POLICIES = st.fixed_dictionaries(
    {
        "algorithm": st.sampled_from([PPO, A2C, DQN, SAC]),
        "sees": st.sampled_from(sorted(_SPACES)),
        "shared": st.booleans(),
        "norm": st.sampled_from(["none", *_NORMS]),
        "frozen": st.booleans(),
        "compiled": st.sampled_from(["no", "extractor", "policy"]),
    }
)


def built(chosen: dict[str, Any]) -> BaseAlgorithm:
    algorithm = chosen["algorithm"]
    kind, policy, settings_of_extractor = _EXTRACTORS[chosen["sees"]]
    kwargs: dict[str, Any] = {
        "features_extractor_class": (
            kind if chosen["norm"] == "none" else normed(kind, chosen["norm"])
        ),
        "features_extractor_kwargs": settings_of_extractor,
        "net_arch": [8],
    }
    if algorithm is not DQN:
        kwargs["share_features_extractor"] = chosen["shared"]
    actions = Box(-1, 1, (2,), np.float32) if algorithm is SAC else Discrete(3)
    others: dict[str, Any] = {
        PPO: {"n_steps": 24, "batch_size": 12, "n_epochs": 1},
        A2C: {"n_steps": 12},
        DQN: {"learning_starts": 20, "batch_size": 8, "buffer_size": 100},
        SAC: {"learning_starts": 40, "batch_size": 8, "buffer_size": 100},
    }[algorithm]
    env = Sampled(_SPACES[chosen["sees"]], actions)
    model: BaseAlgorithm = algorithm(policy, env, seed=0, policy_kwargs=kwargs, **others)
    extractors = [m for m in model.policy.modules() if isinstance(m, kind)]
    for extractor in extractors:
        if chosen["frozen"]:
            _layers(extractor)[0].requires_grad_(False)
        if chosen["compiled"] == "extractor":
            extractor.compile(backend="eager")
    if chosen["compiled"] == "policy":
        model.policy = torch.compile(model.policy, backend="eager")  # type: ignore[assignment]
    return model


class Look(BaseCallback):
    """Copies the policy's gradients right before the encoder's optimiser steps."""

    def __init__(self, joined: AuxiliaryLossCallback) -> None:
        super().__init__()
        self._joined = joined
        self._handles: list[Any] = []
        self.seen: list[dict[int, torch.Tensor]] = []

    def _on_rollout_end(self) -> None:
        self._off()
        learner = self._joined.learner
        assert learner is not None and learner.optimizer is not None
        self._handles.append(learner.optimizer.register_step_pre_hook(self._look))

    def _look(self, *_: object) -> None:
        found = [(p, p.grad) for p in self.model.policy.parameters()]
        self.seen.append({id(p): torch.zeros_like(p) if g is None else g.clone() for p, g in found})

    def _off(self) -> None:
        while self._handles:
            self._handles.pop().remove()

    _on_rollout_start = _on_training_end = _off

    def _on_step(self) -> bool:
        return True


def join(weight: float) -> AuxiliaryLossCallback:
    loss = ContrastiveDistillation(n_negatives=8, projection_dim=8)
    return AuxiliaryLossCallback(
        loss, memory=EpisodicMemory(capacity=200), every=2, n_anchors=8, weight=weight
    )


def check(chosen: dict[str, Any]) -> None:
    plain = policy_sha256(built(chosen).learn(_FRAMES))
    assert policy_sha256(built(chosen).learn(_FRAMES, callback=join(0.0))) == plain

    joined = join(0.5)
    before, after = Look(joined), Look(joined)
    built(chosen).learn(_FRAMES, callback=[before, joined, after])
    assert joined.learner is not None
    encoder = {id(p) for p in joined.learner.encoder.parameters() if p.requires_grad}
    n_changed = 0
    for own, others in zip(before.seen, after.seen, strict=True):
        added = {key: others[key] - gradient for key, gradient in own.items()}
        changed = {key for key, difference in added.items() if bool(difference.any())}
        assert changed <= encoder
        n_changed += bool(changed)
        if changed:
            length = torch.stack([added[key].norm() for key in encoder]).norm()
            rl = torch.stack([own[key].norm() for key in encoder]).norm()
            assert torch.isfinite(length)
            assert length >= joined.weight * rl * 0.999
    assert n_changed == joined.n_updates > 0


def _policy(algorithm: type, sees: str, **others: Any) -> dict[str, Any]:
    usual = {"shared": True, "norm": "none", "frozen": False, "compiled": "no"}
    return {"algorithm": algorithm, "sees": sees} | usual | others


_HOW: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=4, derandomize=True, **_HOW)
@example(chosen=_policy(PPO, "dict", norm="spectral", frozen=True))
@example(chosen=_policy(DQN, "vector", norm="weight", compiled="extractor"))
@example(chosen=_policy(SAC, "picture", shared=False))
@given(chosen=_POLICIES)
def test_any_policy(chosen: dict[str, Any]) -> None:
    check(chosen)


@pytest.mark.slow
@settings(max_examples=60, **_HOW)
@given(chosen=_POLICIES)
def test_many_policies(chosen: dict[str, Any]) -> None:
    check(chosen)
