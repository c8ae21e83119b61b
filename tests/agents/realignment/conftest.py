"""Small fits and models for the tests of `realign`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from contrastive_distillation.agents import VectorEncoder
from contrastive_distillation.agents.realignment import source

ENCODER: dict[str, Any] = {
    "features_extractor_class": VectorEncoder,
    "features_extractor_kwargs": {"features_dim": 16, "hidden_dims": (16,)},
    "net_arch": [16],
}


@pytest.fixture(autouse=True)
def short_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit latent dynamics of all kinds for a few updates."""
    for kind, settings in list(source.DYNAMICS.items()):
        monkeypatch.setitem(source.DYNAMICS, kind, replace(settings, n_updates=30, batch_size=64))
    short = replace(source.OF_WHITENED, n_updates=30, batch_size=64)
    monkeypatch.setattr(source, "OF_WHITENED", short)


Build = Callable[..., BaseAlgorithm]


@pytest.fixture
def build() -> Build:
    """`build(env, kind=PPO, seed=0, kwargs=ENCODER)`: a small model."""

    def built(
        env: Any,
        kind: type[BaseAlgorithm] = PPO,
        *,
        seed: int = 0,
        kwargs: dict[str, Any] | None = None,
        **settings: Any,
    ) -> BaseAlgorithm:
        name = "MultiInputPolicy" if isinstance(env.observation_space, gym.spaces.Dict) else None
        name = name or ("MlpLstmPolicy" if kind.__name__ == "RecurrentPPO" else "MlpPolicy")
        if issubclass(kind, PPO) or "PPO" in kind.__name__:
            settings = {"n_steps": 16, "batch_size": 16, "n_epochs": 1} | settings
        elif hasattr(kind, "replay_buffer"):
            settings = {"buffer_size": 500} | settings
        made: Any = kind
        model: BaseAlgorithm = made(
            name, env, policy_kwargs=dict(ENCODER if kwargs is None else kwargs), seed=seed,
            device="cpu", **settings,
        )  # fmt: skip
        return model

    return built
