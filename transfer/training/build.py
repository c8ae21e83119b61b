"""Build the environments and the agent of a training."""

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from contrastive_distillation.agents import build_agent
from contrastive_distillation.envs import TaskVecEnv, episode_seed, make_vec

from ..settings.spec import TrainingSpec


def make_env(spec: TrainingSpec) -> TaskVecEnv:
    """The environments that the spec trains in."""
    return make_vec(
        spec.task.env_ids,
        spec.task.n_envs,
        env_seed(spec),
        spec.task.backend,
        observation=spec.task.suite.observation,
        mission=spec.task.mission,
        num_threads=spec.runtime.threads,
    )


def build(spec: TrainingSpec, env: VecEnv) -> BaseAlgorithm:
    """The spec's agent, untrained."""
    gamma = {} if spec.agent.gamma is None else {"gamma": spec.agent.gamma}
    model = build_agent(spec.agent.name, env, seed=spec.seed, device=spec.runtime.device, **gamma)
    env.seed(env_seed(spec))  # the model has seeded it with its own
    return model


def env_seed(spec: TrainingSpec) -> int:
    """The seed of the spec's environments."""
    return episode_seed(spec.seed, "train", spec.stream)
