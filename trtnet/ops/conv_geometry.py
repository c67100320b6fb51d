"""The sizes of a convolution, and the layer that has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trtnet.errors import ShapeError
from trtnet.ops.arguments import check_window, shape_of
from trtnet.ops.operands import insert_axes, remove_axes
from trtnet.ops.windows import window_count
from trtnet.tensor import Tensor


@dataclass(frozen=True)
class Geometry:
    """Sizes of a convolution: those of its weight, and how the window moves."""

    rank: int
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def lift(self) -> list[int]:
        """A 1 where TensorRT, which has no 1-D convolution, needs an axis of size one."""
        return [1] if self.rank == 1 else []

    @property
    def window(self) -> list[int]:
        """The kernel's sizes as TensorRT gets them."""
        return [*self.lift, *self.weight[2:]]

    @property
    def spans(self) -> list[int]:
        """Positions that the dilated kernel spans."""
        return [d * (k - 1) + 1 for k, d in zip(self.weight[2:], self.dilation, strict=True)]

    @property
    def padding(self) -> list[int]:
        """Padding of both ends together."""
        return [a + b for a, b in zip(self.before, self.after, strict=True)]

    def check(self, x: Tensor) -> None:
        """Refuses a kernel that is larger than its padded input."""
        check_window(x.shape[2:], self.spans, self.padding, f"conv{self.rank}d")

    def layer(
        self,
        x: Tensor,
        kernel: np.ndarray | None,
        bias: np.ndarray | None,
        inputs: dict[int, Tensor],
    ) -> Tensor:
        """The layer, whose input has the extra axis where `lift` says so."""
        network, lift = x.network, self.lift
        axes = zip(x.shape[2:], self.padding, self.spans, self.stride, strict=True)
        zero = [0] * len(lift)
        return network.emit(
            "conv",
            "add_convolution_nd",
            insert_axes(x, [2]) if lift else x,
            self.weight[0],
            self.window,
            network.weights(kernel, x.dtype, name="weight"),
            network.weights(bias, x.dtype, name="bias"),
            inputs=inputs,
            dims=[x.shape[0], self.weight[0], *lift, *[window_count(*axis) for axis in axes]],
            stride_nd=lift + list(self.stride),
            pre_padding=zero + list(self.before),
            post_padding=zero + list(self.after),
            dilation_nd=lift + list(self.dilation),
            num_groups=self.groups,
        )

    def lowered(self, out: Tensor) -> Tensor:
        """`out` without the extra axis."""
        return remove_axes(out, [2]) if self.lift else out


def weight_sizes(weight: Any, rank: int, op: str) -> tuple[int, ...]:
    """The shape of a convolution's weight, which must be fixed.

    Raises:
        ShapeError: another rank, or an axis that is known only at run time.
    """
    sizes = tuple(weight.shape) if isinstance(weight, Tensor) else shape_of(weight)
    if len(sizes) != rank + 2 or not all(isinstance(size, int) for size in sizes):
        raise ShapeError(
            f"{op}: the weight needs {rank + 2} axes of fixed sizes",
            expected=f"rank {rank + 2}",
            got=sizes,
            fix="give the axes it is made from fixed sizes in network.input(...)",
        )
    return sizes


def check_groups(channels: int, groups: Any, op: str) -> None:
    """Refuses `groups` that are not positive or do not divide the weight's first axis."""
    if not isinstance(groups, int) or groups < 1 or channels % groups:
        raise ShapeError(
            f"{op}: groups must divide the weight's first axis",
            expected=f"a divisor of {channels}",
            got=groups,
        )
