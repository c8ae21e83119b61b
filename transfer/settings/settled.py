"""Settings, checked and resolved, as a spec."""

from contrastive_distillation.agents import AGENTS, resolve_device
from contrastive_distillation.envs import Suite, UnknownNameError
from contrastive_distillation.memory import KEEPS

from ..errors import SettingsError
from .commands import TrainSettings, TransferSettings
from .resolve import choose_loss, choose_n_envs
from .spaces import check_spaces
from .spec import AgentSpec, RuntimeSpec, TaskSpec, TrainingSpec


def settled_spec(
    settings: TrainSettings | TransferSettings, suite: Suite, mission: bool
) -> TrainingSpec:
    """What all specs of the same settings have in common; which they are is still open.

    Raises:
        ValueError: a setting that cannot be.
    """
    agent = settings.agent or suite.agents[0]
    if agent not in AGENTS:
        raise UnknownNameError("agent", agent, AGENTS, hint=f"There are: {', '.join(AGENTS)}.")
    check_spaces(agent, suite.sources[0], suite, mission)
    loss = choose_loss(settings, agent)
    n_envs = choose_n_envs(settings.n_envs, agent, 1, suite, mission)
    per_env = KEEPS[loss.keep].rows_per_env
    if loss.memory_capacity < n_envs * per_env:
        of_keep = "" if per_env == 1 else f" times {per_env} with --keep {loss.keep}"
        raise SettingsError(
            f"--memory-capacity {loss.memory_capacity}: must be at least the number of "
            f"environments, {n_envs}{of_keep}"
        )
    return TrainingSpec(
        name="",
        role="target",
        arms=(),
        seed=settings.seed,
        task=TaskSpec(
            suite=suite,
            suite_as_given=_suite_as_given(settings, suite),
            env_ids=(),
            frames=1,
            backend=settings.backend,
            n_envs=n_envs,
            mission=mission,
        ),
        agent=AgentSpec(name=agent, gamma=settings.gamma),
        loss=loss,
        runtime=RuntimeSpec(
            device=resolve_device(settings.device),
            threads=settings.threads,
            checkpoint_every=settings.checkpoint_every,
            env_timeout=settings.env_timeout,
            information_points=settings.information_points,
        ),
    )


def _suite_as_given(settings: TrainSettings | TransferSettings, suite: Suite) -> str | None:
    """What names the suite again: None where environments were named in its place."""
    if settings.suite is not None:
        return settings.suite
    if isinstance(settings, TrainSettings):
        return None if settings.env else suite.name
    return None if settings.target or settings.from_ else suite.name
