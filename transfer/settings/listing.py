"""The names that settings may have: the command `list`."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from inspect import getmodule

from contrastive_distillation.agents import SUMMARIES
from contrastive_distillation.envs import SUITES, Suite, get_task, sensor_families, sensor_of
from contrastive_distillation.losses import LOSSES
from contrastive_distillation.memory import EVICTIONS, MEMORIES, NEGATIVES, POSITIVES

from .arms import ARMS

_WIDTH = 80
_INDENT = 28


def listing() -> str:
    """Suites, environments, agents, losses, negatives, memories and arms, 80 columns wide."""
    sections = [
        ("Suites (--suite; a suite of your own is a YAML file)", _suites()),
        (
            "Environments of the suites (--env, --source, --target; any other Gymnasium id, or "
            "module:ID, will do)",
            _environments(),
        ),
        ("Other sensors (contrastive/CartPole-Rotated4-v0 is one such id)", _sensors()),
        ("Agents (--agent)", _described(SUMMARIES.items())),
        (
            "Losses (--loss; none for none, package.module:Class for your own)",
            _described(_summaries({name: getmodule(loss) for name, loss in LOSSES.items()})),
        ),
        ("Negatives (--negatives)", _described(_summaries(NEGATIVES))),
        ("Positives (--positives)", _described(POSITIVES.items())),
        ("Memories (--memory)", _described(_summaries(MEMORIES))),
        (
            "What an episodic memory keeps when it is full (--keep)",
            _described(_summaries(EVICTIONS)),
        ),
        ("Arms (--arms)", _described((arm.name, arm.line) for arm in ARMS.values())),
    ]
    return "\n\n".join(
        "\n".join([*textwrap.wrap(heading, _WIDTH), *lines]) for heading, lines in sections
    )


def _suites() -> Iterator[str]:
    for suite in SUITES.values():
        yield from _item(suite.name, suite.summary)
        yield from _item("", _scope(suite))


def _scope(suite: Suite) -> str:
    sources, targets = len(suite.sources), len(suite.targets)
    return (
        f"{sources} source{'s' * (sources > 1)} ({suite.source_frames:_} frames), "
        f"{targets} target{'s' * (targets > 1)} ({suite.target_frames:_} each), "
        f"{' or '.join(suite.agents)}"
    )


def _environments() -> Iterator[str]:
    ids = dict.fromkeys(
        env_id for suite in SUITES.values() for env_id in (*suite.sources, *suite.targets)
    )
    for env_id in sorted(env_id for env_id in ids if sensor_of(env_id) is None):
        steps = get_task(env_id).max_episode_steps
        yield f"  {env_id}" if steps is None else f"  {env_id:<58}{steps:>6} steps at most"


def _sensors() -> Iterator[str]:
    for family, (summary, names) in sensor_families().items():
        yield from _item(family, f"{summary} For {', '.join(names)}.")


def _described(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, line in pairs:
        yield from _item(name, line)


def _item(name: str, line: str) -> list[str]:
    first = f"  {name:<{_INDENT - 2}}"
    return textwrap.wrap(line, _WIDTH, initial_indent=first, subsequent_indent=" " * _INDENT)


def _summaries(things: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Each name with the first paragraph of the docstring of its class or module."""
    for name, thing in things.items():
        text = (thing.__doc__ or "").strip().partition("\n\n")[0]
        yield name, " ".join(text.split())
