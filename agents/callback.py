"""`AuxiliaryLossCallback`: joins an auxiliary loss to a Stable-Baselines3 model while it learns."""

from __future__ import annotations

import logging
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor
from torch.linalg import vector_norm

from contrastive_distillation.losses import AuxiliaryLoss
from contrastive_distillation.memory import Keep, Memory

from .auxiliary_file import check_heads, load_auxiliary, save_auxiliary
from .balance import BALANCES, ReferenceNorm, add_flattened, balanced, flattened
from .checks import (
    check_device,
    check_kinds,
    check_learns,
    check_memories,
    check_stepped,
    check_teachers,
    check_terms,
    whole_number,
)
from .diagnostics import Diagnostics
from .encoder_lookup import find_encoder
from .learner import Learner, reward_scale_of
from .observation_encoder import ObservationEncoder
from .recorder import Recorder
from .schedules import Schedule, check_weight
from .teachers import MovingAverageTeacher
from .update_frequency import DEFAULT_EVERY, default_every, default_n_anchors

_log = logging.getLogger(__name__)

_FRAMES_TO_LOG = 1024
"""Frames between two counts of a memory's rows; each ends the gathering of steps to write."""

_OF_MEMORY = {"masked_fraction", "duplicate_rate", "key_age", "key_drift"}


class AuxiliaryLossCallback(BaseCallback):
    """Regularises a model's encoder with an auxiliary loss while Stable-Baselines3 trains it.

    Every transition is written into `memory`; before each step of the optimiser that owns the
    encoder, a pre-hook draws anchors from memory, takes the loss's gradient with respect to the
    encoder and the loss's heads, balances it against the reinforcement-learning gradient that is
    already there (after the model's own clipping), and adds it. Heads have an Adam of their own;
    the saved model stays a plain Stable-Baselines3 zip. After Lengerich et al. 2022, arXiv
    2212.11353; docs/plug_in.md leads through it.

    Example:
        from stable_baselines3 import PPO
        from contrastive_distillation.agents import AuxiliaryLossCallback
        from contrastive_distillation.losses import ContrastiveDistillation
        from contrastive_distillation.memory import EpisodicMemory

        loss, memory = ContrastiveDistillation(), EpisodicMemory(capacity=50_000)
        joined = AuxiliaryLossCallback(loss, memory=memory, encoder="mlp_extractor.policy_net")
        model = PPO("MlpPolicy", "CartPole-v1", n_steps=256)
        model.learn(512, callback=joined)

    The hook lives only between a rollout's end and the next rollout's start, is gone when the loss
    itself raises, and removes itself when it no longer belongs to the running `learn()`; `with
    joined:` around `learn()` removes it at once, after any exception. The callback may serve
    several `learn()` of one model; given another model, heads are built anew (`save` and `load`
    carry them over).

    Args:
        loss: the auxiliary loss; its terms are balanced one by one.
        memory: where transitions are kept, of this callback alone; raw observations and rewards,
            of any dtype the environment gives.
        weight: how much of the auxiliary gradient, dimensionless: its norm relative to the RL
            gradient's on the encoder ("norm", "project"), or the plain coefficient ("none"); a
            number ≥ 0, a `WeightSchedule`, or a function of the remaining progress (1 → 0), as
            Stable-Baselines3's schedules. 0 leaves the model bit-identical to one without the
            callback.
        balance: "norm" | "project" (gradient surgery, arXiv 2001.06782) | "none", see
            `agents.balance.balanced`.
        every: one auxiliary update for so many optimiser steps, ≥ 1; what the loss costs is
            in inverse proportion. Default 8, or 16 where it costs more beside the steps: with
            DQN, and with fewer than 64 anchors.
        n_anchors: anchors (rows) per auxiliary update, 1 … the memory's capacity; default
            min(256, a quarter of the RL minibatch), at least 8 if memory has room. Until it holds
            so many rows the loss waits, and a warning says so once.
        encoder: "auto" | "policy" | "value" | "actor" | "critic" or a module path in the policy,
            see `find_encoder`.
        source_memory: a source agent's memory, for losses that rehearse source observations.
        head_learning_rate: of the heads' Adam, per auxiliary update.
        diagnostics_frames: entropy, effective rank and key drift are logged so often, in frames.
        seed: of the anchors, negatives and heads; the global generators are never drawn from.
        verbose: as in every Stable-Baselines3 callback.

    Attributes:
        n_updates: auxiliary updates so far.
        steps_per_update: optimiser steps for each, as `every` or, from `learn()` on, its default.
        learner: what the loss sees of the agent (`Learner`); None before the first `learn()`.

    Logged, in the model's own logger (each explained in docs/plug_in.md):
        aux/loss, and aux/loss_NAME for each of several terms; aux/gradient_ratio: norm of what
        was added over that of the RL gradient; aux/gradient_cosine with the RL gradient;
        aux/entropy of the policy, nats; aux/effective_rank of the features; memory/size, rows;
        memory/known_returns, share of rows; memory/key_drift, 1 − cosine; and the loss's own
        metrics, for contrastive distillation aux/accuracy, memory/masked_fraction and others.

    Raises:
        ValueError: an argument out of range or of another kind; at the start of `learn()`: an
            algorithm without optimiser steps (TRPO, ARS), no encoder with parameters that an
            optimiser owns, a frozen one, one on another device than the model, a teacher or a
            memory of other observations, an observation space that cannot be remembered, or
            VecNormalize below another wrapper; during it: `forward` returns no scalars, or somebody
            else writes into the memory. The text says what to do instead.
        FloatingPointError: during `learn()`, a term of the loss is not finite.
    """

    def __init__(
        self,
        loss: AuxiliaryLoss,
        *,
        memory: Memory,
        weight: float | Schedule = 0.1,
        balance: str = "norm",
        every: int | None = None,
        n_anchors: int | None = None,
        encoder: str = "auto",
        source_memory: Memory | None = None,
        head_learning_rate: float = 1e-3,
        diagnostics_frames: int = 16_384,
        seed: int = 0,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        check_kinds(loss, memory)
        if balance not in BALANCES:
            raise ValueError(f"balance is '{balance}', expected one of {', '.join(BALANCES)}")
        if n_anchors is not None:
            n_anchors = whole_number("n_anchors", n_anchors, least=1)
        if n_anchors is not None and n_anchors > memory.capacity:
            raise ValueError(
                f"n_anchors is {n_anchors}, but the memory keeps only {memory.capacity} rows, so "
                "it would never hold one batch; raise its capacity or lower n_anchors"
            )
        self.loss = loss
        self.memory = memory
        self.weight = weight if callable(weight) else check_weight(weight)
        self.balance = balance
        self.every = None if every is None else whole_number("every", every, least=1)
        self.n_anchors = n_anchors
        self.encoder = encoder
        self.source_memory = source_memory
        self.head_learning_rate = head_learning_rate
        self.diagnostics_frames = whole_number("diagnostics_frames", diagnostics_frames, least=1)
        self.seed = whole_number("seed", seed, least=0)
        self.generator = np.random.default_rng(seed)
        self.continues_episodes = False
        """Set before `learn()` where a checkpoint's environments go on in their episodes."""
        self.learner: Learner | None = None
        self.reference = ReferenceNorm()
        self.n_updates = 0
        self._n_steps = 0
        self._rollout_from = 0
        self.steps_per_update = every or DEFAULT_EVERY
        self._handles: list[Any] = []
        self._said_waiting = False
        self._pending_state: dict[str, Any] | None = None

    # -- life in one learn() ------------------------------------------------------------------

    def _init_callback(self) -> None:
        self.detach()
        encoder, self._optimizer = find_encoder(self.model, self.encoder)
        same = self.learner is not None and self.learner.policy is self.model.policy
        if not same:
            self._build(encoder)
        assert self.learner is not None
        check_device(self.model, self.learner.encoder, self.loss)
        check_teachers(self.model, self.loss)
        check_memories(self.model, self.memory, self.source_memory)
        self.learner.encoder.normalise = encoder.normalise
        self.learner.reward_scale = partial(reward_scale_of, self.model)
        for module in self.loss.modules():
            if isinstance(module, MovingAverageTeacher):
                module.follow(encoder.normalise)

    def _build(self, encoder: ObservationEncoder) -> None:
        """Make heads and their optimiser, without touching the global generators."""
        self.learner = Learner(
            policy=self.model.policy,
            encoder=encoder,
            gamma=float(getattr(self.model, "gamma", 0.99)),
            optimizer=self._optimizer,
        )
        with torch.random.fork_rng(devices=_cuda_devices(encoder.device)):
            torch.manual_seed(self.seed)
            self.loss.build(self.learner)
        self.loss.to(encoder.device)
        heads = self.loss.head_parameters()
        wanted = self.loss.changed_parameters(self.learner)
        check_stepped(wanted, self.learner, self.loss)
        self._changed = [parameter for parameter in wanted if parameter.requires_grad]
        self._heads = heads
        self._head_optimizer = (
            torch.optim.Adam(heads, lr=self.head_learning_rate, fused=True) if heads else None
        )
        self._encoder_parameters = list(encoder.parameters())
        self._diagnostics = Diagnostics(encoder=encoder, policy=self.model.policy)
        if self._pending_state is not None:
            self._restore(self._pending_state)

    def _on_training_start(self) -> None:
        self._recorder = Recorder(
            model=self.model,
            memory=self.memory,
            continues_episodes=self.continues_episodes,
        )
        self.continues_episodes = False
        self._next_diagnostics = self.model.num_timesteps + self.diagnostics_frames
        if self.n_anchors is None:
            self._n_drawn = min(default_n_anchors(self.model), self.memory.capacity)
        else:
            self._n_drawn = self.n_anchors
        self.steps_per_update = self.every or default_every(type(self.model), self._n_drawn)

    def _on_rollout_start(self) -> None:
        self.detach()
        self._rollout_from = self.model.num_timesteps
        if self.weight != 0.0:
            check_learns(self._encoder_parameters)
        if isinstance(self.model, OnPolicyAlgorithm):
            self.memory.begin_rollout()

    def _on_step(self) -> bool:
        self._recorder.record(self.locals)
        return True

    def _on_rollout_end(self) -> None:
        self.detach()
        self._running_learn = self.model.start_time
        self._updated = False
        self._handles.append(self._optimizer.register_step_pre_hook(self._before_step))
        self._handles.append(self._optimizer.register_step_post_hook(self._after_step))
        if self.model.num_timesteps // _FRAMES_TO_LOG > self._rollout_from // _FRAMES_TO_LOG:
            self.logger.record("memory/size", len(self.memory))
            self.logger.record("memory/known_returns", self.memory.known_fraction())
        if self.model.num_timesteps >= self._next_diagnostics and len(self.memory) > 0:
            self._next_diagnostics = self.model.num_timesteps + self.diagnostics_frames
            for name, value in self._diagnostics.measure(self.memory, self.loss).items():
                self.logger.record(name, value)

    def _on_training_end(self) -> None:
        self.detach()

    def detach(self) -> None:
        """Take the hook off the optimiser; harmless when there is none."""
        while self._handles:
            self._handles.pop().remove()

    def __enter__(self) -> AuxiliaryLossCallback:
        """The callback itself, for `with joined: model.learn(..., callback=joined)`."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Takes the hook off; an exception goes on."""
        self.detach()

    # -- one auxiliary update -----------------------------------------------------------------

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self.model.start_time != self._running_learn:
            self.detach()  # another learn() runs now, without this callback
            return
        self._n_steps += 1
        weight = self._current_weight()
        if weight == 0.0 or self._n_steps % self.steps_per_update:
            return
        try:
            with torch.random.fork_rng(devices=_cuda_devices(self._device)):
                self._update(weight)
        except BaseException:
            self.detach()  # learn() ends here without a word to its callbacks
            raise

    def _update(self, weight: float) -> None:
        """Add the balanced gradient of every term to the encoder's, and step the heads."""
        learner = self._learner
        batch = self._draw()
        if batch is None:
            return
        learner.progress = 1.0 - float(self.model._current_progress_remaining)
        term_weights = self.loss.term_weights(learner.progress)
        with torch.enable_grad():
            terms = dict(check_terms(self.loss, self.loss(learner, batch)))
        active = {name: t for name, t in terms.items() if term_weights.get(name, 1.0) > 0.0}
        values = {name: float(term.detach()) for name, term in terms.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"auxiliary loss term '{name}' is {value} after "
                    f"{self.n_updates} updates (frame {self.model.num_timesteps}); lower the "
                    "learning rate or raise the temperature"
                )
        rl = flattened([p.grad for p in self._changed], like=self._changed)
        rl_norm = float(vector_norm(rl))
        reference = self.reference.update(rl_norm)
        added = torch.zeros_like(rl)
        for i, (name, term) in enumerate(active.items()):
            term_weight = weight * term_weights.get(name, 1.0)
            gradient = self._gradient(term, retain=i < len(active) - 1, head_weight=term_weight)
            self._log_cosine(gradient, rl, rl_norm)
            added += balanced(
                gradient, rl, balance=self.balance, weight=term_weight, reference=reference
            )
        add_flattened(self._changed, added)
        if self._head_optimizer is not None:
            self._head_optimizer.step()
            for head in self._heads:
                head.grad = None
        self._updated = True
        self.n_updates += 1
        self._log_update(values, float(vector_norm(added)), rl_norm)

    def _draw(self) -> Any | None:
        """What the loss needs for one step; None, said once, while memory has no whole batch."""
        batch = None
        if len(self.memory) >= self._n_drawn:
            batch = self.loss.sample(
                self.memory, self._n_drawn, self.generator, source_memory=self.source_memory
            )
        if batch is not None:
            return batch
        if not self._said_waiting:
            self._said_waiting = True
            _log.warning(
                "the auxiliary loss waits: memory holds %d rows, too few for a batch of %d "
                "anchors; it begins when there are enough (n_anchors=... asks for fewer)",
                len(self.memory),
                self._n_drawn,
            )
        return None

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Encoder and heads have stepped: averages follow."""
        if self._updated:
            self._updated = False
            self.loss.after_step(self._learner)

    def _gradient(self, term: Tensor, *, retain: bool, head_weight: float) -> Tensor:
        """The term's gradient on the changed parameters, in one line; the heads' joins theirs."""
        if not term.requires_grad:
            return flattened([None] * len(self._changed), like=self._changed)
        wanted = [*self._changed, *self._heads]
        found = torch.autograd.grad(term, wanted, retain_graph=retain, allow_unused=True)
        scale = head_weight if self.balance == "none" else 1.0
        for head, gradient in zip(self._heads, found[len(self._changed) :], strict=True):
            own = torch.zeros_like(head) if gradient is None else scale * gradient
            head.grad = own if head.grad is None else head.grad + own
        return flattened(found[: len(self._changed)], like=self._changed)

    def _log_cosine(self, gradient: Tensor, rl: Tensor, rl_norm: float) -> None:
        length = float(vector_norm(gradient))
        if length > 0.0 and rl_norm > 0.0:
            cosine = float(torch.dot(gradient, rl)) / length / rl_norm
            self.logger.record_mean("aux/gradient_cosine", cosine)

    def _log_update(self, terms: dict[str, float], added_norm: float, rl_norm: float) -> None:
        self.logger.record_mean("aux/loss", sum(terms.values()))
        if len(terms) > 1:
            for name, value in terms.items():
                self.logger.record_mean(f"aux/loss_{name}", value)
        if rl_norm > 0.0:
            self.logger.record_mean("aux/gradient_ratio", added_norm / rl_norm)
        for name, value in self.loss.metrics.items():
            room = "memory" if name in _OF_MEMORY else "aux"
            self.logger.record_mean(f"{room}/{name}", value)

    def _current_weight(self) -> float:
        if callable(self.weight):
            remaining = min(max(float(self.model._current_progress_remaining), 0.0), 1.0)
            return check_weight(float(self.weight(remaining)), "the weight's schedule")
        return float(self.weight)

    @property
    def _learner(self) -> Learner:
        assert self.learner is not None, "the callback is not part of a learn() yet"
        return self.learner

    @property
    def _device(self) -> torch.device:
        return self._learner.device

    # -- persistence --------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write heads, their optimiser, memory, generators, loss state and counters to one file.

        The file is safetensors: tensors (the memory's packed, see `memory.pack`) and numbers, no
        code. The model is saved by its own `save`. `source_memory`, a loss outside the registry,
        a frozen teacher and a weight that is a function (not a number or a `WeightSchedule`) are
        not in it: pass them to `load`.

        Raises:
            ValueError: the callback has not been part of a `learn()` yet, or the path's directory
                is missing.
        """
        save_auxiliary(self, Path(path))

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        loss: AuxiliaryLoss | None = None,
        weight: float | Schedule | None = None,
        source_memory: Memory | None = None,
        keep: Keep | None = None,
    ) -> AuxiliaryLossCallback:
        """The callback as it was saved, to the bit; it continues in its next `learn()`.

        Under VecNormalize the keys alone are computed anew: its statistics are not in the file.

        Args:
            path: a file written by `save`.
            loss: a loss with the saved one's settings; needed where the loss is not in the
                registry, has a frozen teacher or a sampler given as an object. Nothing is
                imported from the file.
            weight: needed where the saved weight was a function; else it replaces the saved one.
            source_memory: needed where the saved callback had one.
            keep: needed where the memory had a policy of your own for what stays.

        Raises:
            ValueError: the file is broken, of another version, or needs one of the arguments.
        """
        return load_auxiliary(
            cls, Path(path), loss=loss, weight=weight, source=source_memory, keep=keep
        )

    def _restore(self, state: dict[str, Any]) -> None:
        """Put saved tensors into freshly built heads and optimiser."""
        check_heads(self._heads, state["heads"])
        try:
            self.loss.load_state_dict(state["loss"])
        except (RuntimeError, LookupError, TypeError) as error:
            raise ValueError(f"the auxiliary file's loss does not fit: {error}") from error
        if self._head_optimizer is not None and state["heads"]:
            groups = self._head_optimizer.state_dict()["param_groups"]
            self._head_optimizer.load_state_dict({"state": state["heads"], "param_groups": groups})
        self._pending_state = None


def _cuda_devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
