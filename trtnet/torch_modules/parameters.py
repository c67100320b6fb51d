"""Parameters of trtnet that are tensors of a PyTorch module."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from trtnet.module import Parameter
from trtnet.tensor.parameter import Shape
from trtnet.torch_functions.calling import as_operand


class SharedParameter(Parameter):
    """A parameter or buffer of a PyTorch module, in its memory. New values replace the tensor in
    the module, so that those who share the old one keep it.

    Args:
        table: the module's parameters or buffers.
        name: which of them.
    """

    def __init__(self, table: dict[str, Any], name: str) -> None:
        super().__init__()
        self._table, self.name = table, name

    @property
    def array(self) -> np.ndarray | None:
        """The array, of the tensor's memory where numpy has its type."""
        return as_operand(self._table[self.name])  # type: ignore[no-any-return]

    @array.setter
    def array(self, values: np.ndarray | None) -> None:
        assert values is not None
        old = self._table[self.name]
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(old.dtype)
        is_parameter = isinstance(old, torch.nn.Parameter)
        self._table[self.name] = torch.nn.Parameter(tensor, False) if is_parameter else tensor

    @property
    def has_values(self) -> bool:
        """Whether the tensor lies in memory; those of the device "meta" do not."""
        return not self._table[self.name].is_meta

    @property
    def data(self) -> Any:
        """The tensor."""
        return self._table[self.name].detach()

    @data.setter
    def data(self, values: Any) -> None:
        self.array = np.asarray(values)

    @property
    def shape(self) -> Shape:
        """Sizes."""
        return Shape(self._table[self.name].shape)
