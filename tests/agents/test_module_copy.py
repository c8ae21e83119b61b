"""Copies of modules: the same function, or a clear refusal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from contrastive_distillation.agents import (
    AuxiliaryLossCallback,
    FrozenPolicy,
    FrozenTeacher,
    copy_module,
    find_encoder,
)
from contrastive_distillation.losses import ContrastiveDistillation
from contrastive_distillation.memory import EpisodicMemory


class Net(nn.Module):
    """Two layers, and a place for what users add."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8))
        self.scale = nn.Parameter(torch.full((8,), 1.5))
        self.extra: Any = None

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]

    def scaled(self, _: nn.Module, given: Any, output: Tensor) -> Tensor:
        return output * self.scale


def _spectral(net: Net) -> None:
    net.layers[0] = spectral_norm(net.layers[0])


def _weight(net: Net) -> None:
    net.layers[0] = weight_norm(net.layers[0])


def _pruned(net: Net) -> None:
    prune.l1_unstructured(net.layers[0], "weight", 0.3)


def _parametrised(net: Net) -> None:
    parametrizations.spectral_norm(net.layers[0])
    parametrizations.orthogonal(net.layers[2])


def _output_hook(net: Net) -> None:
    net.layers[0].register_forward_hook(lambda _, given, output: 2.0 * output)


def _hook_of_its_own(net: Net) -> None:
    net.layers[2].register_forward_hook(net.scaled)


def _hook_on_a_closure(net: Net) -> None:
    net.layers[2].register_forward_hook(lambda _, given, output: output * net.scale)


def _pre_hook_of_an_object(net: Net) -> None:
    class Shift:
        by = torch.tensor(0.5)

        def __call__(self, _: nn.Module, given: Any) -> Any:
            return (given[0] + self.by,)

    net.layers.register_forward_pre_hook(Shift())


def _hook_with_keywords(net: Net) -> None:
    def double(_: nn.Module, given: Any, keywords: Any, output: Tensor) -> Tensor:
        return 2.0 * output

    net.register_forward_hook(double, with_kwargs=True)


def _patched_forward(net: Net) -> None:
    plain = net.layers[0].forward
    net.layers[0].forward = lambda x: 2.0 * plain(x)


def _backward_hook(net: Net) -> None:
    net.register_full_backward_hook(lambda *_: None)


def _stored_output(net: Net) -> None:
    net.layers[0].register_forward_hook(
        lambda m, given, output: setattr(net, "extra", {"seen": [output]})
    )


def _stored_lock(net: Net) -> None:
    net.extra = {"lock": threading.Lock(), "shift": torch.ones(8)}
    net.register_forward_hook(lambda m, given, output: output + m.extra["shift"])


def _lambda_attribute(net: Net) -> None:
    net.extra = lambda x: x * net.scale
    net.register_forward_hook(lambda m, given, output: m.extra(output))


def _compiled(net: Net) -> None:
    net.layers[0] = torch.compile(net.layers[0], backend="eager")  # type: ignore[assignment]


_CHANGES = (
    _spectral, _weight, _pruned, _parametrised, _output_hook, _hook_of_its_own, _hook_on_a_closure,
    _pre_hook_of_an_object, _hook_with_keywords, _patched_forward, _backward_hook, _stored_output,
    _stored_lock, _lambda_attribute, _compiled,
)  # fmt: skip


def train_step(net: nn.Module, inputs: Tensor) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    net(inputs).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("change", _CHANGES)
def test_a_copy_is_the_same_function_and_stays_it(change: Callable[[Net], None]) -> None:
    torch.manual_seed(0)
    net, inputs = Net(), torch.randn(16, 4)
    change(net)
    train_step(net, inputs)  # outputs are stored, weights are computed
    net.eval()
    wanted = net(inputs).detach().clone()
    own = copy_module(net).eval()
    torch.testing.assert_close(own(inputs), wanted, rtol=0.0, atol=0.0)
    mine = {id(t) for t in [*net.parameters(), *net.buffers()]}
    assert mine.isdisjoint(id(t) for t in [*own.parameters(), *own.buffers()])
    train_step(net.train(), inputs)
    assert not torch.allclose(net.eval()(inputs), wanted)
    torch.testing.assert_close(own(inputs), wanted, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("change", _CHANGES)
def test_a_copy_follows_its_own_weights(change: Callable[[Net], None]) -> None:
    """A moving average is written into: what it computes must come from its own weights."""
    torch.manual_seed(0)
    net, inputs = Net(), torch.randn(16, 4)
    change(net)
    own = copy_module(net)
    train_step(net, inputs)
    own.load_state_dict(net.state_dict())
    torch.testing.assert_close(own.eval()(inputs), net.eval()(inputs), rtol=0.0, atol=0.0)


def test_a_recurrent_layer_is_copied() -> None:
    net, inputs = nn.LSTM(4, 8), torch.randn(3, 2, 4)
    own = copy_module(net)
    torch.testing.assert_close(own(inputs)[0], net(inputs)[0], rtol=0.0, atol=0.0)


def test_models_and_environments_are_not_copied_along() -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16)
    model.policy.model = model  # type: ignore[assignment]
    own = copy_module(model.policy)
    assert own.model is model
    assert own.optimizer is None
    assert model.policy.optimizer is not None


def test_an_iterator_that_holds_tensors_is_refused() -> None:
    def noises(scale: Tensor) -> Iterator[Tensor]:
        while True:
            yield scale * torch.randn(8)

    net = Net()
    net.extra = noises(torch.ones(8))
    next(net.extra)
    with pytest.raises(ValueError, match=r"Net cannot be copied exactly.* attribute extra.*keep"):
        copy_module(net)


# -- in a training ------------------------------------------------------------------------------


class Attending(BaseFeaturesExtractor):
    """Normed, hooked, and it keeps its last attention."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, 16)
        self.score, self.value = spectral_norm(nn.Linear(4, 4)), weight_norm(nn.Linear(4, 16))
        self.attention: Tensor | None = None
        self.lock = threading.Lock()
        self.value.register_forward_hook(lambda _, given, output: 3.0 * output)

    def forward(self, x: Tensor) -> Tensor:
        self.attention = torch.softmax(self.score(x), dim=1)
        return torch.relu(self.value(self.attention * x))


def attending() -> PPO:
    kwargs = {"features_extractor_class": Attending, "net_arch": [16]}
    return PPO(
        "MlpPolicy", "CartPole-v1", n_steps=64, batch_size=32, n_epochs=2, seed=0,
        policy_kwargs=kwargs,
    )  # fmt: skip


def test_average_teacher_and_policy_are_the_encoder() -> None:
    model = attending()
    loss = ContrastiveDistillation(momentum=0.0)
    joined = AuxiliaryLossCallback(loss, memory=EpisodicMemory(), every=1, n_anchors=16)
    model.learn(128, callback=joined)
    loss.target_keys.averaged_encoder.update()
    model.policy.set_training_mode(False)
    seen = joined.memory.observations(joined.memory.rows()[:16])
    wanted = find_encoder(model)[0](seen).detach()
    for own in (loss.target_keys.averaged_encoder, FrozenTeacher.from_model(model)):
        torch.testing.assert_close(own(seen), wanted)
    logits = FrozenPolicy.from_model(model).logits(seen)
    distribution = model.policy.get_distribution(torch.as_tensor(seen)).distribution
    torch.testing.assert_close(logits, distribution.logits.detach())  # type: ignore[union-attr]


def test_measuring_the_width_leaves_the_encoder_as_it_was() -> None:
    class Counting(Attending):
        n_passes = 0

        def __init__(self, space: Any) -> None:
            super().__init__(space)
            self.register_buffer("n", torch.tensor(0))
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            self.n_passes += 1
            self.n += 1
            return super().forward(self.norm(x))

    model = attending()
    encoder = Counting(model.observation_space)
    model.policy.features_extractor = model.policy.pi_features_extractor = encoder
    model.policy.optimizer.add_param_group({"params": list(encoder.parameters())})
    state, drawn = {k: v.clone() for k, v in encoder.state_dict().items()}, torch.get_rng_state()
    found, _ = find_encoder(model)
    assert found.n_features == 16
    assert (encoder.n_passes, encoder.attention, encoder.training) == (0, None, True)
    assert all(torch.equal(state[name], now) for name, now in encoder.state_dict().items())
    assert torch.equal(drawn, torch.get_rng_state())
    assert np.isfinite(found(np.ones((2, 4), np.float32)).detach().numpy()).all()
