"""Policies, observations, wrappers and other callbacks that a user's script may have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
)
from torch import Tensor, nn

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    VectorEncoder,
    policy_sha256,
)
from contrastive_distillation.agents.teachers import MovingAverageTeacher
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ON_POLICY: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0}
OFF_POLICY: dict[str, Any] = {
    "learning_starts": 16,
    "batch_size": 16,
    "buffer_size": 200,
    "seed": 0,
}
SMALL: dict[str, Any] = {
    "features_extractor_class": VectorEncoder,
    "features_extractor_kwargs": {"features_dim": 16, "hidden_dims": (16,)},
    "net_arch": [16],
}
PIXELS: dict[str, Any] = {"features_extractor_kwargs": {"features_dim": 16}, "net_arch": [16]}


class Spaces(gym.Env[Any, Any]):
    """Random observations and rewards of any spaces; episodes of 20 steps."""

    def __init__(self, observations: gym.Space[Any], actions: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = observations, actions
        self.n_steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.n_steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.n_steps += 1
        reward = float(self.np_random.normal())
        return self.observation_space.sample(), reward, self.n_steps % 20 == 0, False, {}


def box(*shape: int) -> gym.spaces.Box:
    return gym.spaces.Box(-1.0, 1.0, shape)


def picture(size: int = 36) -> gym.spaces.Box:
    return gym.spaces.Box(0, 255, (size, size, 3), np.uint8)


def spaces(
    observations: gym.Space[Any], actions: gym.Space[Any] | None = None, n_envs: int = 2
) -> VecEnv:
    make = partial(Spaces, observations, actions or gym.spaces.Discrete(3))
    return make_vec_env(make, n_envs=n_envs, seed=0)


def cart_pole(n_envs: int = 2, **how: Any) -> VecEnv:
    return make_vec_env("CartPole-v1", n_envs=n_envs, seed=0, **how)


def join(**settings: Any) -> AuxiliaryLossCallback:
    loss = ContrastiveDistillation(n_negatives=16)
    defaults = {"memory": EpisodicMemory(capacity=200), "weight": 0.3, "n_anchors": 8, "every": 1}
    return AuxiliaryLossCallback(loss, **(defaults | settings))


def ppo(env: VecEnv, **settings: Any) -> BaseAlgorithm:
    return PPO("MlpPolicy", env, **({"policy_kwargs": dict(SMALL)} | ON_POLICY | settings))


# -- policies and observations ------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [PPO, A2C, DQN])
def test_cnn_policy(algorithm: type[BaseAlgorithm], assert_changed: Callable[..., None]) -> None:
    settings = {PPO: ON_POLICY, DQN: OFF_POLICY}.get(algorithm, {"n_steps": 16, "seed": 0})
    env = spaces(picture())
    model = algorithm("CnnPolicy", env, policy_kwargs=PIXELS, **settings)
    joined = join()
    assert_changed(model, joined, 64)
    kept = joined.memory.observations(joined.memory.rows())
    assert isinstance(kept, np.ndarray)
    assert kept.dtype == np.uint8 and kept.shape[1:] == (3, 36, 36)  # as the policy sees them


@pytest.mark.parametrize("algorithm", [PPO, DQN])
@pytest.mark.parametrize("with_picture", [True, False])
def test_multi_input_policy(
    algorithm: type[BaseAlgorithm], with_picture: bool, assert_changed: Callable[..., None]
) -> None:
    parts: dict[str, gym.Space[Any]] = {"speed": box(3), "gear": gym.spaces.Discrete(4)}
    kwargs = dict(SMALL)
    if with_picture:  # the stock extractor has parameters: CombinedExtractor
        parts["view"] = picture()
        kwargs = {"features_extractor_kwargs": {"cnn_output_dim": 16}, "net_arch": [16]}
    settings = ON_POLICY if algorithm is PPO else OFF_POLICY
    env = spaces(gym.spaces.Dict(parts))
    model = algorithm("MultiInputPolicy", env, policy_kwargs=kwargs, **settings)
    assert_changed(model, join(), 64)


def test_multi_input_policy_without_parameters_in_its_extractor() -> None:
    env = spaces(gym.spaces.Dict(speed=box(3), gear=gym.spaces.Discrete(4)))
    model = PPO("MultiInputPolicy", env, **ON_POLICY)
    with pytest.raises(ValueError, match=r'CombinedExtractor.*encoder="mlp_extractor.policy_net"'):
        model.learn(32, callback=join())


@pytest.mark.parametrize(
    "space",
    [gym.spaces.Discrete(5), gym.spaces.MultiDiscrete([3, 4]), gym.spaces.MultiBinary(4)],
    ids=["discrete", "multi-discrete", "multi-binary"],
)
def test_observations_that_are_no_boxes(
    space: gym.Space[Any], assert_changed: Callable[..., None]
) -> None:
    assert_changed(ppo(spaces(space)), join(), 64)


@pytest.mark.parametrize(
    "space",
    [gym.spaces.Discrete(3), gym.spaces.MultiDiscrete([3, 2]), gym.spaces.MultiBinary(3), box(2)],
    ids=["discrete", "multi-discrete", "multi-binary", "continuous"],
)
def test_actions_of_every_kind(space: gym.Space[Any], assert_changed: Callable[..., None]) -> None:
    joined = join(diagnostics_frames=16)
    assert_changed(ppo(spaces(box(4), space)), joined, 64)
    rows = joined.memory.rows()
    assert joined.memory.actions(rows).shape == (len(rows), *(space.shape or ()))


def test_observation_spaces_that_cannot_be_remembered_are_refused() -> None:
    model = ppo(cart_pole())
    model.observation_space = gym.spaces.Tuple([box(2), box(2)])
    with pytest.raises(ValueError, match=r"Tuple.*cannot be remembered.*FlattenObservation"):
        model.learn(32, callback=join())
    model.observation_space = gym.spaces.Dict(a=gym.spaces.Dict(b=box(2)))
    with pytest.raises(ValueError, match=r"not nested"):
        model.learn(32, callback=join())


# -- vectorised environments and wrappers -------------------------------------------------------


@pytest.mark.parametrize("kind", [DummyVecEnv, SubprocVecEnv])
@pytest.mark.parametrize("n_envs", [1, 2])
def test_dummy_and_subproc(
    kind: type[VecEnv], n_envs: int, assert_changed: Callable[..., None]
) -> None:
    env = cart_pole(n_envs, vec_env_cls=kind)  # type: ignore[arg-type]
    joined = join()
    try:
        assert_changed(ppo(env), joined, 32 * n_envs)
    finally:
        env.close()
    assert joined.memory.n_envs == n_envs


@pytest.mark.parametrize("name", ["PPO", "DQN", "SAC"])
def test_vec_normalize(name: str, assert_changed: Callable[..., None]) -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1" if name == "SAC" else "CartPole-v1", n_envs=2))
    kind = {"PPO": PPO, "DQN": DQN, "SAC": SAC}[name]
    settings = ON_POLICY if name == "PPO" else OFF_POLICY
    joined = join()
    assert_changed(kind("MlpPolicy", env, policy_kwargs=dict(SMALL), **settings), joined, 64)
    memory = joined.memory
    kept = memory.observations(memory.rows())
    assert isinstance(kept, np.ndarray)
    if name == "SAC":  # raw: Pendulum's cosine and sine of one angle
        np.testing.assert_allclose(np.square(kept[:, :2]).sum(axis=1), 1.0, rtol=1e-5)
    else:  # raw: CartPole begins within .05 of upright
        assert np.all(np.abs(kept[memory.steps(memory.rows()) == 0]) <= 0.05)
    rewards = memory.rewards(memory.rows())
    assert np.all(rewards == 1.0) if name != "SAC" else np.all(rewards <= 0.0)  # the raw ones


def test_new_statistics_reach_encoder_and_average() -> None:
    model = ppo(VecNormalize(cart_pole()))
    joined = join()
    model.learn(32, callback=joined)
    other = VecNormalize(cart_pole())
    model.set_env(other)
    model.learn(32, callback=joined)
    assert joined.learner is not None
    assert joined.learner.encoder.normalise == other.normalize_obs
    averaged = joined.loss.target_keys.averaged_encoder
    assert averaged.average.normalise == other.normalize_obs


def test_vec_normalize_below_another_wrapper_is_refused() -> None:
    model = ppo(VecFrameStack(VecNormalize(cart_pole()), 3))
    with pytest.raises(ValueError, match=r"make VecNormalize the outermost wrapper"):
        model.learn(32, callback=join())
    model = ppo(VecNormalize(VecFrameStack(cart_pole(), 3)))
    model.learn(32, callback=join())


def test_vec_normalize_below_stable_baselines3s_own_transposition_is_refused() -> None:
    parts = gym.spaces.Dict(view=picture(), speed=box(3))
    kwargs = {"features_extractor_kwargs": {"cnn_output_dim": 16}, "net_arch": [16]}
    inside = VecNormalize(spaces(parts), norm_obs_keys=["speed"])
    model = PPO("MultiInputPolicy", inside, policy_kwargs=kwargs, **ON_POLICY)
    with pytest.raises(ValueError, match=r"VecNormalize\(VecTransposeImage\(env\)\)"):
        model.learn(32, callback=join())
    outside = VecNormalize(VecTransposeImage(spaces(parts)), norm_obs_keys=["speed"])
    joined = join()
    PPO("MultiInputPolicy", outside, policy_kwargs=kwargs, **ON_POLICY).learn(64, callback=joined)
    assert joined.n_updates > 0


@pytest.mark.parametrize("n_stack", [2, 4])
def test_stacked_frames(n_stack: int, assert_changed: Callable[..., None]) -> None:
    joined = join()
    assert_changed(ppo(VecFrameStack(cart_pole(), n_stack)), joined, 64)
    kept = joined.memory.observations(joined.memory.rows())
    assert isinstance(kept, np.ndarray) and kept.shape[1:] == (4 * n_stack,)


def test_stacked_pictures(assert_changed: Callable[..., None]) -> None:
    env = VecFrameStack(spaces(picture()), 2)
    assert_changed(PPO("CnnPolicy", env, policy_kwargs=PIXELS, **ON_POLICY), join(), 64)


def test_n_step_returns_of_dqn(assert_changed: Callable[..., None]) -> None:
    model = DQN("MlpPolicy", cart_pole(), policy_kwargs=dict(SMALL), n_steps=3, **OFF_POLICY)
    joined = join()
    assert_changed(model, joined, 64)
    assert np.all(joined.memory.rewards(joined.memory.rows()) == 1.0)  # one step each


@pytest.mark.parametrize(("n_steps", "last"), [(17, 1), (16, 16)])
def test_a_last_minibatch_of_one(
    n_steps: int, last: int, assert_changed: Callable[..., None]
) -> None:
    model = ppo(cart_pole(n_envs=1), n_steps=n_steps)
    sizes = [len(batch.actions) for batch in _rollout(model).get(16)]
    assert sizes[-1] == last
    assert_changed(model, join(), 3 * n_steps)


def _rollout(model: BaseAlgorithm) -> Any:
    buffer = model.rollout_buffer  # type: ignore[attr-defined]
    buffer.reset()
    buffer.full = True
    return buffer


# -- other callbacks, and learn() again ---------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_evaluation_and_checkpoints_in_the_same_list(
    algorithm: type[BaseAlgorithm], first: bool, tmp_path: Path
) -> None:
    settings = ON_POLICY if algorithm is PPO else OFF_POLICY
    model = algorithm("MlpPolicy", cart_pole(), policy_kwargs=dict(SMALL), **settings)
    joined = join()
    others = [
        EvalCallback(
            cart_pole(1), n_eval_episodes=1, eval_freq=16, best_model_save_path=str(tmp_path),
            verbose=0,
        ),
        CheckpointCallback(save_freq=16, save_path=str(tmp_path)),
    ]  # fmt: skip
    model.learn(96, callback=[joined, *others] if first else [*others, joined])
    assert joined.n_updates > 0
    assert len(joined.memory) == 96
    zips = sorted(tmp_path.glob("*.zip"))
    assert len(zips) == 4  # three checkpoints and the best model
    again = algorithm.load(zips[-1], env=cart_pole(), device="cpu")
    again.learn(32, callback=join())


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("algorithm", [PPO, A2C, DQN])
def test_learn_twice(
    algorithm: type[BaseAlgorithm], reset: bool, assert_changed: Callable[..., None]
) -> None:
    settings = {PPO: ON_POLICY, DQN: OFF_POLICY}.get(algorithm, {"n_steps": 16, "seed": 0})
    model = algorithm("MlpPolicy", cart_pole(), policy_kwargs=dict(SMALL), **settings)
    joined = join()
    model.learn(64, callback=joined, reset_num_timesteps=reset)
    n_updates, n_rows, joined.n_updates = joined.n_updates, len(joined.memory), 0
    assert n_updates > 0
    assert_changed(model, joined, 64, reset_num_timesteps=reset)
    assert n_rows == 64 and len(joined.memory) == 128
    assert model.num_timesteps == (64 if reset else 128)


def test_taken_out_again_the_model_learns_as_stock_does() -> None:
    def weights(again: bool) -> str:
        model = ppo(cart_pole())
        model.learn(64, callback=join())
        if again:
            model.learn(64, callback=join(weight=0.0), reset_num_timesteps=False)
        else:
            model.learn(64, reset_num_timesteps=False)
        return policy_sha256(model)

    assert weights(again=True) == weights(again=False)


def test_two_losses_at_once(assert_changed: Callable[..., None]) -> None:
    first, second = join(), join(weight=0.1)
    model = ppo(cart_pole())
    assert_changed(model, second, 64, also=(first,))
    assert first.n_updates == second.n_updates > 0
    assert not model.policy.optimizer._optimizer_step_pre_hooks


# -- policies with states of their own ----------------------------------------------------------


class WithModes(BaseFeaturesExtractor):
    """Dropout and batch normalisation: layers that behave differently while training."""

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__(space, 16)
        n_inputs = space.shape[0]
        self.layers = nn.Sequential(
            nn.Linear(n_inputs, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5)
        )

    def forward(self, observations: Tensor) -> Tensor:
        return self.layers(observations)  # type: ignore[no-any-return]


def with_modes(**settings: Any) -> BaseAlgorithm:
    kwargs = {"features_extractor_class": WithModes, "net_arch": [16]}
    return ppo(cart_pole(), policy_kwargs=kwargs, **settings)


def test_dropout_and_batch_normalisation(assert_changed: Callable[..., None]) -> None:
    stock = with_modes().learn(64)
    unchanged = with_modes().learn(64, callback=join(weight=0.0, diagnostics_frames=16))
    assert policy_sha256(unchanged) == policy_sha256(stock)
    joined = join()
    assert_changed(with_modes(), joined, 64)
    averages = [m for m in joined.loss.modules() if isinstance(m, MovingAverageTeacher)]
    assert averages
    seen = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    for average in averages:  # one observation has one key, alone and among others
        keys = average(seen)
        assert torch.equal(average(seen), keys)
        torch.testing.assert_close(average(seen[:1]), keys[:1])


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_state_dependent_exploration(
    algorithm: type[BaseAlgorithm], assert_changed: Callable[..., None]
) -> None:
    def make() -> BaseAlgorithm:
        settings = ON_POLICY if algorithm is PPO else OFF_POLICY
        env = make_vec_env("Pendulum-v1", n_envs=1, seed=0)
        kwargs = dict(SMALL)
        return algorithm("MlpPolicy", env, policy_kwargs=kwargs, use_sde=True, **settings)

    stock = make().learn(48)
    unchanged = make().learn(48, callback=join(weight=0.0, diagnostics_frames=16))
    assert policy_sha256(unchanged) == policy_sha256(stock)
    assert_changed(make(), join(diagnostics_frames=16), 48)


class Masked(Spaces):
    """Of three actions the last is never allowed."""

    def action_masks(self) -> np.ndarray:
        return np.array([True, True, False])


def test_masked_actions(assert_changed: Callable[..., None]) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    make = partial(Masked, box(4), gym.spaces.Discrete(3))
    env = make_vec_env(make, n_envs=2, seed=0)
    model = contrib.MaskablePPO("MlpPolicy", env, policy_kwargs=dict(SMALL), **ON_POLICY)
    joined = join()
    assert_changed(model, joined, 64)
    assert set(joined.memory.actions(joined.memory.rows())) == {0, 1}


def test_hindsight_replay(assert_changed: Callable[..., None]) -> None:
    env = make_vec_env(partial(BitFlippingEnv, n_bits=4, continuous=False), n_envs=1, seed=0)
    model = DQN(
        "MultiInputPolicy",
        env,
        policy_kwargs=dict(SMALL),
        replay_buffer_class=HerReplayBuffer,
        **OFF_POLICY,
    )
    assert_changed(model, join(), 64)
