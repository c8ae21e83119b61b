"""`AuxiliaryLossCallback`: adds an auxiliary loss to a Stable-Baselines3 model while it learns."""

from __future__ import annotations

import logging
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from contrastive_distillation.losses import AuxiliaryLoss
from contrastive_distillation.memory import EvictionPolicy, Memory

from .auxiliary_file import load_auxiliary, save_auxiliary
from .balance import BALANCES, ReferenceNorm, add_flattened, balanced, flattened
from .checks import (
    check_device,
    check_learns,
    check_loss,
    check_memories,
    check_stepped,
    check_teachers,
    check_terms,
    whole_number,
)
from .diagnostics import EncoderDiagnostics
from .encoder_lookup import find_encoder, parts_of, same_parts, trained_parts_of
from .heads import Heads
from .learner import Learner, reward_scale_of
from .observation_encoder import ObservationEncoder, forked_generators
from .record_memory import RecordMemory, discount_of, not_called_by_learn
from .schedules import Schedule, check_weight
from .teachers import MovingAverageTeacher
from .update_frequency import DEFAULT_EVERY, default_every, default_n_anchors

_log = logging.getLogger(__name__)

_OF_MEMORY = {"masked_fraction", "duplicate_rate", "key_age", "key_drift"}


class AuxiliaryLossCallback(RecordMemory):
    """Regularises a model's encoder with an auxiliary loss while Stable-Baselines3 trains it.

    Every transition is written into `memory` (see `RecordMemory`). Before each step of the
    optimiser that owns the encoder, a pre-hook draws anchors from memory, takes the loss's
    gradient with respect to the encoder and the loss's heads, balances it against the
    reinforcement-learning gradient that is already there (after the model's own clipping), and
    adds it. The heads have an Adam of their own; the saved model stays a plain Stable-Baselines3
    zip. After Lengerich et al. 2022, arXiv 2212.11353; docs/plug_in.md explains it step by step.

    Example:
        from stable_baselines3 import PPO
        from contrastive_distillation.agents import AuxiliaryLossCallback
        from contrastive_distillation.losses import ContrastiveDistillation
        from contrastive_distillation.memory import EpisodicMemory

        loss, memory = ContrastiveDistillation(), EpisodicMemory(capacity=50_000)
        auxiliary = AuxiliaryLossCallback(loss, memory=memory, encoder="mlp_extractor.policy_net")
        model = PPO("MlpPolicy", "CartPole-v1", n_steps=256)
        model.learn(512, callback=auxiliary)

    The hook exists only between a rollout's end and the next rollout's start. It is removed when
    the loss raises, and it removes itself when another `learn()` runs without the callback; `with
    auxiliary:` around `learn()` removes it at once, after any exception. The callback may serve
    several `learn()` of one model; for another model it builds new heads (`save` and `load` keep
    the old ones).

    Args:
        loss: the auxiliary loss; its terms are balanced one by one.
        memory: receives the transitions, raw observations and rewards of any dtype; no other
            callback may write into it.
        weight: how much of the auxiliary gradient, dimensionless: its norm relative to the RL
            gradient's on the encoder ("norm", "project"), or the plain coefficient ("none"); a
            number ≥ 0, a `WeightSchedule`, or a function of the remaining progress (1 → 0), as
            Stable-Baselines3's schedules. 0 leaves the model bit-identical to one without the
            callback.
        balance: "norm" | "project" (gradient surgery, arXiv 2001.06782) | "none", see
            `agents.balance.balanced`.
        every: optimiser steps for each auxiliary update, ≥ 1; the cost of the loss is in inverse
            proportion. Default 8, or 16 where an update costs more relative to the steps: with
            DQN, and with fewer than 64 anchors.
        n_anchors: anchors (rows) per auxiliary update, 1 … the memory's capacity; default
            min(256, a quarter of the RL minibatch), at least 8 if memory has room. The loss waits
            until the memory holds so many rows, and logs one warning.
        encoder: "auto" | "policy" | "value" | "actor" | "critic" or a module path in the policy,
            see `find_encoder`.
        source_memory: a source agent's memory, for losses that rehearse source observations.
        head_learning_rate: of the heads' Adam, per auxiliary update.
        diagnostics_frames: frames between two measurements of `EncoderDiagnostics`.
        seed: of the anchors, negatives and heads; the global generators are never drawn from.
        verbose: as in every Stable-Baselines3 callback.

    Attributes:
        n_updates: auxiliary updates so far.
        n_steps: optimiser steps so far.
        steps_per_update: optimiser steps for each update: `every` or, from `learn()` on, its
            default.
        learner: the loss's view of the agent (`Learner`); None before the first `learn()`.

    Logged, in the model's own logger (each explained in docs/plug_in.md):
        aux/loss, and aux/loss_NAME for each of several terms; aux/gradient_ratio: norm of the
        added gradient over that of the RL gradient; aux/gradient_cosine with the RL gradient;
        the loss's own metrics, for contrastive distillation aux/accuracy, memory/masked_fraction,
        memory/key_drift and others; memory/size and memory/known_returns of `RecordMemory`;
        aux/entropy and aux/effective_rank of `EncoderDiagnostics`.

    Raises:
        ValueError: an argument out of range or of another kind; at the start of `learn()`: an
            algorithm without optimiser steps (TRPO, ARS), an encoder without parameters or owned
            by no optimiser, a frozen one, one on another device than the model, a teacher or a
            memory of other observations, an observation space that cannot be stored, or
            VecNormalize inside another wrapper; during it: `forward` returns no scalars, or
            another callback writes into the memory. The text says what to do instead.
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
        super().__init__(memory, verbose=verbose)
        check_loss(loss)
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
        self.learner: Learner | None = None
        self.heads = Heads([], learning_rate=head_learning_rate)
        self.reference = ReferenceNorm()
        self.n_updates = self.n_steps = 0
        self.steps_per_update = every or DEFAULT_EVERY
        self._diagnostics = EncoderDiagnostics(
            memory, encoder=encoder, frames=self.diagnostics_frames, loss=loss
        )
        self._handles: list[Any] = []
        self._parts: list[Any] = []
        self._n_rollouts = self._n_steps_seen = 0
        self._is_told_of_rollouts = False
        self._has_warned = False
        self._tensors_to_load: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None

    # -- one learn() --------------------------------------------------------------------------

    def _init_callback(self) -> None:
        self.detach()
        self._look_up()
        alike = None if self.loss.source_may_differ else self.source_memory
        check_memories(self.model, self.memory, alike)
        self._diagnostics.init_callback(self.model)

    def _look_up(self) -> None:
        """Find the encoder and its optimiser as they are now; build the loss if they are others."""
        encoder, self._optimizer = find_encoder(self.model, self.encoder)
        parts = [self.model.policy, *parts_of(encoder.stages)]
        if self.learner is None or not same_parts(parts, self._parts):
            if self.learner is not None and self.learner.policy is self.model.policy:
                _log.info("the model's encoder is another than before: the loss's heads are new")
            self.learner = self._build(encoder)
        self._parts, self._looked_at = parts, trained_parts_of(self.model.policy)
        learner = self.learner
        learner.encoder.stages, learner.encoder.normalise = encoder.stages, encoder.normalise
        learner.optimizer = self._optimizer
        learner.reward_scale = partial(reward_scale_of, self.model)
        check_device(self.model, learner.encoder, self.loss)
        check_teachers(self.model, self.loss)
        self._changed = self.loss.changed_parameters(learner)
        check_stepped(self._changed, learner, self.loss)
        for module in self.loss.modules():
            if isinstance(module, MovingAverageTeacher):
                module.follow(encoder.normalise)

    def _look_again(self) -> None:
        """Look up the encoder if the policy has changed; about once for each update."""
        self._n_rollouts += 1
        passed = max(self._n_rollouts, self.n_steps - self._n_steps_seen)
        if self._n_rollouts == 1 or passed >= self.steps_per_update:
            self._n_rollouts, self._n_steps_seen = 1, self.n_steps
            if not same_parts(trained_parts_of(self.model.policy), self._looked_at):
                self._look_up()

    def _build(self, encoder: ObservationEncoder) -> Learner:
        """Build the loss's heads and their optimiser, without using the global generators."""
        learner = Learner(
            policy=self.model.policy,
            encoder=encoder,
            gamma=discount_of(self.model),
            optimizer=self._optimizer,
        )
        with forked_generators(encoder.device):
            torch.manual_seed(self.seed)
            self.loss.build(learner)
        self.loss.metrics = {}
        self.loss.to(encoder.device)
        self.heads = Heads(self.loss.head_parameters(), learning_rate=self.head_learning_rate)
        if self._tensors_to_load is not None:
            of_loss, of_heads = self._tensors_to_load
            self.heads.load_tensors(of_heads)
            try:
                self.loss.load_state_dict(of_loss)
            except (RuntimeError, LookupError, TypeError) as error:
                raise ValueError(f"the auxiliary file's loss does not fit: {error}") from error
            self._tensors_to_load = None
        return learner

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._diagnostics.on_training_start(self.locals, self.globals)
        self._is_told_of_rollouts, self._n_rollouts = False, 0
        self._n_steps_before = self._n_steps_seen = self.n_steps
        self._n_drawn = self.n_anchors or min(default_n_anchors(self.model), self.memory.capacity)
        self.steps_per_update = self.every or default_every(type(self.model), self._n_drawn)

    def _on_rollout_start(self) -> None:
        self.detach()
        super()._on_rollout_start()
        self._is_told_of_rollouts = True
        if self.weight != 0.0:
            check_learns(self._learner.encoder.parameters())

    def _on_rollout_end(self) -> None:
        self.detach()
        super()._on_rollout_end()
        self._look_again()
        self._diagnostics.on_rollout_end()
        self._running_learn = self.model.start_time
        self._updated = False
        self._handles.append(self._optimizer.register_step_pre_hook(self._before_step))
        self._handles.append(self._optimizer.register_step_post_hook(self._after_step))

    def _on_step(self) -> bool:
        if not self._is_told_of_rollouts:
            raise ValueError(not_called_by_learn(self))
        return super()._on_step()

    def _on_training_end(self) -> None:
        self.detach()
        if self.weight != 0.0 and self.n_steps == self._n_steps_before:
            _log.warning(
                "the auxiliary loss has changed nothing: during this learn(), %s took no step of "
                "the optimiser (%s) that holds the encoder; train for more frames than "
                "learning_starts or a rollout has, or step that optimiser",
                type(self.model).__name__,
                type(self._optimizer).__name__,
            )

    def detach(self) -> None:
        """Remove the hook from the optimiser, if there is one."""
        while self._handles:
            self._handles.pop().remove()

    def __enter__(self) -> AuxiliaryLossCallback:
        """The callback itself, for `with auxiliary: model.learn(..., callback=auxiliary)`."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Remove the hook; an exception propagates."""
        self.detach()

    # -- one auxiliary update -----------------------------------------------------------------

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """The hook: the RL gradient is complete, and the optimiser has not used it yet."""
        if self.model.start_time != self._running_learn:
            self.detach()  # another learn() runs now, without this callback
            return
        self.n_steps += 1
        weight = self._current_weight()
        if weight == 0.0 or self.n_steps % self.steps_per_update:
            return
        try:
            with forked_generators(self._learner.device):
                batch = self._next_batch()
                if batch is not None:
                    self._update(batch, weight)
        except BaseException:
            self.detach()  # learn() ends here without calling its callbacks
            raise

    def _update(self, batch: Any, weight: float) -> None:
        """Add every term's balanced gradient to the RL gradient, and step the heads.

        With r the RL gradient on the parameters that the loss changes, and g_i the gradient of
        term i there: r ← r + Σ_i balanced(g_i, r; weight · term_weight_i).
        """
        learner = self._learner
        learner.progress = 1.0 - float(self.model._current_progress_remaining)
        term_weights = self.loss.term_weights(learner.progress)
        with torch.enable_grad():
            terms = check_terms(self.loss, self.loss(learner, batch))
        values = {name: self._finite(name, term) for name, term in terms.items()}
        changed = [parameter for parameter in self._changed if parameter.requires_grad]
        if self._changed:  # a loss may change nothing but its heads
            check_learns(changed)
        active = [name for name in terms if term_weights.get(name, 1.0) > 0.0]

        rl = flattened([parameter.grad for parameter in changed], like=changed)
        rl_norm = float(vector_norm(rl))
        reference = self.reference.update(rl_norm)
        added = torch.zeros_like(rl)
        for name in active:
            term_weight = weight * term_weights.get(name, 1.0)
            gradient = self._gradient(
                terms[name], changed, retain=name != active[-1], head_weight=term_weight
            )
            added += balanced(
                gradient, rl, balance=self.balance, weight=term_weight, reference=reference
            )
            self._log_cosine(gradient, rl, rl_norm)
        add_flattened(changed, added)
        self.heads.step()

        self._updated = True
        self.n_updates += 1
        self._log_update(values, float(vector_norm(added)), rl_norm)

    def _gradient(
        self, term: Tensor, changed: list[nn.Parameter], *, retain: bool, head_weight: float
    ) -> Tensor:
        """The term's gradient on the changed parameters, (n,); that on the heads is added there."""
        n = len(changed)
        if not term.requires_grad:
            return flattened([None] * n, like=changed)
        wanted = [*changed, *self.heads.parameters]
        found = torch.autograd.grad(term, wanted, retain_graph=retain, allow_unused=True)
        self.heads.add_gradients(found[n:], scale=head_weight if self.balance == "none" else 1.0)
        return flattened(found[:n], like=changed)

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Encoder and heads have stepped: let the loss update its moving averages."""
        if self._updated:
            self._updated = False
            self.loss.after_step(self._learner)

    def _next_batch(self) -> Any | None:
        """The loss's next batch; None, with one warning, while memory holds too few rows."""
        batch = None
        if len(self.memory) >= self._n_drawn:
            batch = self.loss.sample(
                self.memory, self._n_drawn, self.generator, source_memory=self.source_memory
            )
        if batch is None and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "the auxiliary loss waits: memory holds %d rows, too few for a batch of %d "
                "anchors; it begins when there are enough (n_anchors=... asks for fewer)",
                len(self.memory),
                self._n_drawn,
            )
        return batch

    def _current_weight(self) -> float:
        if callable(self.weight):
            remaining = min(max(float(self.model._current_progress_remaining), 0.0), 1.0)
            return check_weight(float(self.weight(remaining)), "the weight's schedule")
        return float(self.weight)

    def _finite(self, name: str, term: Tensor) -> float:
        value = float(term.detach())
        if not math.isfinite(value):
            raise FloatingPointError(
                f"auxiliary loss term '{name}' is {value} after {self.n_updates} updates (frame "
                f"{self.model.num_timesteps}); lower the learning rate or raise the temperature"
            )
        return value

    @property
    def _learner(self) -> Learner:
        assert self.learner is not None, "the callback is not part of a learn() yet"
        return self.learner

    # -- logging ------------------------------------------------------------------------------

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

    # -- files --------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write heads, their optimiser, memory, generators, loss state and counters to one file.

        The file is safetensors: tensors (the memory's packed, see `memory.pack`) and numbers, no
        code. Save the model with its own `save`. `source_memory`, a loss outside the registry, a
        frozen teacher and a weight that is a function (not a number or a `WeightSchedule`) are not
        in it: pass them to `load`.

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
        keep: EvictionPolicy | None = None,
    ) -> AuxiliaryLossCallback:
        """The callback as it was saved, to the bit; it continues in its next `learn()`.

        Under VecNormalize the keys are computed again, as its statistics are not in the file.

        Args:
            path: a file written by `save`.
            loss: a loss with the saved one's settings; needed where the loss is not in the
                registry, has a frozen teacher or a sampler given as an object. Nothing is
                imported from the file.
            weight: needed where the saved weight was a function; else it replaces the saved one.
            source_memory: needed where the saved callback had one.
            keep: needed where the memory had an eviction policy of your own.

        Raises:
            ValueError: the file is broken, of another version, or needs one of the arguments.
        """
        return load_auxiliary(
            cls, Path(path), loss=loss, weight=weight, source=source_memory, keep=keep
        )

    def load_tensors(self, of_loss: dict[str, Tensor], of_heads: dict[str, Tensor]) -> None:
        """Give the loss (its state dict) and `heads` these tensors when `learn()` builds them."""
        self._tensors_to_load = of_loss, of_heads
