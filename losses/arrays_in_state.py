"""Numpy arrays of variable shape in a module's `state_dict()`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

_PREFIX = "arrays/"


class ArraysInState(nn.Module):
    """A module whose `state_dict()` includes numpy arrays of any number and shape."""

    def state_arrays(self) -> Mapping[str, np.ndarray]:
        """The arrays for `state_dict()`, by name."""
        raise NotImplementedError

    def restore_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Put back what `state_arrays` gave."""
        raise NotImplementedError

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, array in self.state_arrays().items():
            destination[f"{prefix}{_PREFIX}{name}"] = torch.from_numpy(np.array(array))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        start = f"{prefix}{_PREFIX}"
        names = [name for name in state_dict if name.startswith(start)]
        arrays = {name.removeprefix(start): state_dict.pop(name).numpy() for name in names}
        super()._load_from_state_dict(state_dict, prefix, *others)
        self.restore_arrays(arrays)
