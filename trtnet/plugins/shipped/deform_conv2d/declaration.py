"""Declares the plugin deform_conv2d."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.ops.operands import as_tensor
from trtnet.plugins.decorator import plugin
from trtnet.plugins.emission import emit
from trtnet.plugins.shipped.deform_conv2d import native
from trtnet.plugins.shipped.rows_columns import rows_and_columns
from trtnet.plugins.shipped.triton_launch import Shape
from trtnet.tensor import Tensor

if TYPE_CHECKING:
    from trtnet.plugins.examples import Draw
    from trtnet.plugins.spec import TensorSpec

_CASES = ((1, 1), (1, 3), (2, 1), (2, 3), (4, 2))  # groups and offset groups
_WINDOWS = ((3, 3), (1, 1), (2, 3))


@plugin("trtnet::deform_conv2d")
class DeformConv2d:
    """Deformable convolution, ``torchvision.ops.deform_conv2d``; modulated if it gets a mask.

    Called with an input (N, C, H, W), an offset (N, 2 * G * h * w, OH, OW) of G offset groups, a
    weight (O, C / groups, h, w), and optionally a bias (O,) and a mask (N, G * h * w, OH, OW), it
    gives (N, O, OH, OW). Weight and bias may be parameters of a module. All tensors are cast to
    one type, float32 or float16.

    Args:
        stride, padding, dilation: pairs, for rows and columns.

    >>> import trtnet
    >>> net = trtnet.Network("rtx")
    >>> x, offset = net.input("x", ("N", 64, 20, 20)), net.input("offset", ("N", 18, 20, 20))
    >>> weight = np.zeros((128, 64, 3, 3), np.float32)
    >>> DeformConv2d(padding=(1, 1))(x, offset, weight).shape
    (N, 128, 20, 20)
    """

    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)

    formats = (
        (*["fp32"] * 5, "->", "fp32"),
        (*["fp16"] * 5, "->", "fp16"),
    )

    def forward(
        self,
        input: Tensor,
        offset: Tensor,
        weight: Any,
        bias: Any = None,
        mask: Tensor | None = None,
    ) -> Any:
        """Adds the operator to the network; `bias` defaults to zeros and `mask` to ones."""
        factor = as_tensor(weight, input, align=False)
        if bias is None:
            bias = np.zeros(factor.shape[0], np.float32)
        if mask is None:
            n, coordinates, *size = offset.shape
            one = as_tensor(np.ones((1, 1, 1, 1), np.float32), input)
            mask = one.expand(n, coordinates // 2, *size)
        plugin: Any = self
        return emit(plugin, (input, offset, factor, as_tensor(bias, input, align=False), mask))

    def outputs(
        self,
        input: TensorSpec,
        offset: TensorSpec,
        weight: TensorSpec,
        bias: TensorSpec,
        mask: TensorSpec,
    ) -> TensorSpec:
        """Returns the spec of the output, (N, O, OH, OW); checks that the shapes fit together."""
        self._arguments()  # checks that these are pairs
        native.offset_groups(input.shape, offset.shape, weight.shape)
        n, _, *size = offset.shape
        return input.like((n, weight.shape[0], *size))

    def reference(self, input: Any, offset: Any, weight: Any, bias: Any, mask: Any) -> Any:
        """Computes the operator in PyTorch, by torchvision."""
        from trtnet.plugins.shipped.deform_conv2d.reference import deform_conv2d

        return deform_conv2d(input, offset, weight, bias, *self._arguments(), mask)

    def kernel(
        self, input: Any, offset: Any, weight: Any, bias: Any, mask: Any, output: Any
    ) -> None:
        """Writes the result to `output`, (N, O, OH, OW), on the GPU."""
        from trtnet.plugins.shipped.deform_conv2d.kernel import deform_conv2d

        offset, weight, mask = (tensor.contiguous() for tensor in (offset, weight, mask))
        deform_conv2d(input, offset, weight, bias, *self._arguments(), mask, out=output)

    def native(
        self,
        input: Tensor,
        offset: Tensor,
        weight: Tensor,
        bias: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """Computes the operator by TensorRT's layers."""
        return native.deform_conv2d(input, offset, weight, bias, *self._arguments(), mask)

    def cost(self, input: Shape, offset: Shape, weight: Shape, bias: Shape, mask: Shape) -> int:
        """Returns the multiply-accumulates of the convolution, plus four for each sample."""
        out_channels, in_group, *window = weight
        samples = input[0] * math.prod(window) * math.prod(offset[2:])
        return samples * (out_channels * in_group + 4 * input[1])

    @classmethod
    def example(cls: Any, draw: Draw) -> tuple[Any, Sequence[np.ndarray]]:
        """Returns a plugin with random arguments, and inputs of random sizes."""
        groups, offset_groups = draw.choice(*_CASES)
        window = draw.choice(*_WINDOWS)
        stride, dilation = (tuple(draw.rng.integers(1, 4, 2).tolist()) for _ in range(2))
        padding = tuple(draw.rng.integers(0, 3, 2).tolist())
        spans = [d * (k - 1) + 1 for d, k in zip(dilation, window, strict=True)]
        have = [draw.size() + span for span in spans]
        size = [
            (n + 2 * p - span) // s + 1
            for n, p, span, s in zip(have, padding, spans, stride, strict=True)
        ]
        n, entries = draw.size(high=3), offset_groups * math.prod(window)
        in_group, out = offset_groups * max(1, draw.size()), groups * max(1, draw.size())
        arrays = [
            draw.array(n, groups * in_group, *have),
            2 * draw.array(n, 2 * entries, *size),
            draw.array(out, in_group, *window),
            draw.array(out),
            draw.rng.random((n, entries, *size)),
        ]
        return cls(stride, padding, dilation), arrays

    def _arguments(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Returns the arguments that follow the bias in all three forms."""
        return (
            rows_and_columns(self, "stride"),
            rows_and_columns(self, "padding"),
            rows_and_columns(self, "dilation"),
        )
