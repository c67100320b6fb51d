"""Transposed convolution layers; the functions are in ``trtnet/ops/conv_transpose.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.errors import ShapeError
from trtnet.exports import export
from trtnet.module import Parameter
from trtnet.nn.factory import WeightedLayer, check_factory
from trtnet.ops.arguments import (
    IntOrInts,
    check_channels,
    ntuple,
    require,
)
from trtnet.ops.conv_transpose import deconvolve
from trtnet.tensor import Tensor


class _ConvTransposeNd(WeightedLayer):
    computes = "deconvolution"
    rank: int
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: IntOrInts = 0,
        output_padding: IntOrInts = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: IntOrInts = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_factory(device, dtype)
        self.padding_mode = padding_mode
        check_channels(in_channels, out_channels, groups)
        require(
            padding_mode == "zeros",
            f"padding_mode={padding_mode!r} of a transposed "
            "convolution does not exist in PyTorch either",
            expected="zeros",
        )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = ntuple(kernel_size, self.rank, "kernel_size")
        self.stride = ntuple(stride, self.rank, "stride")
        self.padding = ntuple(padding, self.rank, "padding")
        self.output_padding = ntuple(output_padding, self.rank, "output_padding")
        self.dilation = ntuple(dilation, self.rank, "dilation")
        for extra, step, spread in zip(
            self.output_padding, self.stride, self.dilation, strict=True
        ):
            if extra >= max(step, spread):
                raise ShapeError(
                    "output_padding must be smaller than stride or dilation",
                    expected=f"< {max(step, spread)}",
                    got=extra,
                )
        self.weight = Parameter.empty((in_channels, out_channels // groups, *self.kernel_size))
        self.register_parameter("bias", Parameter.empty((out_channels,)) if bias else None)

    def forward(self, input: Tensor, output_size: Sequence[Any] | None = None) -> Tensor:
        extra = self.output_padding if output_size is None else self._extra(input, output_size)
        return deconvolve(
            self.rank,
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            extra,
            self.groups,
            self.dilation,
        )

    def _extra(self, input: Tensor, output_size: Sequence[Any]) -> tuple[int, ...]:
        """The output padding that gives outputs of `output_size`.

        Raises:
            ShapeError: a size that no output padding gives, or not for every size of the input.
        """
        wanted = list(output_size)[-self.rank :]
        windows = zip(self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        least = [
            (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1
            for size, (kernel, stride, padding, dilation) in zip(
                input.shape[-self.rank :], windows, strict=True
            )
        ]
        right = len(output_size) in (self.rank, self.rank + 1, self.rank + 2)
        extra = [want - size for want, size in zip(wanted, least, strict=False)]
        limits = zip(extra, self.stride, strict=False)
        if not right or not all(isinstance(n, int) and 0 <= n < step for n, step in limits):
            raise ShapeError(
                "output_size is not reachable",
                expected=f"{tuple(least)}, or up to {self.stride} - 1 more",
                got=tuple(output_size),
            )
        return tuple(extra)


@export
class ConvTranspose1d(_ConvTransposeNd):
    """``torch.nn.ConvTranspose1d``; input (N, C, L)."""

    rank = 1


@export
class ConvTranspose2d(_ConvTransposeNd):
    """``torch.nn.ConvTranspose2d``; input (N, C, H, W)."""

    rank = 2


@export
class ConvTranspose3d(_ConvTransposeNd):
    """``torch.nn.ConvTranspose3d``; input (N, C, D, H, W)."""

    rank = 3
