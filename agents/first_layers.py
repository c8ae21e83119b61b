"""The layers of an agent that read the observation: learnt alone, or begun at random."""

from __future__ import annotations

import functools

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from .encoder_lookup import encoder_names, read_encoder
from .observation_encoder import blank_observations, forked_generators
from .realignment.folding import synchronise_targets
from .realignment.input_layers import parameters_to_move


def first_layers(model: BaseAlgorithm) -> dict[str, nn.Parameter]:
    """The parameters of all encoders of a model that read the observation, by a unique name.

    Raises:
        ValueError: an encoder has none.
    """
    found: dict[str, nn.Parameter] = {}
    for name in encoder_names(model):
        encoder, _ = read_encoder(model, name)
        stages = nn.Sequential(*encoder.stages)
        seen = encoder.prepared(blank_observations(model.observation_space, 2))
        own = dict(stages.named_parameters())
        moved = parameters_to_move(stages, functools.partial(stages, seen), "first")
        found |= {f"{name}/{each}": own[each] for each in moved}
    return found


def reinitialise_first_layers(model: BaseAlgorithm, *, seed: int) -> list[str]:
    """Give the layers that read the observation the weights of a fresh policy.

    Args:
        model: its other layers stay as they are, and so do the global generators.
        seed: of the fresh policy.

    Returns:
        Their names.
    """
    policy = model.policy
    with forked_generators(model.device):
        torch.manual_seed(seed)
        fresh = type(policy)(**policy._get_constructor_parameters())
    names = {id(p): name for name, p in policy.named_parameters()}
    drawn = dict(fresh.named_parameters())
    changed = [names[id(p)] for p in first_layers(model).values()]
    with torch.no_grad():
        for name in changed:
            policy.get_parameter(name).copy_(drawn[name])
    synchronise_targets(policy)
    return changed


class FirstLayersOnly(BaseCallback):
    """Freezes everything but the layers that read the observation, during one `learn()`."""

    def __init__(self) -> None:
        super().__init__()
        self._frozen: list[nn.Parameter] = []

    def _on_training_start(self) -> None:
        kept = {id(p) for p in first_layers(self.model).values()}
        parameters = self.model.policy.parameters()
        self._frozen = [p for p in parameters if p.requires_grad and id(p) not in kept]
        for parameter in self._frozen:
            parameter.requires_grad_(False)
            parameter.grad = None

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._frozen = []
