"""What an agent's features tell of the future and of what its source's encoder saw."""

from typing import Any

import numpy as np
import torch

from contrastive_distillation.agents import AuxiliaryLossCallback, FrozenTeacher
from contrastive_distillation.losses import as_vectors, draw_later_pairs, mutual_information

_N_ROWS = 12_288  # with 1,024 the critics fitted nothing that held on other episodes
_N_UPDATES = 300


def measure_information(
    joined: AuxiliaryLossCallback, source: FrozenTeacher | None, *, seed: int
) -> dict[str, dict[str, Any]]:
    """Lower bounds on mutual information with an agent's features, the same way for every arm.

    Over rows that the agent itself remembers: with a later observation of the same episode
    (``future``), and with the features of its source's encoder (``source``). See
    `losses.mutual_information`; nothing of the agent or of the global generators changes.

    Args:
        joined: the callback of a finished training.
        source: the source's encoder, where there is one.
        seed: of the rows and of the critics.

    Returns:
        Environment id → ``future`` and, with a source, ``source``, in nats, and ``cap``, the most
        that so many negatives can show. Environments with too few episodes are left out.
    """
    memory, learner = joined.memory, joined.learner
    assert learner is not None
    if len(memory) == 0:
        return {}
    pairs = draw_later_pairs(memory, _N_ROWS, np.random.default_rng(seed))
    if len(pairs.rows) == 0:
        return {}
    observations = memory.observations(pairs.rows)
    with torch.no_grad():
        features = learner.encoder(observations).cpu().numpy()
    partners = {"future": as_vectors(memory.observations(pairs.later_rows))}
    if source is not None:
        partners["source"] = source(observations).cpu().numpy()
    found: dict[str, dict[str, Any]] = {}
    for name, partner in partners.items():
        bounds = mutual_information(
            features, partner, pairs.episodes, pairs.tasks, seed=seed, n_updates=_N_UPDATES
        )
        for task, bound in bounds.items():
            entry = found.setdefault(memory.tasks[task], {})
            entry[name] = round(float(bound.nats), 4)
            entry["cap"] = round(float(bound.cap), 4)
    return found
