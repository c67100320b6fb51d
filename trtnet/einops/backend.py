"""How einops computes with Tensors: its own way to add a framework, a subclass of its backend."""

from __future__ import annotations

from typing import Any

from einops._backends import AbstractBackend

from trtnet import ops
from trtnet.host import as_host, network_of
from trtnet.tensor import Dim, Parameter, Tensor


class _Sizes(tuple[Any, ...]):
    """Sizes that einops keeps no results for: a Dim belongs to one network."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]


class TensorBackend(AbstractBackend):  # type: ignore[misc]
    """Operations of :class:`trtnet.Tensor` for einops, which finds this class by itself."""

    framework_name = "trtnet"

    def is_appropriate_type(self, tensor: Any) -> bool:
        """Whether `tensor` is a Tensor."""
        return isinstance(tensor, Tensor)

    def shape(self, x: Tensor) -> _Sizes:
        """Sizes, ints and Dims."""
        return _Sizes(x.shape)

    def reshape(self, x: Tensor, shape: Any) -> Any:
        """`x` with other sizes."""
        return ops.reshape(x, tuple(shape))

    def transpose(self, x: Tensor, axes: Any) -> Any:
        """`x` with its axes in another order."""
        return ops.permute(x, tuple(axes))

    def reduce(self, x: Tensor, operation: str, axes: Any) -> Any:
        """The minimum, maximum, sum, mean, product, any or all over `axes`."""
        if operation in ("any", "all", "prod"):
            for axis in sorted(axes, reverse=True):
                x = getattr(ops, operation)(x, axis)
            return x
        name = {"min": "amin", "max": "amax"}.get(operation, operation)
        return getattr(ops, name)(x, tuple(axes))

    def stack_on_zeroth_dimension(self, tensors: list[Any]) -> Any:
        """`tensors` along a new first axis."""
        return ops.stack(tensors)

    def add_axis(self, x: Tensor, new_position: int) -> Any:
        """`x` with an axis of size one."""
        return ops.unsqueeze(x, new_position)

    def add_axes(self, x: Any, n_axes: int, pos2len: Any) -> Any:
        """`x` repeated along new axes."""
        sizes: list[Any] = [-1] * n_axes
        for position, length in pos2len.items():
            x = ops.unsqueeze(x, position)
            sizes[position] = length
        return ops.expand(x, *sizes)

    def concat(self, tensors: list[Any], axis: int) -> Any:
        """`tensors` one after another."""
        return ops.cat(tensors, axis)

    def is_float_type(self, x: Tensor) -> bool:
        """Whether elements are floating-point numbers."""
        return x.is_floating_point()

    def einsum(self, pattern: str, *x: Any) -> Any:
        """``torch.einsum``."""
        return ops.einsum(pattern, *x)


def operand(value: Any, lengths: dict[str, Any]) -> Any:
    """`value`, a tensor or a list of tensors, as einops can take it: Parameters become values of
    the host, and constants of the network where a size or another tensor belongs to one."""
    network = network_of((value, lengths))
    if isinstance(value, (list, tuple)):
        return [_operand(item, network) for item in value]
    return _operand(value, network)


def _operand(value: Any, network: Any) -> Any:
    if isinstance(value, (Tensor, Dim)):
        return value
    if network is not None:
        return network.constant(value)
    return value.data if isinstance(value, Parameter) else as_host(value)
