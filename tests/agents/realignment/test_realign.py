"""`realign`: what it changes, what it leaves alone, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from contrastive_distillation.agents import gather_memory, realign
from contrastive_distillation.agents.encoder_lookup import encoder_names, read_encoder
from contrastive_distillation.agents.realignment import detection, job, search
from contrastive_distillation.agents.realignment.students import MovedLayers
from contrastive_distillation.memory import EpisodicMemory

from .conftest import ENCODER, Build
from .small_envs import Drift, drifts, linear, same_weights, weights_of

SENSOR = linear(3)[0]
QUICK: dict[str, Any] = {"frames": 400, "restarts": 2, "updates": 6}


@pytest.fixture
def memory(build: Build) -> EpisodicMemory:
    """What a source saw under random actions."""
    return gather_memory(build(drifts()), frames=400)


@pytest.mark.parametrize("kind", [PPO, RecurrentPPO, DQN, SAC])
def test_frames_are_counted_and_learning_goes_on(kind: type[BaseAlgorithm], build: Build) -> None:
    continuous = kind is SAC
    kwargs = ENCODER | ({"lstm_hidden_size": 16} if kind is RecurrentPPO else {})
    n_envs = 1 if kind in (DQN, SAC) else 4
    source = build(drifts(n_envs, continuous=continuous), kind, kwargs=kwargs)
    seen = gather_memory(source, frames=400)
    env = drifts(n_envs, continuous=continuous, sensor=SENSOR, reward=float("nan"))
    model = build(env, kind, seed=1, kwargs=kwargs)
    report = realign(model, source=source, source_memory=seen, force=True, **QUICK)
    assert report.frames == model.num_timesteps == 400
    assert report.moved
    assert report.behaviour == "random"
    assert {f.number for f in report.restarts} <= {0, 1}
    head, theirs = weights_of(model), weights_of(source)
    kept = [name for name in head if "features_extractor" not in name]
    assert kept
    assert all(torch.equal(head[n], theirs[n]) for n in kept if "_target" not in n)
    if kind in (DQN, SAC):
        assert model.replay_buffer.size() == 0  # type: ignore[attr-defined]
    model.set_env(drifts(n_envs, continuous=continuous, sensor=SENSOR))
    model.learn(64, reset_num_timesteps=False)
    assert model.num_timesteps == 464


def test_rewards_are_neither_used_nor_kept(build: Build, memory: EpisodicMemory) -> None:
    assert not memory.rewards(memory.rows()).any()
    found = []
    for reward in (0.0, 100.0):
        model = build(drifts(sensor=SENSOR, reward=reward), seed=1)
        realign(model, source=build(drifts()), source_memory=memory, force=True, **QUICK)
        found.append(weights_of(model))
    assert same_weights(*found)


@pytest.mark.parametrize("epsilon", [1.0, 0.3])
def test_one_seed_gives_the_same_weights_bit_for_bit(
    epsilon: float, build: Build, memory: EpisodicMemory
) -> None:
    found = []
    for seed in (5, 5, 6):
        model = build(drifts(sensor=SENSOR), seed=1)
        torch.manual_seed(len(found))
        np.random.seed(len(found))
        before = torch.get_rng_state()
        settings = QUICK | {"epsilon": epsilon, "seed": seed, "select": "return", "force": True}
        realign(model, source=build(drifts()), source_memory=memory, **settings)
        torch.manual_seed(len(found))
        assert torch.equal(torch.get_rng_state(), before)
        found.append(weights_of(model))
    assert same_weights(found[0], found[1])
    assert not same_weights(found[0], found[2])


def test_the_global_generators_are_not_drawn_from(build: Build, memory: EpisodicMemory) -> None:
    source, model = build(drifts()), build(drifts(sensor=SENSOR), seed=1)
    torches, numpys = torch.get_rng_state(), np.random.get_state()
    settings = QUICK | {"epsilon": 0.5, "select": "return", "force": True}
    realign(model, source=source, source_memory=memory, **settings)
    assert torch.equal(torch.get_rng_state(), torches)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpys, strict=True))


def test_without_a_change_only_the_weights_are_carried(
    build: Build, memory: EpisodicMemory
) -> None:
    source, model = build(drifts()), build(drifts(), seed=1)
    report = realign(model, source=source, source_memory=memory, **QUICK)
    assert report.sensors_changed is False
    assert report.aligned is True
    assert report.restarts == []
    assert same_weights(weights_of(model), weights_of(source))
    forced = realign(model, source=source, source_memory=memory, force=True, **QUICK)
    assert forced.restarts
    assert not same_weights(weights_of(model), weights_of(source))
    assert model.num_timesteps == 800


@pytest.mark.parametrize(("still_read", "changed"), [(4.9, True), (1.5, False)])
def test_another_room_leaves_the_encoder_alone_and_other_sensors_do_not(
    still_read: float,
    changed: bool,
    build: Build,
    memory: EpisodicMemory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = iter([(1.0, 5.0), (1.0, 2.0), (1.0, still_read)])

    def scripted(*_: Any, **__: Any) -> detection.Detection:
        of_source, of_target = next(losses)
        low = of_target - of_source - 0.1
        return detection.Detection(of_source, of_target, low, low + 0.2, 64)

    monkeypatch.setattr(job, "detect", scripted)
    source, model = build(drifts()), build(drifts(sensor=SENSOR), seed=1)
    report = realign(model, source=source, source_memory=memory, **QUICK)
    assert next(losses, None) is None, "all three comparisons were made"
    assert report.sensors_changed is changed
    assert report.aligned is False
    assert report.loss_after == 2.0
    assert bool(report.moved) is changed
    assert report.restarts
    assert same_weights(weights_of(model), weights_of(source)) is not changed
    assert ("left as it was" in str(report)) is not changed


@pytest.mark.parametrize("asked", ["force", "keep"])
def test_the_encoder_is_not_tried_on_the_sources_observations_if_all_is_kept(
    asked: str, build: Build, memory: EpisodicMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "reads_other_sensors", lambda *_: pytest.fail("tried"))
    source, model = build(drifts()), build(drifts(sensor=SENSOR), seed=1)
    kept: Any = {asked: True}
    assert realign(model, source=source, source_memory=memory, **kept, **QUICK).moved


def test_dqn_fills_its_buffer_before_it_learns(build: Build, memory: EpisodicMemory) -> None:
    source = build(drifts(), DQN, learning_starts=100)
    model = build(drifts(sensor=SENSOR), DQN, seed=1, learning_starts=100)
    report = realign(model, source=source, source_memory=memory, **QUICK)
    assert isinstance(model, DQN)
    model.learn(90, reset_num_timesteps=False)
    assert model._n_updates == 0
    assert model.num_timesteps >= report.frames + 90
    model.learn(40, reset_num_timesteps=False)
    assert model._n_updates > 0


def test_restarts_shuffle_only_what_reads_the_observation(build: Build) -> None:
    encoder = read_encoder(build(drifts()), encoder_names(build(drifts()))[0])[0]
    example = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    student = MovedLayers(encoder, layers="encoder", example=example)
    starts = student.restarts(3, np.random.default_rng(0))
    linear = [name for name, values in starts.items() if values.dim() == 3]
    assert len(linear) > 1
    reading, *deeper = linear
    assert not torch.equal(starts[reading][0], starts[reading][1])
    assert all(torch.equal(starts[name][0], starts[name][1]) for name in deeper)


def test_where_sensors_agree_vec_normalize_shows_what_it_showed_the_source(build: Build) -> None:
    source = build(normalised())
    source.learn(400)
    model = build(normalised(), seed=1)
    report = realign(model, source=source, **QUICK)
    assert report.sensors_changed is False
    raw = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    mine, theirs = model.get_vec_normalize_env(), source.get_vec_normalize_env()
    assert mine is not None
    assert theirs is not None
    assert np.array_equal(mine.normalize_obs(raw), theirs.normalize_obs(raw))
    assert mine.obs_rms is not theirs.obs_rms


def test_few_episodes_are_enough(build: Build) -> None:
    source = build(drifts(1))
    memory = gather_memory(source, frames=120)
    model = build(drifts(1, sensor=SENSOR), seed=1)
    report = realign(model, source=source, source_memory=memory, **{**QUICK, "frames": 120})
    assert report.restarts


def test_an_environment_is_needed_to_choose_by_return(build: Build, memory: EpisodicMemory) -> None:
    source, model = build(drifts()), build(drifts(sensor=SENSOR), seed=1)
    data = gather_memory(model, frames=200)
    model.env = None
    with pytest.raises(ValueError, match="select='return' plays episodes"):
        realign(model, source=source, source_memory=memory, data=data, select="return", **QUICK)
    with pytest.raises(ValueError, match="rounds is 2, but data is gathered already"):
        realign(model, source=source, source_memory=memory, data=data, rounds=2, **QUICK)


def test_an_encoder_that_forgot_the_sources_sensors_reads_others() -> None:
    def rise(before: float, after: float) -> detection.Detection:
        return detection.Detection(before, after, 0.0, 0.0, 64)

    assert detection.reads_other_sensors(rise(1.0, 3.0), rise(1.5, 3.2))
    assert not detection.reads_other_sensors(rise(1.0, 3.0), rise(1.5, 3.19))


def test_a_source_in_a_zip(build: Build, memory: EpisodicMemory, tmp_path: Path) -> None:
    source = build(drifts())
    source.save(tmp_path / "source.zip")
    found = []
    for given in (source, tmp_path / "source.zip", str(tmp_path / "source")):
        model = build(drifts(sensor=SENSOR), seed=1)
        realign(model, source=given, source_memory=memory, force=True, **QUICK)
        found.append(weights_of(model))
    assert same_weights(found[0], found[1])
    assert same_weights(found[0], found[2])


def test_a_zip_does_not_hold_the_statistics_of_vec_normalize(
    build: Build, memory: EpisodicMemory, tmp_path: Path
) -> None:
    build(drifts()).save(tmp_path / "source.zip")
    model = build(VecNormalize(drifts(sensor=SENSOR)), seed=1)
    with pytest.raises(ValueError, match="VecNormalize"):
        realign(model, source=tmp_path / "source.zip", source_memory=memory, **QUICK)


@pytest.mark.parametrize("wrapped", ["stack", "dict", "dict stack", "six numbers"])
def test_other_shapes_of_vectors(wrapped: str, build: Build) -> None:
    def env(**settings: Any) -> Any:
        made = drifts(as_dict="dict" in wrapped, **settings)
        return VecFrameStack(made, 3) if "stack" in wrapped else made

    source = build(env())
    sensor = linear(3, 6)[0] if wrapped == "six numbers" else SENSOR
    model = build(env(sensor=sensor), seed=1)
    seen = gather_memory(source, frames=400)
    report = realign(model, source=source, source_memory=seen, force=True, **QUICK)
    assert report.moved
    assert not same_weights(weights_of(model), weights_of(source))


def normalised(**settings: Any) -> VecNormalize:
    return VecNormalize(drifts(**settings), clip_obs=100.0)


def test_vec_normalize_on_both_sides(build: Build) -> None:
    source_env, env = normalised(), normalised(sensor=SENSOR)
    source, model = build(source_env), build(env, seed=1)
    source.learn(128)
    statistics = source_env.obs_rms.mean.copy()
    seen = gather_memory(source, frames=400)
    assert source_env.training
    assert np.array_equal(source_env.obs_rms.mean, statistics)
    report = realign(model, source=source, source_memory=seen, force=True, **QUICK)
    assert report.frames == 400
    assert env.training is False
    assert env.obs_rms.count > 400
    assert env.ret_rms.count < 1
    frozen = env.obs_rms.mean.copy()
    model.learn(32, reset_num_timesteps=False)
    assert np.array_equal(env.obs_rms.mean, frozen)


class Interrupted(Drift):
    """Raises in one of all steps of all its instances."""

    n_played = 0
    raises_at = 0
    error: type[BaseException] = KeyboardInterrupt

    def step(self, action: Any) -> Any:
        type(self).n_played += 1
        if self.n_played == self.raises_at:
            raise self.error("stopped")
        return super().step(action)


@pytest.mark.parametrize("raises_at", [100, 420])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_the_model_as_it_was(
    raises_at: int,
    error: type[BaseException],
    build: Build,
    memory: EpisodicMemory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Interrupted, "n_played", 0)
    monkeypatch.setattr(Interrupted, "raises_at", raises_at)
    monkeypatch.setattr(Interrupted, "error", error)
    env = VecNormalize(DummyVecEnv([lambda: Interrupted(sensor=SENSOR)] * 4))
    model = build(env, seed=1)
    source = build(VecNormalize(drifts()))
    before, counts = weights_of(model), (env.obs_rms.count, env.ret_rms.count)
    with pytest.raises(error, match="stopped"):
        settings = QUICK | {"select": "return", "force": True}
        realign(model, source=source, source_memory=memory, **settings)
    assert Interrupted.n_played == raises_at
    assert same_weights(weights_of(model), before)
    assert model.num_timesteps == 0
    assert env.training is True
    assert (env.obs_rms.count, env.ret_rms.count) == counts


def test_nan_stops_it_and_leaves_the_model_as_it_was(
    build: Build, memory: EpisodicMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    terms = search.realignment_terms

    def broken(*given: Any, **named: Any) -> dict[str, torch.Tensor]:
        calls.append(1)
        scale = float("nan") if len(calls) == 4 else 1.0
        return {name: scale * value for name, value in terms(*given, **named).items()}

    monkeypatch.setattr(search, "realignment_terms", broken)
    model = build(drifts(sensor=SENSOR), seed=1)
    before = weights_of(model)
    with pytest.raises(FloatingPointError, match="not finite"):
        realign(model, source=build(drifts()), source_memory=memory, force=True, **QUICK)
    assert len(calls) == 4
    assert same_weights(weights_of(model), before)
    assert model.num_timesteps == 0


def test_masks_of_actions_are_respected(build: Build) -> None:
    for kind, epsilon in ((MaskablePPO, 1.0), (MaskablePPO, 0.5), (PPO, 1.0)):
        seen = gather_memory(build(drifts(), kind), frames=200, epsilon=epsilon)
        assert set(seen.actions(seen.rows()).tolist()) == {0, 2}


def test_a_model_that_takes_no_masks_may_gather_where_there_are_some(build: Build) -> None:
    seen = gather_memory(build(drifts(), PPO), frames=200, epsilon=0.5)
    assert len(seen) == 200


def test_data_gathered_elsewhere_costs_no_frame(build: Build, memory: EpisodicMemory) -> None:
    model = build(drifts(sensor=SENSOR), seed=1)
    data = gather_memory(model, frames=400)
    settings = QUICK | {"frames": 0, "data": data}
    report = realign(model, source=build(drifts()), source_memory=memory, force=True, **settings)
    assert report.frames == model.num_timesteps == 0
    assert report.restarts


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"frames": 0}, "nothing would be gathered"),
        ({"frames": -5}, "nothing would be gathered"),
        ({"restarts": 0}, "restarts is 0"),
        ({"updates": 0}, "updates is 0"),
        ({"rounds": 0}, "rounds is 0"),
        ({"frames": 4, "rounds": 5}, "nothing would be gathered"),
        ({"epsilon": 1.5}, "epsilon is 1.5"),
        ({"statistics_weight": -1.0}, "statistics_weight is -1.0"),
        ({"statistics_weight": float("nan")}, "statistics_weight is nan"),
        ({"objective": "contrast_statistic"}, "contrast_statistics"),
        ({"negatives": "far"}, "in_batch"),
        ({"n_negatives": 0}, "n_negatives is 0"),
        ({"select": "luck"}, "'loss'|loss, return"),
        ({"layers": ["layers.9"]}, "no layer 'layers.9'"),
        ({"encoder": "criticc"}, "criticc"),
    ],
)
def test_bad_settings_are_refused_before_a_frame_is_played(
    settings: dict[str, Any], text: str, build: Build, memory: EpisodicMemory
) -> None:
    env = DummyVecEnv([lambda: Interrupted(sensor=SENSOR)] * 4)
    model = build(env, seed=1)
    before, played = weights_of(model), Interrupted.n_played
    with pytest.raises(ValueError, match=text):
        realign(model, source=build(drifts()), source_memory=memory, **(QUICK | settings))
    assert Interrupted.n_played == played
    assert same_weights(weights_of(model), before)


def test_a_source_without_steps_is_refused(build: Build) -> None:
    model, source = build(drifts(sensor=SENSOR), seed=1), build(drifts())
    source.env = None
    with pytest.raises(ValueError, match=r"source_memory=.*gather_memory"):
        realign(model, source=source, **QUICK)
    with pytest.raises(ValueError, match=r"source_memory=.*gather_memory"):
        realign(model, source=source, source_memory=EpisodicMemory(capacity=10), **QUICK)


def test_a_memory_without_consecutive_rows_is_refused(build: Build) -> None:
    model, source = build(drifts(sensor=SENSOR), seed=1), build(drifts())
    source.env = None
    lonely = EpisodicMemory(capacity=1_000)
    lonely.start(n_envs=1, gamma=1.0, tasks=("",))
    generator = np.random.default_rng(0)
    for time in range(200):
        lonely.add(
            observations=generator.normal(size=(1, 4)).astype(np.float32),
            actions=generator.integers(3, size=1),
            rewards=np.zeros(1, dtype=np.float32),
            terminated=np.ones(1, dtype=np.bool_),
            truncated=np.zeros(1, dtype=np.bool_),
            tasks=np.zeros(1, dtype=np.int64),
            time=time + 1,
        )
    before = weights_of(model)
    with pytest.raises(ValueError, match=r"windows of 5 consecutive steps.*gather_memory"):
        realign(model, source=source, source_memory=lonely, **QUICK)
    assert same_weights(weights_of(model), before)


def test_other_actions_are_refused_with_both(build: Build, memory: EpisodicMemory) -> None:
    model = build(drifts(continuous=True), seed=1)
    with pytest.raises(ValueError, match=r"Box.*Discrete\(3\)"):
        realign(model, source=build(drifts()), source_memory=memory, **QUICK)


def test_a_zip_of_other_actions_is_refused(
    build: Build, memory: EpisodicMemory, tmp_path: Path
) -> None:
    build(drifts()).save(tmp_path / "source.zip")
    model = build(drifts(continuous=True), seed=1)
    before = weights_of(model)
    with pytest.raises(ValueError, match=r"'log_std' is \(2,\).*has nothing|'action_net"):
        realign(model, source=tmp_path / "source.zip", source_memory=memory, **QUICK)
    assert same_weights(weights_of(model), before)


def test_another_width_of_features_is_refused_with_both(
    build: Build, memory: EpisodicMemory
) -> None:
    wide = ENCODER | {"features_extractor_kwargs": {"features_dim": 24}}
    with pytest.raises(ValueError, match="24 features, the source's has 16"):
        model = build(drifts(sensor=SENSOR), seed=1, kwargs=wide)
        realign(model, source=build(drifts()), source_memory=memory, **QUICK)


def test_other_hidden_layers_are_refused(build: Build, memory: EpisodicMemory) -> None:
    other = ENCODER | {"features_extractor_kwargs": {"features_dim": 16, "hidden_dims": (8,)}}
    model = build(drifts(sensor=SENSOR), seed=1, kwargs=other)
    with pytest.raises(ValueError, match=r"is \(8,\).*source has \(16,\)|is \(16, 8\)"):
        realign(model, source=build(drifts()), source_memory=memory, **QUICK)


def test_a_model_without_an_environment_is_refused(build: Build, memory: EpisodicMemory) -> None:
    model = build(drifts(sensor=SENSOR), seed=1)
    model.env = None
    with pytest.raises(ValueError, match="set_env"):
        realign(model, source=build(drifts()), source_memory=memory, **QUICK)


def test_data_of_other_observations_is_refused(build: Build, memory: EpisodicMemory) -> None:
    model = build(drifts(sensor=linear(3, 6)[0]), seed=1)
    with pytest.raises(ValueError, match=r"\(4,\).*\(6,\)"):
        realign(model, source=build(drifts()), source_memory=memory, data=memory, updates=6)
    with pytest.raises(ValueError, match="without a step"):
        empty = EpisodicMemory(capacity=10)
        realign(model, source=build(drifts()), source_memory=memory, data=empty, updates=6)
