"""What the keys of a moving-average teacher cost, counted in observations encoded."""

from __future__ import annotations

import pytest

from contrastive_distillation.agents import AuxiliaryLossCallback, build_agent
from contrastive_distillation.agents.observation_encoder import ObservationEncoder
from contrastive_distillation.envs import make_vec
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory, n_observations


@pytest.mark.parametrize("negatives", ["uniform", "value_contrast"])
def test_keys_take_a_twentieth_of_the_updates_passes(monkeypatch, negatives):
    """Two rollouts with the defaults of PPO on grids: one snapshot, 8 auxiliary steps."""
    loss = ContrastiveDistillation(negatives=negatives)
    env = make_vec(["MiniGrid-DoorKey-5x5-v0"], 64, 0, "auto")
    joined = AuxiliaryLossCallback(loss, memory=EpisodicMemory(), diagnostics_frames=10**9)
    model = build_agent("ppo", env, seed=0)
    encoded = {"anchors": 0, "keys": 0}
    forward = ObservationEncoder.forward

    def counted(self, observations):
        is_anchors = self is joined.learner.encoder
        encoded["anchors" if is_anchors else "keys"] += n_observations(observations)
        return forward(self, observations)

    monkeypatch.setattr(ObservationEncoder, "forward", counted)
    model.learn(16_384, callback=joined)
    assert encoded["anchors"] == 256 * joined.n_updates == 256 * 8
    in_updates = model.n_epochs * model.num_timesteps
    assert 0 < encoded["keys"] < 0.05 * in_updates
