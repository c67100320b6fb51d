"""Arguments of layers and functions: expanding and checking them the way PyTorch does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from trtnet.dtypes import float32
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.names import parameter_name
from trtnet.ops.operands import whole
from trtnet.tensor import Parameter, Tensor
from trtnet.tensor.emitter import Emitter
from trtnet.values import array_from, shape_from

IntOrInts = int | Sequence[int]


def ntuple(value: Any, count: int, name: str) -> tuple[int, ...]:
    """`value` for every one of `count` axes: an int is repeated.

    Args:
        name: of the argument, for the error.

    Raises:
        ShapeError: something else than ints, or another number of them.
    """
    value = whole(value)
    many = isinstance(value, Iterable) and not isinstance(value, str)
    values = list(map(whole, value)) if many else [value]
    are_ints = all(isinstance(item, Integral) and not isinstance(item, bool) for item in values)
    if not are_ints or len(values) not in (1, count):
        wanted = "an int" if count == 1 else f"an int, or {count} ints"
        raise ShapeError(f"{name} must be {wanted}", got=repr(value))
    return tuple(int(item) for item in values) * (count // len(values))


def check_window(
    sizes: Sequence[Any], window: Sequence[int], padding: Sequence[int], op: str
) -> None:
    """Refuses a window that is larger than its padded input.

    Args:
        sizes: of the input's last axes; sizes known only at run time are not checked.
        window: how many positions the dilated kernel spans on each axis.
        padding: how many positions are added to each axis, both ends together.

    Raises:
        ShapeError: the window does not fit.
    """
    padded = [n + p if isinstance(n, int) else None for n, p in zip(sizes, padding, strict=True)]
    if any(n is not None and n < k for n, k in zip(padded, window, strict=True)):
        raise ShapeError(
            f"{op}: the kernel is larger than its input",
            expected=f"at most {tuple('?' if n is None else n for n in padded)} with padding",
            got=f"{tuple(window)} with dilation, input sizes {tuple(sizes)}",
            fix="use a smaller kernel or more padding, or a larger image in network.input(...)",
        )


def require(condition: bool, problem: str, **details: Any) -> None:
    """Raises :class:`UnsupportedError` for arguments that TensorRT cannot honour."""
    if not condition:
        raise UnsupportedError(problem, **details)


def array_of(value: Any, name: str, network: Emitter[Tensor]) -> np.ndarray:
    """The values of the parameter `name` as a floating-point array. `value` is a Parameter, or
    whatever :func:`trtnet.values.values_of` reads, and its errors are raised."""
    key = parameter_name(network.path, name)
    array = array_from(value.require(key) if isinstance(value, Parameter) else value, key)
    # float16 is stored small, and computed with like any other weight
    is_wide = array.dtype.kind == "f" and array.dtype != np.float16
    return array if is_wide else network.ledger.derive("cast", array, dtype=float32.value)


def scaled_rows(
    network: Emitter[Tensor],
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """What multiplies the rows of a weight by those of a BatchNorm that folds into it."""

    def scaled(weight: np.ndarray, scale: np.ndarray, out: np.ndarray) -> np.ndarray:
        return network.ledger.derive("scale_rows", weight, scale, out=out)

    return scaled


def shape_of(value: Any) -> tuple[Any, ...]:
    """The shape of a Tensor, of a Parameter with or without values, or of any other values."""
    return tuple(value.shape) if isinstance(value, (Parameter, Tensor)) else shape_from(value)


def optional_array(value: Any, name: str, network: Emitter[Tensor]) -> np.ndarray | None:
    """:func:`array_of`, or ``None`` for ``None``."""
    return None if value is None else array_of(value, name, network)


def check_input(x: Tensor, ndim: int | Sequence[int], op: str, channels: int | None = None) -> None:
    """Refuses an input of another rank, or with another number of channels on axis 1.

    Raises:
        ShapeError: names the module at which the shapes stop fitting.
    """
    ranks = [ndim] if isinstance(ndim, int) else list(ndim)
    if x.ndim not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise ShapeError(
            f"{op}: the input has the wrong rank",
            expected=f"rank {wanted} (batch, channels, ...)",
            got=f"rank {x.ndim}, {x!r}",
        )
    if channels is None:
        return
    have = x.pending.channels if x.pending else x.shape[1]
    if isinstance(have, int) and have != channels:
        raise ShapeError(
            f"{op}: the input has the wrong number of channels",
            expected=f"{channels} channels (axis 1)",
            got=f"{have}: {x!r}",
            fix="check the layer before this one, or the network's input shape",
        )


def check_channels(in_channels: int, out_channels: int, groups: int) -> None:
    """Refuses numbers of channels that are not positive, or that `groups` does not divide.

    Raises:
        ShapeError: names the arguments.
    """
    got = f"in_channels={in_channels}, out_channels={out_channels}, groups={groups}"
    if min(in_channels, out_channels, groups) < 1:
        raise ShapeError("channels and groups must be positive", got=got)
    if in_channels % groups or out_channels % groups:
        raise ShapeError(
            "channels must be divisible by groups", expected=f"multiples of {groups}", got=got
        )
