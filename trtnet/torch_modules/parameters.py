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
    every place that the module has it in, so that others who share the old one keep it.

    Args:
        table: the parameters or buffers of the module, or of one inside it.
        name: which of them.
    """

    def __init__(self, table: dict[str, Any], name: str) -> None:
        super().__init__()
        self._table, self.name = table, name
        self._places = [(table, name)]
        self.optional = name == "num_batches_tracked"  # as in PyTorch; old checkpoints have none

    def also_in(self, table: dict[str, Any], name: str) -> None:
        """Says that the tensor has a second place, as the weights that two layers share have."""
        self._places.append((table, name))

    @property
    def memory(self) -> np.ndarray | None:
        """The array, of the tensor's memory where numpy has its type."""
        return as_operand(self._table[self.name])  # type: ignore[no-any-return]

    def write(self, values: np.ndarray | None) -> None:
        """Replaces the tensor."""
        assert values is not None
        old = self._table[self.name]
        tensor = torch.tensor(np.asarray(values)).to(old.dtype)  # a copy: the array may change
        is_parameter = isinstance(old, torch.nn.Parameter)
        new = torch.nn.Parameter(tensor, False) if is_parameter else tensor
        for table, name in self._places:
            table[name] = new

    @property
    def has_values(self) -> bool:
        """Whether the tensor lies in memory; those of the device "meta" do not."""
        return not self._table[self.name].is_meta

    @property
    def tensor(self) -> torch.Tensor:
        """The tensor that the module has now."""
        return self._table[self.name]  # type: ignore[no-any-return]

    @property
    def data(self) -> Any:
        """The tensor."""
        return self.tensor.detach()

    @data.setter
    def data(self, values: Any) -> None:
        self.array = np.asarray(values)

    @property
    def shape(self) -> Shape:
        """Sizes."""
        return Shape(self._table[self.name].shape)
