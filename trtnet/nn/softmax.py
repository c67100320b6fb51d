"""Softmax modules; the arithmetic is in ``trtnet/ops/softmax.py``."""

from __future__ import annotations

from trtnet import ops
from trtnet.errors import ShapeError
from trtnet.exports import export
from trtnet.module import Module
from trtnet.tensor import Tensor


class _AlongAxis(Module):
    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


@export
class Softmax(_AlongAxis):
    """``torch.nn.Softmax``; without `dim`, PyTorch's choice of the axis."""

    computes = "softmax"

    def forward(self, input: Tensor) -> Tensor:
        return ops.softmax(input, self.dim)


@export
class Softmin(_AlongAxis):
    """``torch.nn.Softmin``; see :class:`Softmax`."""

    computes = "softmax"

    def forward(self, input: Tensor) -> Tensor:
        return ops.softmin(input, self.dim)


@export
class LogSoftmax(_AlongAxis):
    """``torch.nn.LogSoftmax``; see :class:`Softmax`."""

    computes = "reduction"

    def forward(self, input: Tensor) -> Tensor:
        return ops.log_softmax(input, self.dim)


@export
class Softmax2d(Module):
    """``torch.nn.Softmax2d``: over the channels at each position of an image.

    Raises:
        ShapeError: an input of another rank than 3 or 4.
    """

    computes = "softmax"

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in (3, 4):
            raise ShapeError("Softmax2d: needs 3 or 4 axes", got=input.shape)
        return ops.softmax(input, -3)
