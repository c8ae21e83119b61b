"""`realign`: give an agent its skill back when its sensors changed, without a reward."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from contrastive_distillation.memory import (
    Memory,
    Observations,
)

from ..encoder_lookup import encoder_names
from .all_or_nothing import all_or_nothing
from .arguments import (
    check_choices,
    check_data,
    check_numbers,
    check_zip,
    named_objective,
    search_settings,
)
from .copying import check_source_fits
from .job import Realignment
from .pairs import View, realign_on_pairs
from .report import RealignReport
from .source import SourceAgent, frames_in_stack, open_source


def realign(
    model: BaseAlgorithm,
    *,
    source: BaseAlgorithm | SourceAgent | str | Path,
    source_memory: Memory | None = None,
    frames: int = 20_000,
    epsilon: float | None = None,
    rounds: int = 1,
    restarts: int | None = None,
    updates: int | None = None,
    layers: str | Sequence[str] = "first",
    objective: str = "contrast_statistics",
    statistics_weight: float = 3.0,
    negatives: str = "in_batch",
    n_negatives: int | None = None,
    select: Literal["loss", "return"] = "loss",
    encoder: str = "auto",
    data: Memory | None = None,
    view: View | None = None,
    pairs: tuple[Observations, Observations] | None = None,
    force: bool = False,
    keep: bool = False,
    seed: int = 0,
) -> RealignReport:
    """Carry a source agent over to other sensors without using a reward.

    All weights of the source that fit are copied, its heads always. Then the model plays random
    actions in its environment, and the layers that read the observation move until the source's
    frozen latent dynamics predict the features of what follows, and the features have the
    source's statistics. The rest of the policy stays the source's.

    Args:
        model: the agent with the new sensors, with its environment. It is changed all at once at
            the end, or not at all.
        source: the agent that has learnt with the old sensors: a model, a Stable-Baselines3 zip,
            or what `transfer.load_source` returns.
        source_memory: what the source saw and did, with the old sensors. Without it, or where it
            has no steps with random actions, the source plays 40,000 frames of these in its own
            environment, if it has one.
        frames: to gather in all, over all environments.
        epsilon: chance of a random action while gathering; None: 1.
        rounds: the frames are gathered in so many parts, each after a realignment.
        restarts: of the search; None: 8.
        updates: of the restart that goes furthest; None: by the kind of observation.
        layers: "first": those that read the observation (for vectors: one linear map for all
            networks); "encoder": all of the encoder; else names of its layers.
        objective: a name of `losses.OBJECTIVES`; with pairs "contrast" (also where the default is
            left), "squared_error" or "policy" (divergence from the source's actions).
        statistics_weight: λ of the feature statistics.
        negatives: "in_batch", "uniform" over what was gathered, or "nearest" to the positive in
            the student's present features.
        n_negatives: of "uniform" (default 256) and "nearest" (64).
        select: choose among the finalists by their loss, which needs no reward, or by their
            return in a few episodes, whose frames are charged.
        encoder: see `find_encoder`; "auto": all encoders of the agent.
        data: what was gathered in the target elsewhere, in place of frames.
        view: shows a batch of source observations as the new sensors would; no frame is gathered.
            The model's encoder may be of another architecture, and then learns as a whole.
        pairs: (source observations, target observations) of the same states, in place of a view.
        force: realign also where the test finds that the sensors agree.
        keep: what was found, also where rooms or dynamics seem to differ and not the sensors,
            since the realigned encoder still reads the source's own observations; without it, the
            encoder is then left as it was.
        seed: of everything random.

    Returns:
        What was found and done; `report.frames` are added to `model.num_timesteps`.

    Raises:
        ValueError: a setting is outside its range, the action spaces or the widths of the
            features differ, the source has no steps, or no layer reads the observation.
        FloatingPointError: a loss is not finite; the model is as it was.
    """
    began = time.perf_counter()
    if view is not None or pairs is not None:
        if (view is None) + (pairs is None) + (data is None) != 2:
            raise ValueError("pass one of data=, view= and pairs=, not several")
        check_choices(1, restarts, updates, 1, negatives, n_negatives, select, None)
        check_zip(model, source)
        report = realign_on_pairs(
            model,
            source=source,
            source_memory=source_memory,
            view=view,
            pairs=pairs,
            names=encoder_names(model) if encoder == "auto" else [encoder],
            objective=objective,
            layers=layers,
            restarts=restarts,
            updates=updates,
            seed=seed,
        )
        return replace(report, seconds=time.perf_counter() - began)
    chosen = named_objective(objective)
    check_choices(frames, restarts, updates, rounds, negatives, n_negatives, select, data)
    check_numbers(epsilon, statistics_weight)
    check_data(model, data, rounds=rounds, select=select)
    check_zip(model, source)
    names = encoder_names(model) if encoder == "auto" else [encoder]
    opened = open_source(
        source,
        like=model,
        names=names,
        memory=source_memory if source_memory is not None and len(source_memory) else None,
        n_frames=frames_in_stack(model),
        seed=seed,
    )
    check_source_fits(model, names, action_space=opened.action_space, encoders=opened.encoders)
    with all_or_nothing(model):
        job = Realignment(model, opened, names, chosen, layers=layers, seed=seed)
        job.copy_weights()
        settings = search_settings(job.kind, restarts, updates, negatives, n_negatives, select)
        report = job.run(
            settings,
            frames=frames,
            epsilon=1.0 if epsilon is None else epsilon,
            rounds=rounds,
            data=data,
            force=force,
            keep=keep,
            statistics_weight=statistics_weight,
            select=select,
        )
    model.num_timesteps += report.frames
    if isinstance(model, OffPolicyAlgorithm) and model.replay_buffer is not None:
        model.replay_buffer.reset()
        model.learning_starts += report.frames  # it fills its buffer first, as a fresh model does
    return replace(report, seconds=time.perf_counter() - began)
