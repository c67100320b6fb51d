"""PyTorch's lazy layers, which take the number of channels from their first input: refused."""

from __future__ import annotations

from typing import Any

from trtnet.errors import UnsupportedError
from trtnet.exports import export
from trtnet.module import Module


class _Lazy(Module):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        raise UnsupportedError(
            f"{name} has no weights before its first call, so none can be loaded",
            fix=f"use nn.{name.removeprefix('Lazy')} with the number of inputs",
        )


@export
class LazyLinear(_Lazy):
    """``torch.nn.LazyLinear``: raises UnsupportedError."""


@export
class LazyConv1d(_Lazy):
    """``torch.nn.LazyConv1d``: raises UnsupportedError."""


@export
class LazyConv2d(_Lazy):
    """``torch.nn.LazyConv2d``: raises UnsupportedError."""


@export
class LazyConv3d(_Lazy):
    """``torch.nn.LazyConv3d``: raises UnsupportedError."""


@export
class LazyConvTranspose1d(_Lazy):
    """``torch.nn.LazyConvTranspose1d``: raises UnsupportedError."""


@export
class LazyConvTranspose2d(_Lazy):
    """``torch.nn.LazyConvTranspose2d``: raises UnsupportedError."""


@export
class LazyConvTranspose3d(_Lazy):
    """``torch.nn.LazyConvTranspose3d``: raises UnsupportedError."""
