"""Constructor arguments: expanding and checking them the way PyTorch does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.dtypes import float32
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.names import parameter_name

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

IntOrInts = int | Sequence[int]


def ntuple(value: Any, count: int, name: str) -> tuple[int, ...]:
    """`value` for every one of `count` axes: an int is repeated."""
    if isinstance(value, (int, np.integer)):
        return (int(value),) * count
    values = tuple(int(item) for item in value)
    if len(values) == 1:
        return values * count
    if len(values) != count:
        raise ShapeError(f"{name} needs one value, or {count}", got=values)
    return values


def require(condition: bool, problem: str, **details: Any) -> None:
    """Raises :class:`UnsupportedError` for arguments that TensorRT cannot honour."""
    if not condition:
        raise UnsupportedError(problem, **details)


def array_of(value: Any, name: str, path: str) -> np.ndarray:
    """The float32 array behind a Parameter or array-like called `name`."""
    if hasattr(value, "require"):
        value = value.require(parameter_name(path, name))
    array = np.asarray(value)
    if array.dtype == np.float16:  # stored small; computed with like any other weight
        return array.astype(np.float32)
    return array if array.dtype.kind == "f" else array.astype(float32.value)


def optional_array(value: Any, name: str, path: str) -> np.ndarray | None:
    return None if value is None else array_of(value, name, path)


def check_input(x: Tensor, ndim: int | Sequence[int], op: str, channels: int | None = None) -> None:
    """Refuses an input of another rank, or with another number of channels on axis 1.

    Raises:
        ShapeError: names the module at which the shapes stop fitting.
    """
    ranks = [ndim] if isinstance(ndim, int) else list(ndim)
    path = x.network.path or None
    if x.ndim not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise ShapeError(
            f"{op}: the input has the wrong rank",
            module=path,
            expected=f"rank {wanted} (batch, channels, ...)",
            got=f"rank {x.ndim}, {x!r}",
        )
    if channels is None:
        return
    have = x.pending.channels if x.pending else x.shape[1]
    if isinstance(have, int) and have != channels:
        raise ShapeError(
            f"{op}: the input has the wrong number of channels",
            module=path,
            expected=f"{channels} channels (axis 1)",
            got=f"{have}: {x!r}",
            fix="check the layer before this one, or the network's input shape",
        )


def check_channels(in_channels: int, out_channels: int, groups: int) -> None:
    """Refuses channels that do not divide into `groups`."""
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ShapeError(
            "channels must be divisible by groups",
            expected=f"multiples of {groups}",
            got=f"in_channels={in_channels}, out_channels={out_channels}",
        )
