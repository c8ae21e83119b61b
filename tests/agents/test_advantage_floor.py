"""Advantages that stay small when an agent has learnt."""

from typing import Any

import numpy as np
import pytest
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback

from contrastive_distillation.agents import AdvantageFloor

KWARGS: dict[str, Any] = {"n_steps": 64, "batch_size": 64, "n_epochs": 1, "seed": 0}


class Scripted(BaseCallback):
    """Gives the rollouts advantages of certain standard deviations; keeps what is learnt from."""

    def __init__(self, *stds: float) -> None:
        super().__init__()
        self._stds = list(stds)
        self.shapes: list[np.ndarray] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.model.rollout_buffer  # type: ignore[attr-defined]
        drawn = np.random.default_rng(0).normal(size=buffer.advantages.shape)
        shape = (drawn - drawn.mean()) / drawn.std()
        buffer.advantages = (3.0 + self._stds.pop(0) * shape).astype(np.float32)
        self.shapes.append(shape)


class Seen(BaseCallback):
    """The standard deviation and the mean of the advantages that PPO learns from."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[float, float]] = []
        self.rates: list[float] = []
        self.normalises: set[bool] = set()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        advantages = self.model.rollout_buffer.advantages  # type: ignore[attr-defined]
        self.found.append((float(advantages.std()), float(advantages.mean())))
        self.rates.append(float(self.model.lr_schedule(1.0)))  # type: ignore[attr-defined]
        self.normalises.add(self.model.normalize_advantage)  # type: ignore[attr-defined]


def test_small_advantages_stay_small_whatever_the_scale_of_rewards() -> None:
    for scale in (1.0, 1000.0):
        model, seen = PPO("MlpPolicy", "CartPole-v1", **KWARGS), Seen()
        stds = [scale * std for std in (0.1, 0.2, 0.15, 0.01)]
        model.learn(256, callback=[Scripted(*stds), AdvantageFloor(share=0.5, keep=1.0), seen])
        expected = [1.0, 1.0, 1.0, 0.01 / (0.5 * 0.2)]
        assert [std for std, _ in seen.found] == pytest.approx(expected, rel=1e-3)
        assert [mean for _, mean in seen.found] == pytest.approx([0.0] * 4, abs=1e-3)
        assert seen.normalises == {False}
        assert model.normalize_advantage, "the model has its own setting again"


def test_the_learning_rate_falls_with_the_advantages_but_not_below_its_least_share() -> None:
    model, seen = PPO("MlpPolicy", "CartPole-v1", learning_rate=1e-2, **KWARGS), Seen()
    floor = AdvantageFloor(share=0.5, keep=1.0, slowest=0.1)
    model.learn(320, callback=[Scripted(0.2, 0.15, 0.05, 0.001, 0.4), floor, seen])
    assert seen.rates == pytest.approx([1e-2, 1e-2, 0.5e-2, 1e-3, 1e-2], rel=1e-3)
    assert model.lr_schedule(1.0) == 1e-2, "the model has its own rate again"


def test_updates_are_made_at_the_lower_rate() -> None:
    rates = []
    for slowest in (1.0, 0.1):
        model = PPO("MlpPolicy", "CartPole-v1", learning_rate=1e-2, **KWARGS)
        model.learn(128, callback=[Scripted(0.4, 0.001), AdvantageFloor(slowest=slowest)])
        rates.append(model.policy.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-2, 1e-3])


class Interrupts(BaseCallback):
    """Raises when a rollout has ended, as an interruption while PPO learns does."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        raise KeyboardInterrupt


def test_after_an_interruption_the_model_gets_its_own_settings_back() -> None:
    model = PPO("MlpPolicy", "CartPole-v1", learning_rate=1e-2, **KWARGS)
    model.learn(64, callback=[Scripted(0.4), AdvantageFloor()])
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            model.learn(64, callback=[Scripted(0.001), AdvantageFloor(), Interrupts()])
    model.learn(64, callback=[Scripted(0.001), AdvantageFloor()])
    assert model.lr_schedule(1.0) == 1e-2
    assert model.normalize_advantage


def test_a_further_learn_goes_on_with_the_largest_and_forgets_it_slowly() -> None:
    model, seen = PPO("MlpPolicy", "CartPole-v1", **KWARGS), Seen()
    model.learn(64, callback=[Scripted(0.4), AdvantageFloor()])
    model.learn(128, callback=[Scripted(0.01, 0.01), AdvantageFloor(share=0.5, keep=0.5), seen])
    assert [std for std, _ in seen.found] == pytest.approx([0.01 / 0.1, 0.01 / 0.05], rel=1e-3)


def test_a_share_of_zero_is_the_rollouts_own_normalisation() -> None:
    model, seen = PPO("MlpPolicy", "CartPole-v1", **KWARGS), Seen()
    model.learn(128, callback=[Scripted(5.0, 0.001), AdvantageFloor(share=0.0), seen])
    assert [std for std, _ in seen.found] == pytest.approx([1.0, 1.0], rel=1e-3)
    assert seen.rates == [model.lr_schedule(1.0)] * 2


def test_the_number_is_in_the_zip(tmp_path: Any) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", **KWARGS)
    model.learn(64, callback=[Scripted(0.4), AdvantageFloor()])
    model.save(tmp_path / "model.zip")
    found = PPO.load(tmp_path / "model.zip")
    assert found.largest_advantage_std == pytest.approx(0.4, rel=1e-3)  # type: ignore[attr-defined]


def test_what_it_refuses() -> None:
    for wrong in ({"share": 1.5}, {"keep": -0.1}, {"slowest": 2.0}):
        with pytest.raises(ValueError, match="expected a number in"):
            AdvantageFloor(**wrong)
    with pytest.raises(ValueError, match="needs PPO, got A2C"):
        A2C("MlpPolicy", "CartPole-v1").learn(5, callback=AdvantageFloor())
