"""Transposed convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtnet.dtypes import bfloat16, float32
from trtnet.errors import ShapeError
from trtnet.ops.arguments import IntOrInts, array_of, check_input, optional_array
from trtnet.ops.conv import add_channels
from trtnet.ops.conv_geometry import check_groups, weight_sizes
from trtnet.ops.elementwise import add
from trtnet.ops.joining import narrow
from trtnet.ops.operands import as_tensor, insert_axes, remove_axes
from trtnet.ops.operator import operator
from trtnet.ops.padding import pad
from trtnet.ops.shape import reshape
from trtnet.ops.windows import far_and_near, ints
from trtnet.tensor import Tensor
from trtnet.tensor.emitter import Emitter


@operator(methods=())
def conv_transpose1d(
    input: Tensor,
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> Tensor:
    """``torch.nn.functional.conv_transpose1d``: weight (C, K / groups, R); emitted as a 2-D
    deconvolution of height one. See :func:`deconvolve` for weights that are tensors."""
    return deconvolve(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@operator(methods=())
def conv_transpose2d(
    input: Tensor,
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> Tensor:
    """``torch.nn.functional.conv_transpose2d``: weight (C, K / groups, R, S)."""
    return deconvolve(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@operator(methods=())
def conv_transpose3d(
    input: Tensor,
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> Tensor:
    """``torch.nn.functional.conv_transpose3d``."""
    return deconvolve(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def deconvolve(
    rank: int,
    input: Tensor,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    """A transposed convolution over the last `rank` axes, of an input with or without a batch
    axis; weight (C, K / groups, ...).

    `weight` and `bias` may be tensors that the network computes. Such a weight has fixed sizes,
    is never quantized, and no BatchNorm folds into it.

    Raises:
        ShapeError: an input of another rank or with other channels; arguments that do not fit.
    """
    op = f"conv_transpose{rank}d"
    sizes = weight_sizes(weight, rank, op)
    if input.ndim == rank + 1:
        single = insert_axes(input, [0])
        rest = (weight, bias, stride, padding, output_padding, groups, dilation)
        return remove_axes(deconvolve(rank, single, *rest), [0])
    check_groups(sizes[0], groups, op)
    check_input(input, (rank + 2, rank + 1), op, sizes[0])
    geometry = _Geometry(
        rank,
        sizes,
        ints(stride, rank, "stride", 1),
        ints(padding, rank, "padding", 0),
        ints(output_padding, rank, "output_padding", 0),
        ints(dilation, rank, "dilation", 1),
        groups,
    )
    geometry.check(input)
    # TensorRT-RTX deconvolves neither bfloat16 values nor with stride and dilation at once
    network = input.network
    dtype = float32 if network.compute_dtype is bfloat16 else network.compute_dtype
    if isinstance(weight, Tensor) or isinstance(bias, Tensor):
        x = network.cast(input, dtype)
        kernel = network.cast(as_tensor(weight, x, align=False), dtype)
        return network.compute(geometry.with_bias(geometry.by_tensor(x, kernel), bias))
    format = network.quantizer.format("deconvolution", groups)
    values = array_of(weight, "weight", network)
    x = network.quantizer.activation(input, format, dtype)

    def emit(weight: np.ndarray, bias: np.ndarray | None) -> Tensor:
        weight = geometry.raised(network, weight)
        kernel, inputs = network.quantizer.kernel(weight, format, 1, "weight", dtype)
        inside = None if any(geometry.beyond) else bias
        out = geometry.layer(x, kernel, inside, inputs)
        network.quantizer.product(out, format, convolution=True)
        out = geometry.completed(out)
        return network.compute(out if bias is inside else geometry.with_bias(out, bias))

    def scaled(weight: np.ndarray, scale: np.ndarray, out: np.ndarray) -> np.ndarray:
        return network.ledger.derive("scale_columns", weight, scale, groups=groups, out=out)

    bias_array = optional_array(bias, "bias", network)
    return network.defer(values, bias_array, rank + 2, geometry.outputs, scaled, emit)


@dataclass(frozen=True)
class _Geometry:
    """Sizes of a transposed convolution: those of its weight, and how the window moves."""

    rank: int
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    extra: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def outputs(self) -> int:
        """Output channels."""
        return self.weight[1] * self.groups

    @property
    def lift(self) -> list[int]:
        """A 1 where TensorRT, which deconvolves 2 or 3 axes, needs an axis of size one."""
        return [1] if self.rank == 1 else []

    @property
    def spreads(self) -> bool:
        """Whether the kernel gets zeros between its elements instead of a dilation."""
        return any(s > 1 for s in self.stride) and any(d > 1 for d in self.dilation)

    @property
    def after(self) -> list[int]:
        """What is cut off at the far end: `output_padding` keeps more of it."""
        return [max(p - e, 0) for p, e in zip(self.before, self.extra, strict=True)]

    @property
    def beyond(self) -> list[int]:
        """Positions of `output_padding` that no input reaches; they hold the bias alone."""
        return [max(e - p, 0) for p, e in zip(self.before, self.extra, strict=True)]

    def sizes(self, x: Tensor) -> list[Any]:
        """The output's sizes, without the positions in `beyond`."""
        rows = zip(
            x.shape[-self.rank :], self.weight[2:], self.stride, self.before, self.after,
            self.dilation, strict=True,
        )  # fmt: skip
        return [n * s + (d * (k - 1) + 1 - s - p - q) for n, k, s, p, q, d in rows]

    def check(self, x: Tensor) -> None:
        """Raises ShapeError for arguments that PyTorch refuses."""
        for extra, step, spread in zip(self.extra, self.stride, self.dilation, strict=True):
            if extra >= max(step, spread):
                raise ShapeError(
                    "output_padding must be smaller than stride or dilation",
                    expected=f"< {max(step, spread)}",
                    got=extra,
                )
        sizes = [a + b for a, b in zip(self.sizes(x), self.beyond, strict=True)]
        if any(isinstance(size, int) and size < 1 for size in sizes):
            raise ShapeError(
                "conv_transpose: the output would be empty",
                expected="less padding, or a larger input",
                got=f"output {tuple(sizes)} for {x!r}",
            )

    def layer(
        self,
        x: Tensor,
        kernel: np.ndarray | None,
        bias: np.ndarray | None,
        inputs: dict[int, Tensor],
    ) -> Tensor:
        """The layer; where `lift` says so its output has an extra axis 2."""
        network, lift, zero = x.network, self.lift, [0] * len(self.lift)
        window = self.weight[2:]
        if self.spreads:
            window = tuple(d * (k - 1) + 1 for k, d in zip(window, self.dilation, strict=True))
        return network.emit(
            "deconv",
            "add_deconvolution_nd",
            insert_axes(x, [2]) if lift else x,
            self.outputs,
            [*lift, *window],
            network.weights(kernel, x.dtype, "weight"),
            network.weights(bias, x.dtype, "bias"),
            inputs=inputs,
            dims=[x.shape[0], self.outputs, *lift, *self.sizes(x)],
            stride_nd=[*lift, *self.stride],
            pre_padding=[*zero, *self.before],
            post_padding=[*zero, *self.after],
            dilation_nd=[1] * len(lift) + ([1] * self.rank if self.spreads else [*self.dilation]),
            num_groups=self.groups,
        )

    def completed(self, out: Tensor) -> Tensor:
        """The layer's output without the extra axis, and with the positions in `beyond`."""
        out = remove_axes(out, [2]) if self.lift else out
        return pad(out, far_and_near([0] * self.rank, self.beyond)) if any(self.beyond) else out

    def raised(self, network: Emitter[Tensor], weight: np.ndarray) -> np.ndarray:
        """The weight as TensorRT gets it."""
        if self.spreads:
            weight = network.ledger.derive("spread", weight, dilation=list(self.dilation))
        return weight.reshape(*weight.shape[:2], *self.lift, *weight.shape[2:])

    def by_tensor(self, x: Tensor, kernel: Tensor) -> Tensor:
        """The output without bias for a kernel that the network computes."""
        if self.spreads:
            kernel = _spread_tensor(kernel, self.dilation)
        kernel = insert_axes(kernel, [2]) if self.lift else kernel
        return self.completed(self.layer(x, None, None, {1: kernel}))

    def with_bias(self, out: Tensor, bias: Any) -> Tensor:
        """`out` plus the bias, an array, a Parameter, a Tensor or ``None``."""
        if bias is None or isinstance(bias, Tensor):
            return out if bias is None else add_channels(out, bias)
        array = array_of(bias, "bias", out.network)
        row = array.reshape(1, -1, *[1] * self.rank)
        return add(out, out.network.constant(row, out.dtype, "bias"))


def _spread_tensor(weight: Tensor, dilation: Sequence[int]) -> Tensor:
    """:func:`trtnet.recipes.operations.spread` of a tensor: zeros are appended to an axis of size
    one behind each axis."""
    for index, step in enumerate(dilation):
        axis = index + 2
        if step > 1:
            split = insert_axes(weight, [axis + 1])
            zeros = [0, 0] * (split.ndim - axis - 2) + [0, step - 1]
            sizes = list(weight.shape)
            whole = sizes[axis] * step
            weight = reshape(pad(split, zeros), *sizes[:axis], whole, *sizes[axis + 1 :])
            weight = narrow(weight, axis, 0, whole - step + 1)
    return weight
