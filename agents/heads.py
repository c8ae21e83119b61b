"""The heads of an auxiliary loss and the optimiser that steps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

_ADAM = {"step", "exp_avg", "exp_avg_sq"}


class Heads:
    """A loss's own parameters, stepped by an Adam that the model does not know of.

    Args:
        parameters: of the heads; may be empty.
        learning_rate: of Adam, per auxiliary update.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], *, learning_rate: float) -> None:
        self.parameters = parameters
        self._adam = (
            torch.optim.Adam(parameters, lr=learning_rate, fused=True) if parameters else None
        )

    def add_gradients(self, gradients: Sequence[Tensor | None], *, scale: float) -> None:
        """Add `scale` times a term's gradients, one for each parameter, None counting as zeros."""
        for head, gradient in zip(self.parameters, gradients, strict=True):
            own = torch.zeros_like(head) if gradient is None else scale * gradient
            head.grad = own if head.grad is None else head.grad + own

    def step(self) -> None:
        """One step of Adam; the gradients are gone afterwards."""
        if self._adam is not None:
            self._adam.step()
            self._adam.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The optimiser's state, by "index of the parameter/name"."""
        state = {} if self._adam is None else self._adam.state_dict()["state"]
        return {f"{i}/{name}": t for i, entries in state.items() for name, t in entries.items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `tensors` gave.

        Raises:
            ValueError: it belongs to other heads.
        """
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            index, _, name = key.partition("/")
            state.setdefault(int(index), {})[name] = tensor
        for number, entries in state.items():
            self._check(number, entries)
        if self._adam is not None and state:
            groups = self._adam.state_dict()["param_groups"]
            self._adam.load_state_dict({"state": state, "param_groups": groups})

    def _check(self, index: int, entries: Mapping[str, Tensor]) -> None:
        if not 0 <= index < len(self.parameters):
            raise ValueError(
                f"the auxiliary file has {index + 1} heads, the loss {len(self.parameters)}"
            )
        if entries.keys() != _ADAM:
            raise ValueError(
                f"the auxiliary file's head {index} has {sorted(entries)}, not {sorted(_ADAM)}"
            )
        for name, tensor in entries.items():
            wanted = torch.tensor(0.0) if name == "step" else self.parameters[index]
            if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
                raise ValueError(
                    f"the auxiliary file's {name} of head {index} is {tuple(tensor.shape)} "
                    f"{tensor.dtype}, not {tuple(wanted.shape)} {wanted.dtype}"
                )
