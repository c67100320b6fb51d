"""Parameters of trtnet that are tensors of a PyTorch module."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from trtnet.module import Parameter
from trtnet.torch_functions.calling import as_operand


class SharedParameter(Parameter):
    """A parameter or buffer of a PyTorch module, in its memory. New values replace the tensor in
    the module, so that those who share the old one keep it.

    Args:
        table: the module's parameters or buffers.
        name: which of them.
    """

    def __init__(self, table: dict[str, Any], name: str) -> None:
        self._table, self._name = table, name
        super().__init__(table[name].shape)

    @property
    def data(self) -> np.ndarray:
        """The array, of the tensor's memory where numpy has its type."""
        return as_operand(self._table[self._name])  # type: ignore[no-any-return]

    @data.setter
    def data(self, values: np.ndarray | None) -> None:
        if values is None:  # a new Parameter has none: the tensor's count
            return
        old = self._table[self._name]
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(old.dtype)
        is_parameter = isinstance(old, torch.nn.Parameter)
        self._table[self._name] = torch.nn.Parameter(tensor, False) if is_parameter else tensor
