"""What is measured of an agent's features, on what it remembers."""

import numpy as np
import pytest

from contrastive_distillation.agents import FrozenTeacher, RecordMemory, build_agent, find_encoder
from contrastive_distillation.envs import make_vec
from contrastive_distillation.memory import EpisodicMemory
from contrastive_distillation.transfer.evaluation import information
from contrastive_distillation.transfer.evaluation.information import measure_information


def test_each_distinct_observation_once_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_vec(["MiniGrid-Empty-Random-5x5-v0", "MiniGrid-DoorKey-5x5-v0"], 8, seed=0)
    memory = EpisodicMemory(capacity=20_000)
    model = build_agent("ppo", env, seed=0, n_steps=1024, n_epochs=1)
    model.learn(16_384, callback=RecordMemory(memory))
    encoder, _ = find_encoder(model)
    source = FrozenTeacher.from_model(build_agent("ppo", env, seed=1))
    monkeypatch.setattr(information, "_N_UPDATES", 40)
    once = measure_information(memory, encoder, source, seed=0)
    monkeypatch.setattr(
        information,
        "_distinct",
        lambda memory, rows: (memory.observations(rows), np.arange(len(rows))),
    )
    expected = measure_information(memory, encoder, source, seed=0)
    assert once.keys() == expected.keys() == set(env.env_ids)
    for env_id, bounds in expected.items():
        assert bounds["source"] > 0.3
        for name, nats in bounds.items():
            assert once[env_id][name] == pytest.approx(nats, abs=2e-3), (env_id, name)
    env.close()
