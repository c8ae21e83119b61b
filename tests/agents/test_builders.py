"""What builders speed up leaves what is learnt as it was."""

import pytest
import torch

from contrastive_distillation.agents import build_agent
from contrastive_distillation.envs import make_vec


def weights_after_learning(*, fused: bool) -> torch.Tensor:
    env = make_vec(("MiniGrid-Empty-Random-5x5-v0",), 4, 0, "gymnasium")
    model = build_agent("ppo", env, seed=0, n_steps=32)
    for group in model.policy.optimizer.param_groups:
        assert group["fused"] and group["eps"] == 1e-5
        group["fused"] = fused
    model.learn(256)
    env.close()
    return torch.cat([p.detach().flatten() for p in model.policy.parameters()])


def test_fused_adam_learns_what_plain_adam_learns() -> None:
    plain, fused = weights_after_learning(fused=False), weights_after_learning(fused=True)
    torch.testing.assert_close(fused, plain, rtol=0, atol=2e-6)


@pytest.mark.parametrize("n_envs", [64, 100, 136, 255, 256, 257, 258, 272, 1024])
def test_minibatches_are_near_one_size_for_any_number_of_environments(n_envs: int) -> None:
    env = make_vec(("MiniGrid-Empty-Random-5x5-v0",), n_envs, 0)
    model = build_agent("ppo", env, seed=0)
    env.close()
    assert 960 <= model.batch_size <= 1127
    assert model.n_steps * n_envs % model.batch_size == 0
