"""Laws of one training."""

import json
from pathlib import Path

import pytest

from contrastive_distillation.memory import EpisodicMemory
from contrastive_distillation.transfer import (
    TrainSettings,
    TransferSettings,
    plan_train,
    plan_transfer,
    run_training,
)
from contrastive_distillation.transfer.evaluation import information
from contrastive_distillation.transfer.evaluation import schedule as protocol
from contrastive_distillation.transfer.evaluation.curves import (
    CurvePoint,
    InformationPoint,
    read_points,
)
from contrastive_distillation.transfer.run_directory.directory import read_config
from contrastive_distillation.transfer.training.train import Status

EMPTY = "MiniGrid-Empty-Random-5x5-v0"


def train(
    directory: Path, agent: str, env_id: str, loss: str = "none", *, information_points: int = 1
) -> tuple[Status, str]:
    settings = TrainSettings(
        env=(env_id,),
        agent=agent,
        loss=loss,
        frames=1500,
        n_envs=8,
        backend="gymnasium",
        memory_capacity=2000,
        information_points=information_points,
        output=str(directory),
    )
    (spec,) = plan_train(settings).specs
    status = run_training(
        spec,
        directory,
        command=(),
        report=lambda _: None,
        stop=lambda: False,
    )
    return status, json.loads((directory / "result.json").read_text())["weights_sha256"]


@pytest.mark.parametrize(("agent", "env_id"), [("ppo", EMPTY), ("dqn", "CartPole-v1")])
def test_being_judged_changes_nothing(
    agent: str, env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, often = train(tmp_path / "often", agent, env_id, "contrastive_distillation")
    for name in ("FEWEST_INTERVALS", "MOST_INTERVALS"):
        monkeypatch.setattr(protocol, name, 1)
    _, seldom = train(tmp_path / "seldom", agent, env_id, "contrastive_distillation")
    assert often == seldom


@pytest.mark.parametrize(("agent", "env_id"), [("ppo", EMPTY), ("dqn", "CartPole-v1")])
def test_measuring_information_changes_nothing(
    agent: str, env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(information, "_N_ROWS", 512)
    loss = "contrastive_distillation"
    _, once = train(tmp_path / "once", agent, env_id, loss, information_points=1)
    _, often = train(tmp_path / "often", agent, env_id, loss, information_points=4)
    assert often == once
    few, many = (
        read_points(tmp_path / name / "information.csv", InformationPoint)
        for name in ("once", "often")
    )
    assert len(few) == 1
    assert few[0] == many[-1], "the last is of the finished agent, whatever came before"
    rollout = {"ppo": 1024, "dqn": 256}[agent]  # frames
    due = {-(-frames // rollout) * rollout for frames in (375, 750, 1125)}
    expected = {min(frames, few[0].frames) for frames in due} | {few[0].frames}
    assert [point.frames for point in many] == sorted(expected)


def test_a_plain_training_is_stable_baselines_own(tmp_path: Path) -> None:
    """Memory, logger and checkpoints leave PPO bit-identical."""
    from contrastive_distillation.agents import build_agent, default_callbacks, policy_sha256
    from contrastive_distillation.envs import episode_seed, make_vec

    _, ours = train(tmp_path, "ppo", EMPTY)
    env = make_vec([EMPTY], 8, episode_seed(0, "train", 0), "gymnasium", mission=False)
    model = build_agent("ppo", env, seed=0)
    env.seed(episode_seed(0, "train", 0))
    model.learn(1504, callback=default_callbacks(model))  # of 8 environments
    assert policy_sha256(model) == ours


def test_tensorboard_shows_what_the_tables_hold(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path, "ppo", EMPTY, "contrastive_distillation", information_points=2)
    events = EventAccumulator(str(tmp_path)).Reload()

    def scalars(tag: str) -> dict[int, float]:
        return {event.step: event.value for event in events.Scalars(tag)}

    scores = {p.frames: p.score for p in read_points(tmp_path / "curves.csv", CurvePoint)}
    assert len(scores) > 1
    assert scalars(f"evaluation/{EMPTY}/score") == pytest.approx(scores, abs=1e-4)
    points = read_points(tmp_path / "information.csv", InformationPoint)
    nats = {p.frames: p.nats for p in points if p.quantity == "future"}
    assert scalars(f"information/{EMPTY}/future") == pytest.approx(nats, abs=1e-4)
    result = json.loads((tmp_path / "result.json").read_text())
    (final,) = scalars(f"final/{EMPTY}/score").values()
    assert final == pytest.approx(result["final"][EMPTY]["score"], abs=1e-4)
    logged = (tmp_path / "progress.csv").read_text().splitlines()[0].split(",")
    assert {"aux/loss", "memory/size", "rollout/ep_rew_mean"} <= set(logged)
    unseen = set(logged) - set(events.Tags()["scalars"])  # Stable-Baselines3's own counters
    assert not [name for name in unseen if not name.startswith(("time/", "train/n_updates"))]


def test_a_plain_stable_baselines_zip(tmp_path: Path) -> None:
    from stable_baselines3 import PPO

    from contrastive_distillation.agents import policy_sha256

    _, sha = train(tmp_path, "ppo", EMPTY, "contrastive_distillation")
    model = PPO.load(tmp_path / "checkpoints/final.zip")
    assert policy_sha256(model) == sha


def test_a_training_that_is_told_to_stop_saves_and_says_so(tmp_path: Path) -> None:
    (spec,) = plan_train(TrainSettings(suite="smoke", n_envs=8, output=str(tmp_path))).specs
    status = run_training(spec, tmp_path, command=(), report=lambda _: None, stop=lambda: True)
    assert status == "interrupted"
    assert (tmp_path / "checkpoints/interrupted.zip").is_file()
    assert (tmp_path / "memory.safetensors").is_file()
    assert not (tmp_path / "result.json").exists()


def test_a_memory_keeps_what_the_settings_say(tmp_path: Path) -> None:
    settings = TrainSettings(suite="smoke", n_envs=8, keep="per_task", output=str(tmp_path))
    (spec,) = plan_train(settings).specs
    run_training(spec, tmp_path, command=(), report=lambda _: None, stop=lambda: True)
    assert read_config(tmp_path)["keep"] == "per_task"
    assert EpisodicMemory.load(tmp_path / "memory.safetensors").keep.name == "per_task"


def test_information_is_measured_the_same_way_without_a_loss(tmp_path: Path) -> None:
    for loss in ("none", "contrastive_distillation"):
        train(tmp_path / loss, "ppo", EMPTY, loss)
        result = json.loads((tmp_path / loss / "result.json").read_text())
        (bounds,) = result["information"].values()
        assert bounds.keys() == {"future", "cap"}  # no source, so nothing is shared with one
        assert bounds["future"] <= bounds["cap"]


def test_equal_compute_learns_more_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as the loss would have encoded observations: on a target half as many again."""
    from stable_baselines3 import PPO

    monkeypatch.setattr(information, "_N_UPDATES", 1)
    settings = TransferSettings(
        source=(EMPTY,), target=(EMPTY,), arms=("equal_compute", "fine_tune"), every=1,
        n_envs=8, frames=2_500, source_frames=2_500, memory_capacity=2000, output=str(tmp_path),
    )  # fmt: skip
    updates: dict[str, int] = {}
    for spec in plan_transfer(settings).specs:
        directory = tmp_path / spec.name
        run_training(spec, directory, command=(), report=lambda _: None, stop=lambda: False)
        model = PPO.load(directory / "checkpoints/final.zip")
        updates["/".join(spec.name.split("/")[:2])] = model._n_updates
        assert (model.n_epochs, model.n_steps, model.batch_size) == (4, 128, 256)
    plain, n_anchors = 3 * 4, 64  # three rollouts of four epochs of four minibatches
    assert updates == {
        "sources/plain-seed0": plain,
        "targets/fine_tune": plain,
        "sources/equal_compute-seed0": plain + 48 * n_anchors // 1024,
        "targets/equal_compute": plain + 48 * (n_anchors + 32) // 1024,
    }


def test_frames_of_the_source_are_trained_before_those_that_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(information, "_N_UPDATES", 1)
    settings = TransferSettings(
        source=(EMPTY,), target=(EMPTY,), arms=("scratch_source_budget", "scratch"),
        n_envs=8, frames=1_024, source_frames=3_072, memory_capacity=2000, output=str(tmp_path),
    )  # fmt: skip
    results = {}
    for spec in plan_transfer(settings).specs:
        run_training(spec, tmp_path / spec.name, command=(), report=lambda _: None, stop=bool)
        results[spec.name.split("/")[1]] = json.loads(
            (tmp_path / spec.name / "result.json").read_text()
        )
    assert results["plain-seed0"]["frames"] == 3_072
    assert results["scratch_source_budget"]["frames"] == 3_072 + 1_024
    assert results["scratch_source_budget"]["counted_from"] == 3_072
    assert "counted_from" not in results["scratch"]
