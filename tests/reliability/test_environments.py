"""Environments that raise, hang, give bad numbers, or keep their state to themselves."""

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from contrastive_distillation.agents import FiniteGradients
from contrastive_distillation.envs import RUNNING_STEP, BadNumberError, EnvironmentFailedError
from contrastive_distillation.run_agent import main
from contrastive_distillation.transfer.evaluation.evaluator import Episodes, Evaluator
from contrastive_distillation.transfer.training.watchdog import watching_steps

from . import broken_envs
from .conftest import VECTOR, Trainer

pytestmark = pytest.mark.filterwarnings("ignore:the return range of")
sys.modules.setdefault("broken_envs", broken_envs)
TINY: dict[str, Any] = {"frames": 1_000, "n_envs": 4, "memory_capacity": 500}


def unplayed(model: BaseAlgorithm, evaluator: Evaluator, **how: Any) -> list[Episodes]:
    """An evaluation that does not meet the environment's fault."""
    nothing = {"returns": np.zeros(4), "lengths": np.full(4, 9)}
    return [Episodes(env_id=each, backend="gymnasium", **nothing) for each in evaluator.env_ids]


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
@pytest.mark.parametrize("key", ["reward", "observation"])
def test_a_bad_number_stops_the_training_and_is_named(
    agent: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "contrastive_distillation.transfer.evaluation.evaluation_callback.play", unplayed
    )
    trainer = Trainer(
        tmp_path, agent=agent, env=(f"broken_envs:broken/{key}-v0",), checkpoint_every=64, **TINY
    )
    with pytest.raises(BadNumberError) as caught:
        trainer.run()
    text = str(caught.value)
    assert f"broken/{key}-v0" in text and f"its {key} at step 140" in text
    (newest, *_) = reversed(trainer.checkpoints)
    weights = load_file(newest / "policy.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


def test_a_finite_reward_that_is_beyond_all_measure_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "contrastive_distillation.transfer.evaluation.evaluation_callback.play", unplayed
    )
    trainer = Trainer(tmp_path, env=("broken_envs:broken/huge-v0",), loss="none", **TINY)
    with pytest.raises(ValueError, match=r"reward is 3\.0.*e\+38 in broken_envs:broken/huge-v0"):
        trainer.run()


class Spoil(BaseCallback):
    """Makes what is learnt from NaN, from a frame on."""

    def _on_step(self) -> bool:
        buffer = getattr(self.model, "replay_buffer", None)
        if buffer is not None and self.num_timesteps == 40:
            buffer.rewards[:] = np.nan
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps == 48:
            self.model.rollout_buffer.returns[:] = np.nan  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [PPO, DQN, SAC])
def test_a_gradient_that_is_no_number_stops_before_the_weights_are_spoilt(
    kind: type[BaseAlgorithm],
) -> None:
    """Stable-Baselines3 alone goes on with networks of NaN."""
    env_id = "Pendulum-v1" if kind is SAC else VECTOR
    settings = {"n_steps": 16, "batch_size": 16} if kind is PPO else {"learning_starts": 20}
    model, guard = kind("MlpPolicy", env_id, seed=0, **settings), FiniteGradients([env_id])
    frame = 48 if kind is PPO else 40
    said = rf"the gradient of .* optimiser step .*frame {frame}, training on {env_id}"
    with pytest.raises(FloatingPointError, match=said):
        model.learn(100, callback=[Spoil(), guard])
    assert all(bool(torch.isfinite(p).all()) for p in model.policy.parameters())
    assert not guard._handles
    if kind is not PPO:
        model.replay_buffer.rewards[:] = 0.0  # type: ignore[attr-defined]
    model.learn(100, callback=guard)


def test_an_environment_that_raises_is_named_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "contrastive_distillation.transfer.evaluation.evaluation_callback.play", unplayed
    )
    trainer = Trainer(tmp_path, env=("broken_envs:broken/raises-v0",), **TINY)
    with pytest.raises(EnvironmentFailedError) as caught:
        trainer.run()
    assert "broken/raises-v0' (number 0) raised RuntimeError: the pole broke" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(("env_id", "why"), [("settings", "EzPickle"), ("lambda", "lambda")])
def test_environments_that_cannot_give_their_state_start_new_episodes(
    env_id: str, why: str, tmp_path: Path
) -> None:
    trainer = Trainer(tmp_path, env=(f"broken_envs:broken/{env_id}-v0",), **TINY)
    assert trainer.run(stop_at=300) == "interrupted"
    assert trainer.run() == "finished"
    first, second = trainer.said
    assert "start new episodes with a new seed when this training is continued" in first
    assert why in first
    assert second.startswith("continues at frame ") and "could not give their state" in second


def test_the_watchdog_hears_of_one_long_step_and_not_of_many_short_ones() -> None:
    heard: list[tuple[str, str]] = []
    gave_up = threading.Event()

    def give_up(reason: str, stack: str) -> None:
        heard.append((reason, stack))
        gave_up.set()

    with watching_steps(0.2, give_up):
        for _ in range(50):
            RUNNING_STEP.begin("short", 1)
            gave_up.wait(0.01)
            RUNNING_STEP.end()
        gave_up.wait(0.5)  # no step at all
        assert heard == []
        RUNNING_STEP.begin("long", 7)
        assert gave_up.wait(30)
        RUNNING_STEP.end()
    ((reason, stack),) = heard
    assert "environment 'long' (number 7)" in reason and "--env-timeout" in reason
    assert "test_the_watchdog" in stack


def test_a_transfer_names_what_hangs_and_raises_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(broken_envs.__file__).read_text()
    (tmp_path / "broken_envs.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    ids = ["broken_envs:broken/hangs-v0", "broken_envs:broken/raises-v0"]
    words = ["transfer", "--source", VECTOR, "--target", *ids, VECTOR, "--arms", "scratch"]
    words += ["--agent", "ppo", "--backend", "gymnasium", "--n-envs", "4", "--frames", "512"]
    words += ["--env-timeout", "1", "--memory-capacity", "500", "--workers", "2"]
    words += ["--information-points", "1"]
    assert main([*words, "--output", "run"]) == 1
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("error: ")]
    hangs, raises = sorted(lines)
    assert "broken/hangs-v0" in hangs and "--env-timeout" in hangs
    assert "the pole broke" in raises and "worker.log" in raises
    assert "Traceback" not in said.out + said.err
    (log,) = Path("run").glob("targets/scratch/*raises*/seed0/worker.log")
    assert "RuntimeError: the pole broke" in log.read_text() and "in step" in log.read_text()
    (log,) = Path("run").glob("targets/scratch/*hangs*/seed0/worker.log")
    assert "time.sleep(600)" in log.read_text()
    assert f"targets/scratch/{VECTOR}/seed0  score" in said.out
