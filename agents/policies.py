"""Stable-Baselines3's policies, which encode each distinct observation of a batch once.

Observations are compared before they become floats: to scale a picture of 56×56 to [0, 1] takes
longer than to compare it. Then encoder *and* hidden layers process the distinct ones alone. Outputs
and gradients equal those of the plain policies to rounding. With an encoder that is not this
package's they are the plain policies, because it may be random (dropout) or depend on the whole
batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import gymnasium as gym
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from .distinct_rows import distinct_observations

TensorObservations = Tensor | dict[str, Tensor]


class DistinctActorCriticPolicy(ActorCriticPolicy):
    """PPO's policy; it encodes each distinct observation once, to act and to learn."""

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B, …), values (B, 1) and log probabilities (B,) of observations (B, …)."""
        latents = self._latents(obs)
        if latents is None:
            return super().forward(obs, deterministic)
        distribution = self._get_action_dist_from_latent(latents[0])
        actions = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(actions)
        actions = actions.reshape((-1, *(self.action_space.shape or ())))
        return actions, self.value_net(latents[1]), log_prob

    def evaluate_actions(
        self, obs: TensorObservations, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values (B, 1), log probabilities (B,) of given actions, and entropy (B,)."""
        latents = self._latents(obs)
        if latents is None:
            return super().evaluate_actions(obs, actions)
        distribution = self._get_action_dist_from_latent(latents[0])
        log_prob = distribution.log_prob(actions)
        return self.value_net(latents[1]), log_prob, distribution.entropy()

    def _latents(self, obs: TensorObservations) -> tuple[Tensor, Tensor] | None:
        """Latents of actor and critic, of (B, …); None if deduplication does not apply."""
        if not self.share_features_extractor:
            return None
        found = features_of_distinct(self, self.features_extractor, obs)
        if found is None:
            return None
        features, inverse = found
        latent_pi, latent_vf = self.mlp_extractor(features)
        return latent_pi.index_select(0, inverse), latent_vf.index_select(0, inverse)


class DistinctQNetwork(QNetwork):
    """DQN's network; it encodes each distinct observation once."""

    def forward(self, obs: TensorObservations) -> Tensor:
        """Values (B, n_actions) of observations (B, …)."""
        found = features_of_distinct(self, self.features_extractor, obs)
        if found is None:
            return super().forward(obs)
        features, inverse = found
        values: Tensor = self.q_net(features)
        return values.index_select(0, inverse)


class DistinctDQNPolicy(DQNPolicy):
    """DQN's policy; its networks encode each distinct observation once."""

    def make_q_net(self) -> QNetwork:
        """One network, with an encoder of its own."""
        settings = self._update_features_extractor(self.net_args, features_extractor=None)
        return DistinctQNetwork(**settings).to(self.device)


class Preprocessing(Protocol):
    """How an owner of encoders, a policy for example, preprocesses observations for them."""

    observation_space: gym.Space[Any]
    normalize_images: bool


def features_of_distinct(
    owner: Preprocessing, extractor: nn.Module, observations: TensorObservations
) -> tuple[Tensor, Tensor] | None:
    """Features of the distinct observations, and the index of each observation among them.

    Args:
        owner: of the extractor.
        extractor: takes preprocessed observations.
        observations: (B, …), as the environment gives them.

    Returns:
        features (M, D) and inverse (B,) int64; None where the extractor has no `encode_distinct`
        that is on, or where deduplication does not apply (`distinct_observations`).
    """
    if not (getattr(extractor, "encode_distinct", False) and _is_ours(type(extractor).forward)):
        return None
    found = distinct_observations(observations)
    if found is None:
        return None
    distinct, inverse = found
    return extractor(preprocessed(owner, distinct), distinct=True), inverse


def preprocessed(owner: Preprocessing, observations: TensorObservations) -> TensorObservations:
    """What Stable-Baselines3 does before a features extractor: floats, pictures in [0, 1]."""
    return preprocess_obs(
        observations, owner.observation_space, normalize_images=owner.normalize_images
    )


@lru_cache
def _is_ours(forward: Callable[..., Any]) -> bool:
    """Whether an encoder's `forward` is one of this package's, not that of a subclass."""
    return "distinct" in inspect.signature(forward).parameters
