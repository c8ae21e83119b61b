"""The auxiliary loss joins Stable-Baselines3's own update, and nothing else changes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import Tensor, nn
from torch.nn import functional

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    build_agent,
    default_every,
    policy_sha256,
)
from contrastive_distillation.agents.entropy_anneal import EntropyAnneal
from contrastive_distillation.losses import AuxiliaryLoss, ContrastiveDistillation, Learner
from contrastive_distillation.memory import EpisodicMemory, MemoryBatch


class EncoderSize(AuxiliaryLoss):
    """Mean squared feature of a fixed sample: no heads, so it can be written by hand."""

    name: ClassVar[str] = "encoder_size"

    def build(self, learner: Learner) -> None:
        pass

    def forward(self, learner: Learner, batch: MemoryBatch) -> Mapping[str, Tensor]:
        return {"size": learner.encoder(batch.observations).square().mean()}


def cart_pole(n_envs: int = 2, seed: int = 0) -> VecEnv:
    return make_vec_env("CartPole-v1", n_envs=n_envs, seed=seed)


def ppo(seed: int = 0, **overrides: Any) -> BaseAlgorithm:
    settings = {"n_steps": 32, "batch_size": 32, "n_epochs": 2} | overrides
    return build_agent("ppo", cart_pole(), seed=seed, **settings)


def dqn(seed: int = 0, **overrides: Any) -> BaseAlgorithm:
    settings = {"learning_starts": 32, "train_freq": 8, "gradient_steps": 2, "batch_size": 32}
    return build_agent("dqn", cart_pole(), seed=seed, **(settings | overrides))


def join(loss: AuxiliaryLoss | None = None, **settings: Any) -> AuxiliaryLossCallback:
    loss = loss or ContrastiveDistillation(negatives="uniform", n_negatives=16)
    defaults = {"memory": EpisodicMemory(capacity=500), "n_anchors": 16, "every": 1}
    settings = defaults | settings
    return AuxiliaryLossCallback(loss, **settings)


# -- how often -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "n_anchors", "every"),
    [(ppo, 8, 16), (ppo, 63, 16), (ppo, 64, 8), (ppo, 256, 8), (dqn, 63, 16), (dqn, 256, 16)],
)
def test_updates_that_cost_more_are_made_half_as_often(
    make: Any, n_anchors: int, every: int
) -> None:
    model = make()
    assert default_every(type(model), n_anchors) == every
    callback = join(every=None, n_anchors=n_anchors, weight=0.3)
    assert callback.every is None
    model.learn(64, callback=callback)
    assert callback.steps_per_update == every


def test_agents_with_actor_and_critics_keep_the_default() -> None:
    assert [default_every(kind, 64) for kind in (SAC, TD3)] == [8, 8]
    assert [default_every(kind, 63) for kind in (SAC, TD3)] == [16, 16]


# -- nothing changes where nothing should -----------------------------------------------------


@pytest.mark.parametrize("make", [ppo, dqn])
def test_weight_zero_is_bit_identical_to_stock(make: Any) -> None:
    stock = make().learn(300)
    joined = make().learn(300, callback=join(weight=0.0))
    assert policy_sha256(joined) == policy_sha256(stock)


@pytest.mark.parametrize("make", [ppo, dqn])
def test_a_positive_weight_changes_the_encoder(make: Any) -> None:
    callback = join(weight=0.5)
    stock = make().learn(300)
    joined = make().learn(300, callback=callback)
    assert callback.n_updates > 0
    assert policy_sha256(joined) != policy_sha256(stock)


def test_updates_leave_the_global_generators_alone() -> None:
    """With a balance that adds nothing to the encoder, all else must stay as in stock SB3."""

    class Nothing(ContrastiveDistillation):
        def changed_parameters(self, learner: Any) -> list[nn.Parameter]:
            return []

    stock = dqn().learn(300)
    callback = join(Nothing(negatives="uniform", n_negatives=16), weight=1.0)
    joined = dqn().learn(300, callback=callback)
    assert callback.n_updates > 0
    assert policy_sha256(joined) == policy_sha256(stock)


def test_the_same_seed_gives_the_same_weights() -> None:
    hashes = []
    for _ in range(2):
        model = ppo()
        model.learn(300, callback=join(weight=0.3))
        hashes.append(policy_sha256(model))
    assert hashes[0] == hashes[1]


# -- balance "none" is the plain weighted sum --------------------------------------------------


def frozen_sample(callback: AuxiliaryLossCallback) -> list[MemoryBatch]:
    """Remember the batches that the loss draws, so that a hand-written update can use them."""
    drawn: list[MemoryBatch] = []
    original = callback.loss.sample

    def sample(*args: Any, **kwargs: Any) -> Any:
        batch = original(*args, **kwargs)
        drawn.append(batch)
        return batch

    callback.loss.sample = sample  # type: ignore[method-assign]
    return drawn


class Snapshot(BaseCallback):
    """Copies the policy and its optimiser's state as they are before the update."""

    def _on_rollout_end(self) -> None:
        self.policy = copy.deepcopy(self.model.policy)

    def _on_step(self) -> bool:
        return True


def auxiliary_by_hand(policy: Any, extractor: nn.Module, batch: MemoryBatch) -> Tensor:
    tensors, _ = policy.obs_to_tensor(batch.observations)
    return extractor(tensors.float()).square().mean()


def ppo_loss(policy: Any, data: Any, model: Any) -> Tensor:
    """Schulman et al. 2017, arXiv 1707.06347, equations 7 and 9, as SB3 documents it."""
    advantages = data.advantages
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    values, log_prob, entropy = policy.evaluate_actions(
        data.observations, data.actions.long().flatten()
    )
    ratio = torch.exp(log_prob - data.old_log_prob)
    clipped = torch.clamp(ratio, 1 - 0.2, 1 + 0.2)
    policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
    value_loss = functional.mse_loss(data.returns, values.flatten())
    return policy_loss - model.ent_coef * entropy.mean() + model.vf_coef * value_loss


def test_none_equals_a_hand_written_sum_for_ppo() -> None:
    weight = 0.7
    model = ppo(n_steps=32, batch_size=64, n_epochs=1, max_grad_norm=1e9)
    callback, snapshot = join(EncoderSize(), weight=weight, balance="none"), Snapshot()
    drawn = frozen_sample(callback)
    model.learn(64, callback=[callback, snapshot])
    by_hand = snapshot.policy
    data = next(model.rollout_buffer.get(64))
    loss = ppo_loss(by_hand, data, model)
    loss = loss + weight * auxiliary_by_hand(by_hand, by_hand.features_extractor, drawn[0])
    assert len(drawn) == 1
    by_hand.optimizer.zero_grad()
    loss.backward()
    by_hand.optimizer.step()
    for (name, found), expected in zip(
        model.policy.named_parameters(), by_hand.parameters(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-6, msg=name)


def test_none_equals_a_hand_written_sum_for_dqn() -> None:
    weight = 0.7
    settings = {
        "max_grad_norm": 1e9, "gradient_steps": 1, "train_freq": 16, "learning_starts": 20,
        "learning_rate": 1e-3,
    }  # fmt: skip
    model = dqn(**settings)
    callback, snapshot = join(EncoderSize(), weight=weight, balance="none"), Snapshot()
    drawn = frozen_sample(callback)

    class SameReplay(BaseCallback):
        def _on_rollout_end(self) -> None:
            np.random.seed(5)

        def _on_step(self) -> bool:
            return True

    model.learn(32, callback=[callback, snapshot, SameReplay()])
    assert len(drawn) == 1
    by_hand = snapshot.policy
    np.random.seed(5)
    data = model.replay_buffer.sample(model.batch_size)
    with torch.no_grad():
        best = by_hand.q_net_target(data.next_observations).max(dim=1, keepdim=True).values
        wanted = data.rewards + (1 - data.dones) * model.gamma * best
    q = by_hand.q_net(data.observations).gather(1, data.actions.long())
    loss = functional.smooth_l1_loss(q, wanted)
    loss = loss + weight * auxiliary_by_hand(by_hand, by_hand.q_net.features_extractor, drawn[0])
    by_hand.optimizer.zero_grad()
    loss.backward()
    by_hand.optimizer.step()
    for (name, found), expected in zip(
        model.policy.q_net.named_parameters(), by_hand.q_net.parameters(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-6, msg=name)


# -- the hook's life --------------------------------------------------------------------------


def n_hooks(model: BaseAlgorithm) -> int:
    return len(model.policy.optimizer._optimizer_step_pre_hooks)


def test_hooks_are_gone_after_learn_and_learn_can_be_called_twice() -> None:
    model, callback = ppo(), join()
    model.learn(128, callback=callback)
    assert n_hooks(model) == 0
    n_updates = callback.n_updates
    model.learn(128, callback=callback, reset_num_timesteps=False)
    assert n_hooks(model) == 0
    assert callback.n_updates == 2 * n_updates


class Boom(AuxiliaryLoss):
    """Raises in its second update."""

    name: ClassVar[str] = "boom"
    n_calls = 0

    def build(self, learner: Learner) -> None:
        pass

    def forward(self, learner: Learner, batch: MemoryBatch) -> Mapping[str, Tensor]:
        self.n_calls += 1
        if self.n_calls > 1:
            raise RuntimeError("boom")
        return {"size": learner.encoder(batch.observations).square().mean()}


def test_the_context_manager_removes_hooks_after_an_exception() -> None:
    model = ppo()
    with pytest.raises(RuntimeError, match="boom"), join(Boom()) as callback:
        model.learn(128, callback=callback)
    assert n_hooks(model) == 0


def test_a_loss_that_raises_leaves_no_hook() -> None:
    model = ppo()
    with pytest.raises(RuntimeError, match="boom"):
        model.learn(128, callback=join(Boom()))
    assert n_hooks(model) == 0


@pytest.mark.parametrize("make", [ppo, dqn])
def test_an_environment_that_raises_leaves_no_hook(make: Any) -> None:
    class BreaksLate(BaseCallback):
        """Raises while transitions are collected, as an environment does, after some updates."""

        def _on_step(self) -> bool:
            if callback.n_updates > 2:
                raise RuntimeError("the environment broke")
            return True

    model, callback = make(), join()
    with pytest.raises(RuntimeError, match="the environment broke"):
        model.learn(500, callback=[callback, BreaksLate()])
    assert callback.n_updates > 2
    assert n_hooks(model) == 0


def test_a_hook_left_by_an_exception_removes_itself_in_the_next_learn() -> None:
    class Breaks(BaseCallback):
        """Raises in the model's own update, at its second step."""

        def _on_rollout_end(self) -> None:
            self.n_steps = 0
            self.handle = self.model.policy.optimizer.register_step_post_hook(self._count)

        def _count(self, *_: object) -> None:
            self.n_steps += 1
            if self.n_steps == 2:
                self.handle.remove()
                raise RuntimeError("boom")

        def _on_step(self) -> bool:
            return True

    model, stock = ppo(), ppo()
    callback = join()
    with pytest.raises(RuntimeError, match="boom"):
        model.learn(128, callback=[callback, Breaks()])
    assert n_hooks(model) == 1
    n_updates = callback.n_updates
    model.set_parameters(stock.get_parameters())
    model.learn(128)
    assert n_hooks(model) == 0
    assert callback.n_updates == n_updates


# -- what memory keeps ---------------------------------------------------------------------------


def test_dict_observations_of_vectors() -> None:
    class Both(gym.ObservationWrapper):  # type: ignore[type-arg]
        observation_space = gym.spaces.Dict(
            cart=gym.spaces.Box(-np.inf, np.inf, (4,)), side=gym.spaces.Discrete(2)
        )

        def observation(self, observation: np.ndarray) -> dict[str, Any]:
            return {"cart": observation, "side": int(observation[0] > 0)}

    env = make_vec_env(lambda: Both(gym.make("CartPole-v1")), n_envs=2, seed=0)
    model = build_agent("ppo", env, seed=0, n_steps=16, batch_size=16)
    callback = join(weight=0.3)
    model.learn(64, callback=callback)
    assert callback.n_updates > 0


def test_memory_keeps_what_vec_normalize_had_before() -> None:
    env = VecNormalize(cart_pole(), norm_obs=True, norm_reward=True)
    model = build_agent("ppo", env, seed=0, n_steps=16, batch_size=16)
    callback = join(weight=0.3)
    model.learn(64, callback=callback)
    memory = callback.memory
    rows = memory.rows()
    assert np.all(memory.rewards(rows) == 1.0)
    starts = rows[memory.steps(rows) == 0]
    assert np.all(np.abs(memory.observations(starts)) <= 0.05)  # CartPole's reset range


def test_memory_holds_the_steps_in_order() -> None:
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            actions = np.array(self.locals["actions"])
            seen.append((np.array(self.model._last_obs), actions))  # type: ignore[arg-type]
            return True

    model, callback = ppo(), join(weight=0.0)
    model.learn(128, callback=[callback, Watch()])
    memory = callback.memory
    rows = memory.rows()
    np.testing.assert_array_equal(memory.observations(rows), np.concatenate([o for o, _ in seen]))
    np.testing.assert_array_equal(memory.actions(rows), np.concatenate([a for _, a in seen]))


# -- metrics, files, bad arguments --------------------------------------------------------------


def test_metrics_are_in_the_models_logger() -> None:
    logged: set[str] = set()

    class Names(BaseCallback):
        def _on_rollout_start(self) -> None:
            logged.update(self.logger.name_to_value)

        _on_rollout_end = _on_rollout_start

        def _on_step(self) -> bool:
            return True

    model = ppo()
    model.learn(1_152, callback=[join(diagnostics_frames=64), Names()])
    promised = {
        "aux/loss", "aux/accuracy", "aux/gradient_ratio", "aux/gradient_cosine", "aux/entropy",
        "aux/effective_rank", "memory/size", "memory/known_returns", "memory/masked_fraction",
        "memory/key_drift",
    }  # fmt: skip
    assert promised <= logged


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_a_memory_is_counted_once_in_1024_frames(
    weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback, counted = join(weight=weight), []
    whole = EpisodicMemory.known_fraction

    def known_fraction(memory: EpisodicMemory) -> float:
        counted.append(model.num_timesteps)
        return whole(memory)

    monkeypatch.setattr(EpisodicMemory, "known_fraction", known_fraction)
    model = dqn(train_freq=5)
    model.learn(2_100, callback=callback)
    n_envs = model.n_envs
    assert counted == [-(-frames // (5 * n_envs)) * 5 * n_envs for frames in (1024, 2048)]


def test_the_norm_of_the_added_gradient_is_the_weight() -> None:
    ratios: list[float] = []

    class Ratio(BaseCallback):
        def _on_rollout_start(self) -> None:
            ratios.append(self.logger.name_to_value.get("aux/gradient_ratio", np.nan))

        def _on_step(self) -> bool:
            return True

    model = ppo(n_steps=64, batch_size=128, n_epochs=1)
    model.learn(512, callback=[join(weight=0.3), Ratio()])
    measured = [ratio for ratio in ratios if np.isfinite(ratio)]
    assert measured
    np.testing.assert_allclose(measured, 0.3, rtol=1e-3)


def test_a_loss_that_is_not_a_number_stops_at_once() -> None:
    class NotANumber(EncoderSize):
        def forward(self, learner: Learner, batch: MemoryBatch) -> Mapping[str, Tensor]:
            return {"size": learner.encoder(batch.observations).sum() * float("nan")}

    with pytest.raises(FloatingPointError, match="auxiliary loss term 'size' is nan"):
        ppo().learn(64, callback=join(NotANumber()))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"weight": -0.1}, "weight is -0.1"),
        ({"balance": "fair"}, "balance is 'fair', expected one of norm, project, none"),
        ({"every": 0}, "every is 0"),
        ({"n_anchors": 0}, "n_anchors is 0"),
        ({"diagnostics_frames": 0}, "diagnostics_frames is 0"),
    ],
)
def test_bad_arguments(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        join(**settings)


# -- the entropy bonus ---------------------------------------------------------------------------


def test_the_entropy_coefficient_falls_and_is_given_back() -> None:
    seen: list[float] = []

    class Watch(BaseCallback):
        def _on_rollout_start(self) -> None:
            seen.append(self.model.ent_coef)  # type: ignore[attr-defined]

        def _on_step(self) -> bool:
            return True

    model = ppo(ent_coef=0.5)
    model.learn(256, callback=[EntropyAnneal(0.2), Watch()])
    # four rollouts of 64 frames; SB3 counts progress after a rollout, so one rollout late
    np.testing.assert_allclose(seen, [0.5, 0.5, 0.4, 0.3])
    assert model.ent_coef == 0.5  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="needs PPO, got ExactDQN"):
        dqn().learn(8, callback=EntropyAnneal())
    with pytest.raises(ValueError, match="share is 2"):
        EntropyAnneal(2)
