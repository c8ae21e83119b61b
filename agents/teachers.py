"""Teachers: frozen encoders whose features are the keys of the contrastive terms."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from .encoder_lookup import read_encoder
from .observation_encoder import Normalise, ObservationEncoder, Observations
from .teacher_zip import encoder_with_weights, rebuilt_encoder, statistics_of
from .weight_names import with_every_name
from .weights import copy_weights


class MovingAverageTeacher(nn.Module):
    """The moving average f̄ of an encoder f: f̄ ← m·f̄ + (1 − m)·f at each `update()`.

    Momentum contrast, He et al. 2020, arXiv 1911.05722. Buffers are copied, not averaged; layers
    with a training mode (dropout, batch normalisation) are in evaluation mode, so that one
    observation has one key.

    Raises:
        ValueError: momentum outside [0, 1).
    """

    def __init__(self, encoder: ObservationEncoder, *, momentum: float) -> None:
        super().__init__()
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum is {momentum}, expected a number in [0, 1)")
        self.momentum = momentum
        self.average = encoder.frozen_copy().eval()
        self._followed = [encoder]  # in a list, so that it is not registered as our own
        self._pairs: tuple[list[Tensor], list[Tensor]] | None = None

    @property
    def n_features(self) -> int:
        """Width of the features."""
        return self.average.n_features

    @torch.no_grad()
    def forward(self, observations: Observations) -> Tensor:
        """Features (B, n_features), float32, without gradient."""
        return self.average(observations)  # type: ignore[no-any-return]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average one step towards the encoder."""
        if self._pairs is None:  # looked up once: walking through the modules takes longer
            followed = self._followed[0]
            self._pairs = list(self.average.parameters()), list(followed.parameters())
            modules = zip(self.average.modules(), followed.modules(), strict=True)
            self._with_buffers = [(own, theirs) for own, theirs in modules if own._buffers]
        torch._foreach_lerp_(*self._pairs, 1.0 - self.momentum)
        for own, theirs in self._with_buffers:
            for mine, followed_buffer in zip(
                own.buffers(False), theirs.buffers(False), strict=True
            ):
                mine.copy_(followed_buffer)

    @property
    def normalises(self) -> bool:
        """Whether VecNormalize's statistics are applied first."""
        return self.average.normalise is not None

    def follow(self, normalise: Normalise | None) -> None:
        """Normalise observations as the model does now, unless the statistics are frozen."""
        if not isinstance(self.average.normalise, FrozenNormalise):
            self.average.normalise = normalise

    def copy_from(self, other: MovingAverageTeacher) -> None:
        """Take another's weights, and VecNormalize's statistics as they are now, for good."""
        self.load_state_dict(other.state_dict())
        statistics = getattr(other.average.normalise, "__self__", None)
        if isinstance(statistics, VecNormalize):
            self.average.normalise = FrozenNormalise(statistics)


class FrozenTeacher(nn.Module):
    """The encoder of a trained source agent, frozen, with its source's VecNormalize statistics."""

    def __init__(self, encoder: ObservationEncoder) -> None:
        super().__init__()
        self.encoder = encoder.frozen_copy().eval()

    @classmethod
    def from_model(cls, model: BaseAlgorithm, *, encoder: str = "auto") -> FrozenTeacher:
        """A teacher from a model in memory; later training of the model does not change it.

        Raises:
            ValueError: the model has no such encoder (see `find_encoder`; TRPO's may teach, too).
        """
        teacher = cls(read_encoder(model, encoder)[0])
        teacher.encoder.normalise = FrozenNormalise.of(model)
        return teacher

    @classmethod
    def from_weights(
        cls, weights: Mapping[str, Tensor], *, like: BaseAlgorithm, encoder: str = "auto"
    ) -> FrozenTeacher:
        """A teacher with the architecture of `like` and the weights of another policy.

        Args:
            weights: a policy's state dict (`agents.read_weights`).
            like: a model whose encoder has the same shape.

        Raises:
            ValueError: a parameter of the encoder is missing in the weights or has another shape.
        """
        teacher = cls.from_model(like, encoder=encoder)
        followed, _ = read_encoder(like, encoder)
        named = like.policy.state_dict(keep_vars=True)
        names = {id(tensor): name for name, tensor in named.items()}
        theirs = followed.state_dict(keep_vars=True).values()
        own = teacher.encoder.state_dict().values()
        copy_weights(
            with_every_name(weights, like.policy),
            {names[id(tensor)]: copied for tensor, copied in zip(theirs, own, strict=True)},
            of="the teacher",
            advice="the teacher needs an encoder of the same architecture",
        )
        return teacher

    @classmethod
    def from_zip(
        cls,
        path: str | Path,
        *,
        encoder: nn.Module | None = None,
        at: str = "auto",
        observation_space: gym.Space[Any] | None = None,
        normalize_images: bool = True,
        vec_normalize: VecNormalize | str | Path | None = None,
        trust: bool = False,
    ) -> FrozenTeacher:
        """A teacher from a Stable-Baselines3 zip, of whatever width.

        With `encoder` only weights are read (policy.pth, `weights_only=True`): no code of the
        file runs. Without it the encoder is rebuilt from the classes that the zip has pickled,
        which runs their code: only with `trust=True`.

        Args:
            path: the zip, with or without its ending, or a run directory.
            encoder: a module built as the source's features extractor was; a copy is used.
            at: where it stands in the policy: a path such as "actor.features_extractor"; "auto"
                takes the first place whose weights fit. With `trust`, as in `find_encoder`.
            observation_space: what `encoder` reads; not needed for a `BaseFeaturesExtractor`.
            normalize_images: whether the source's policy scaled pictures to [0, 1]; refused if the
                zip says otherwise.
            vec_normalize: the source's observation statistics, if it had any; a path to what
                `VecNormalize.save` wrote is a pickle and needs `trust=True`.
            trust: allow unpickling.

        Raises:
            ValueError: the file is missing or broken, its weights do not fit, or it would have to
                be unpickled without `trust`.
        """
        if encoder is not None:
            found = encoder_with_weights(
                path,
                encoder,
                at=at,
                observation_space=observation_space,
                normalize_images=normalize_images,
            )
        elif trust:
            found = rebuilt_encoder(path, at=at)
        else:
            raise ValueError(
                f"rebuilding the encoder of {path} means unpickling, which runs whatever code the "
                "file holds; pass encoder=module (only weights are read then), or trust=True if "
                "the file is yours"
            )
        teacher = cls(found)
        if vec_normalize is not None:
            statistics = statistics_of(vec_normalize, trust=trust)
            teacher.encoder.normalise = FrozenNormalise(statistics)
        return teacher

    @property
    def n_features(self) -> int:
        """Width of the features."""
        return self.encoder.n_features

    @torch.no_grad()
    def forward(self, observations: Observations) -> Tensor:
        """Features (B, n_features), float32, without gradient."""
        return self.encoder(observations)  # type: ignore[no-any-return]


class FrozenNormalise:
    """VecNormalize's observation statistics as they were, without the environment."""

    def __init__(self, vec_normalize: VecNormalize) -> None:
        names = ("obs_rms", "norm_obs", "norm_obs_keys", "clip_obs", "epsilon")
        kept = {name: copy.deepcopy(getattr(vec_normalize, name, None)) for name in names}
        self._statistics = VecNormalize.__new__(VecNormalize)
        self._statistics.__setstate__(kept)

    @classmethod
    def of(cls, model: BaseAlgorithm) -> FrozenNormalise | None:
        """The present statistics of a model, or None if it does not normalise observations."""
        statistics = model.get_vec_normalize_env()
        return cls(statistics) if statistics is not None and statistics.norm_obs else None

    def __call__(self, observations: Any) -> Any:
        return self._statistics.normalize_obs(observations)
