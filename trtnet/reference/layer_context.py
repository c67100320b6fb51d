"""What an operation sees of the layer it computes, and what it answers with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from trtnet.errors import UnsupportedError
from trtnet.graph.types import Layer, TensorInfo
from trtnet.reference.dtypes import execution_dtype


@dataclass(frozen=True)
class TorchCall:
    """One call that computes a layer.

    Attributes:
        function: the function, or the name of a method of the first argument.
        args: positional arguments: nodes of the compiled graph, and constants.
        kwargs: keyword arguments, likewise.
    """

    function: Callable[..., Any] | str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerContext:
    """One layer during compilation: ``context["stride_nd"]`` is its attribute of that name.

    Attributes:
        layer: the layer itself.
        inputs: the values of its inputs (nodes of the compiled graph), ``None`` where nothing is
            connected.
        weights: the values of the weights it holds.
        tensors: every tensor of the graph by name.
        float64: whether floating values are computed in double precision.
    """

    layer: Layer
    inputs: tuple[Any, ...]
    weights: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    float64: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.layer.attributes[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The layer's attribute `name`, or `default` if it has none of that name."""
        return self.layer.attributes.get(name, default)

    @property
    def x(self) -> Any:
        """The value of the first input."""
        return self.inputs[0]

    def input(self, index: int) -> Any:
        """The value of input `index`, or ``None`` if the layer has no such input."""
        return self.inputs[index] if index < len(self.inputs) else None

    def weight(self, name: str, index: int) -> Any:
        """The layer's own weights called `name`, or input `index` that replaces them."""
        return self.weights[name] if name in self.weights else self.input(index)

    def info(self, index: int = 0) -> TensorInfo:
        """Name, dtype and shape of input `index`, which must be connected."""
        name = self.layer.inputs[index]
        assert name is not None, f"input {index} is not connected"
        return self.tensors[name]

    def output(self, index: int = 0) -> TensorInfo:
        """Name, dtype and shape of output `index`."""
        return self.tensors[self.layer.outputs[index]]

    @property
    def rank(self) -> int:
        """Rank of the first input."""
        return len(self.info().shape)

    def output_dtype(self, index: int = 0) -> torch.dtype:
        """The type output `index` has while the graph is executed."""
        return execution_dtype(self.output(index).dtype, self.float64)

    def unsupported(self, problem: str, got: object) -> UnsupportedError:
        """The error for a layer that the reference cannot execute; `got` is the value it lacks."""
        return UnsupportedError(problem, module=self.layer.name, got=got)


# What a layer type computes: from the context of a layer to the call that computes it.
Operation = Callable[[LayerContext], TorchCall]


def is_shape_value(info: TensorInfo) -> bool:
    """Whether a network input could be a size, axis or count; such values stay on the CPU."""
    return len(info.shape) <= 1 and info.dtype in ("int32", "int64")


def mask_axes(mask: int) -> tuple[int, ...]:
    """The axes whose bits are set in `mask`; TensorRT passes a set of axes as such a mask."""
    return tuple(axis for axis in range(mask.bit_length()) if mask >> axis & 1)


def integers(values: Any) -> tuple[int, ...]:
    """The elements of a shape tensor, or of a sequence of ints, as a tuple of ints."""
    if isinstance(values, torch.Tensor):
        values = values.reshape(-1).tolist()
    return tuple(int(value) for value in values)
