"""The arguments of `realign`: what is refused, and the search that they ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm

from contrastive_distillation.losses import OBJECTIVES, Objective
from contrastive_distillation.memory import Memory, Observations, nearest_names

from ..observation_encoder import blank_observations
from .search import SearchSettings

SEARCHES: dict[str, SearchSettings] = {
    "grid": SearchSettings(),
    "picture": SearchSettings(updates=800, ramp=0.6),
    "mixed": SearchSettings(updates=800, ramp=0.6),
    "vector": SearchSettings(
        finalists=2,
        growth=1.5,
        rate=1e-2,
        n_usual=512,
    ),
}
"""How realigned layers are searched for, by the kind of observation."""

NEGATIVES = ("in_batch", "uniform", "nearest")
_N_NEGATIVES = {"in_batch": 0, "uniform": 256, "nearest": 64}
_N_FINALISTS = 4


def search_settings(
    kind: str,
    restarts: int | None,
    updates: int | None,
    negatives: str,
    n_negatives: int | None,
    select: str,
) -> SearchSettings:
    usual = SEARCHES[kind]
    n = usual.restarts if restarts is None else restarts
    finalists = _N_FINALISTS if select == "return" else usual.finalists
    return replace(
        usual,
        restarts=n,
        finalists=min(finalists, n),
        updates=usual.updates if updates is None else updates,
        negatives=negatives,
        n_negatives=_N_NEGATIVES[negatives] if n_negatives is None else n_negatives,
    )


def named_objective(name: str) -> Objective:
    if name == "policy":
        raise ValueError("objective 'policy' compares actions on pairs: pass view= or pairs=")
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective '{name}'. {nearest_names(name, OBJECTIVES)}")
    return OBJECTIVES[name]


def check_choices(
    frames: int,
    restarts: int | None,
    updates: int | None,
    rounds: int,
    negatives: str,
    n_negatives: int | None,
    select: str,
    data: Memory | None,
) -> None:
    for name, value in (
        ("restarts", restarts), ("updates", updates), ("rounds", rounds),
        ("n_negatives", n_negatives),
    ):  # fmt: skip
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be 1 or more")
    if data is None and frames < rounds:
        raise ValueError(
            f"frames is {frames}: nothing would be gathered; use 20_000 or so, or pass data=, "
            "view= or pairs="
        )
    named = {"negatives": (negatives, NEGATIVES), "select": (select, ("loss", "return"))}
    for name, (given, choices) in named.items():
        if given not in choices:
            raise ValueError(f"{name} is {given!r}; choose one of {', '.join(choices)}")


def check_numbers(epsilon: float | None, statistics_weight: float) -> None:
    if epsilon is not None and not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon is {epsilon}; it is a chance, in [0, 1]")
    if not 0.0 <= statistics_weight < float("inf"):
        raise ValueError(f"statistics_weight is {statistics_weight}; it must be 0 or more")


def check_zip(model: BaseAlgorithm, source: object) -> None:
    normalised = model.get_vec_normalize_env()
    if isinstance(source, str | Path) and normalised is not None and normalised.norm_obs:
        raise ValueError(
            f"{source} does not hold the statistics of the source's VecNormalize; load the source "
            "with its environment, VecNormalize.load(path, env), and pass the model: source=model"
        )


def check_data(model: BaseAlgorithm, data: Memory | None, *, rounds: int, select: str) -> None:
    """Refuse what cannot be gathered, played or read."""
    if data is not None and rounds > 1:
        raise ValueError(f"rounds is {rounds}, but data is gathered already: use rounds=1")
    if select == "return" and model.get_env() is None:
        raise ValueError(
            "select='return' plays episodes, and the model has no environment: call "
            "model.set_env(env), or use select='loss'"
        )
    if data is None:
        if model.get_env() is None:
            raise ValueError(
                "the model has no environment to gather frames in: call model.set_env(env), or "
                "pass data=, view= or pairs="
            )
        return
    if not len(data):
        raise ValueError("data is a memory without a step; gather some, or leave it out")
    found = _shapes(data.observations(data.rows()[:1]))
    expected = _shapes(blank_observations(model.observation_space, 1))
    if found != expected:
        raise ValueError(
            f"data holds observations of the shapes {found}, the model reads {expected}; pass a "
            "memory of the target's own observations"
        )


def _shapes(observations: Observations) -> dict[str, tuple[int, ...]]:
    parts = observations if isinstance(observations, dict) else {"observation": observations}
    return {name: array.shape[1:] for name, array in parts.items()}
