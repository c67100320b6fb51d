"""Max, average and power-average pooling, with PyTorch's rounding of output sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.errors import ShapeError
from trtnet.ops.activation import relu
from trtnet.ops.arguments import IntOrInts, require
from trtnet.ops.elementwise import abs as absolute
from trtnet.ops.elementwise import mul, pow, sign
from trtnet.ops.max_by_slices import dilated_max, max_and_positions
from trtnet.ops.operands import insert_axes, remove_axes
from trtnet.ops.operator import operator
from trtnet.ops.padding import pad
from trtnet.ops.pooling_window import Window, whole_axes, without_axes
from trtnet.ops.reduction import amax, mean
from trtnet.ops.shape import slice_
from trtnet.ops.windows import batched, far_and_near
from trtnet.tensor import Tensor


def max_pool(
    rank: int,
    input: Tensor,
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Max pooling over the last `rank` axes, of an input with or without a batch axis; see
    ``torch.nn.functional.max_pool2d``. With `return_indices` also the int64 position of each
    maximum. That, a `dilation` and integers are made out of slices, without a Pooling layer.

    Raises:
        ShapeError: arguments that PyTorch refuses.
    """
    whole = whole_axes(rank, input, kernel_size, padding, dilation)
    if whole and not return_indices:
        input, (kernel_size, stride, padding, dilation) = (
            amax(input, whole, True),
            without_axes(rank, input.ndim, whole, (kernel_size, stride, padding, dilation)),
        )
    window = Window(rank, kernel_size, stride, padding, ceil_mode, dilation)
    op = f"max_pool{rank}d"

    def compute(x: Tensor) -> Any:
        if return_indices:
            return max_and_positions(x, window, op)
        if any(d != 1 for d in window.dilation) or not x.dtype.is_floating_point:
            return dilated_max(x, window, op)
        window.counts(x, op)  # raises
        return _pool("max_pool", "MAX", x, window.reaching(x), window.padding)

    return batched(input, rank, op, compute)


def avg_pool(
    rank: int,
    input: Tensor,
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Average pooling over the last `rank` axes, of an input with or without a batch axis; see
    ``torch.nn.functional.avg_pool2d``.

    Raises:
        ShapeError: arguments that PyTorch refuses. UnsupportedError: integers.
    """
    op = f"avg_pool{rank}d"
    require(
        input.dtype.is_floating_point, f"{op}: needs a floating-point tensor", got=input.dtype,
        fix="x.float()",
    )  # fmt: skip
    whole = whole_axes(rank, input, kernel_size, padding)
    if whole and divisor_override is None:
        input, (kernel_size, stride, padding) = (
            mean(input, whole, True),
            without_axes(rank, input.ndim, whole, (kernel_size, stride, padding)),
        )
    window = Window(rank, kernel_size, stride, padding, ceil_mode)
    if divisor_override == 0:
        raise ShapeError("divisor_override must not be zero")

    def compute(x: Tensor) -> Tensor:
        window.counts(x, op)  # raises
        return _average(x, window.reaching(x), ceil_mode, count_include_pad, divisor_override, op)

    out: Tensor = batched(input, rank, op, compute)
    return out


def _average(
    x: Tensor,
    window: Window,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    op: str,
) -> Tensor:
    rank, none = window.rank, (0,) * window.rank
    if window.is_whole(x):
        x = x.network.quantizer.pooled(x, range(2, rank + 2))
    if divisor_override is not None:
        # Padding the far end of ceil_mode by hand makes every window full: the mean is sum / area.
        x = pad(x, far_and_near(window.padding, window.far_padding(x, op)))
        full = Window(rank, window.kernel, window.stride, 0, False)
        average = _pool("avg_pool", "AVERAGE", x, full, none, exclusive=False)
        return mul(average, window.area / divisor_override)
    if ceil_mode and count_include_pad and any(window.padding):
        # What ceil_mode adds beyond the padding does not count; the padding itself does.
        counts = window.counts(x, op)
        x = pad(x, far_and_near(window.padding, window.padding))
        return _pool("avg_pool", "AVERAGE", x, window, none, exclusive=True, counts=counts)
    exclusive = ceil_mode or not count_include_pad
    return _pool("avg_pool", "AVERAGE", x, window, window.padding, exclusive=exclusive)


def lp_pool(
    rank: int,
    input: Tensor,
    norm_type: float,
    kernel_size: IntOrInts,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The `norm_type`-th root of the sum of the powers in each window, as
    ``torch.nn.functional.lp_pool2d`` computes it: of a negative sum, 0."""
    average = avg_pool(rank, pow(input, norm_type), kernel_size, stride, 0, ceil_mode)
    area = Window(rank, kernel_size, stride, 0, ceil_mode).area
    return pow(mul(mul(sign(average), relu(absolute(average))), area), 1 / norm_type)


@operator(methods=())
def max_pool1d(
    input: Tensor,
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """``torch.nn.functional.max_pool1d``; input (N, C, L). See :func:`max_pool`."""
    return max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@operator(methods=())
def max_pool2d(
    input: Tensor,
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """``torch.nn.functional.max_pool2d``; input (N, C, H, W). See :func:`max_pool`."""
    return max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@operator(methods=())
def max_pool3d(
    input: Tensor,
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """``torch.nn.functional.max_pool3d``; input (N, C, D, H, W). See :func:`max_pool`."""
    return max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@operator(methods=())
def max_pool1d_with_indices(
    input: Tensor,
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = True,
) -> tuple[Tensor, Tensor]:
    """:func:`max_pool1d` with ``return_indices=True``, always."""
    window = kernel_size, stride, padding, dilation, ceil_mode
    found: tuple[Tensor, Tensor] = max_pool(1, input, *window, return_indices=True)
    return found


@operator(methods=())
def max_pool2d_with_indices(
    input: Tensor,
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = True,
) -> tuple[Tensor, Tensor]:
    """:func:`max_pool2d` with ``return_indices=True``, always."""
    window = kernel_size, stride, padding, dilation, ceil_mode
    found: tuple[Tensor, Tensor] = max_pool(2, input, *window, return_indices=True)
    return found


@operator(methods=())
def max_pool3d_with_indices(
    input: Tensor,
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = True,
) -> tuple[Tensor, Tensor]:
    """:func:`max_pool3d` with ``return_indices=True``, always."""
    window = kernel_size, stride, padding, dilation, ceil_mode
    found: tuple[Tensor, Tensor] = max_pool(3, input, *window, return_indices=True)
    return found


@operator(methods=())
def avg_pool1d(
    input: Tensor,
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """``torch.nn.functional.avg_pool1d``; input (N, C, L). See :func:`avg_pool`."""
    return avg_pool(
        1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


@operator(methods=())
def avg_pool2d(
    input: Tensor,
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """``torch.nn.functional.avg_pool2d``; input (N, C, H, W). See :func:`avg_pool`."""
    return avg_pool(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


@operator(methods=())
def avg_pool3d(
    input: Tensor,
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """``torch.nn.functional.avg_pool3d``; input (N, C, D, H, W). See :func:`avg_pool`."""
    return avg_pool(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


@operator(methods=())
def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: IntOrInts,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Tensor:
    """``torch.nn.functional.lp_pool1d``; input (N, C, L). See :func:`lp_pool`."""
    return lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


@operator(methods=())
def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: IntOrInts,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Tensor:
    """``torch.nn.functional.lp_pool2d``; input (N, C, H, W). See :func:`lp_pool`."""
    return lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


@operator(methods=())
def lp_pool3d(
    input: Tensor,
    norm_type: float,
    kernel_size: IntOrInts,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Tensor:
    """``torch.nn.functional.lp_pool3d``; input (N, C, D, H, W). See :func:`lp_pool`."""
    return lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


def _pool(
    op: str,
    kind: str,
    x: Tensor,
    window: Window,
    padding: Sequence[int],
    exclusive: bool | None = None,
    counts: Sequence[Any] | None = None,
) -> Tensor:
    """One Pooling layer.

    Args:
        padding: what of the window's padding `x` does not have yet.
        counts: the output's sizes, by default those of `window` on `x`.
    """
    network, rank = x.network, window.rank
    counts = window.counts(x, op) if counts is None else counts
    far = _far_padding(x, window, padding, counts)
    lift = [1] if rank == 1 else []  # TensorRT pools 2 or 3 axes
    raised = insert_axes(x, [2]) if lift else x
    lead = list(raised.shape[: 2 + len(lift)])
    rounding = "EXPLICIT_ROUND_UP" if far is None else "EXPLICIT_ROUND_DOWN"
    attributes: dict[str, Any] = {}
    if exclusive is not None:
        attributes["average_count_excludes_padding"] = exclusive
    zero = [0] * len(lift)
    out = network.emit(
        op,
        "add_pooling_nd",
        raised,
        getattr(network.trt.PoolingType, kind),
        lift + list(window.kernel),
        dims=[*lead, *([-1] * rank if far is None and window.may_drop else counts)],
        stride_nd=lift + list(window.stride),
        pre_padding=zero + list(padding),
        post_padding=zero + list(padding if far is None else far),
        padding_mode=getattr(network.trt.PaddingMode, rounding),
        **attributes,
    )
    if far is None and window.may_drop:
        out = slice_(out, [0] * out.ndim, [*lead, *counts], [1] * out.ndim)
    return remove_axes(out, [2]) if lift else out


def _far_padding(
    x: Tensor, window: Window, padding: Sequence[int], counts: Sequence[Any]
) -> list[int] | None:
    """Padding at the end of each axis with which rounding down gives `counts`, or ``None``
    where a size is known only at run time and rounding up is needed."""
    if not window.ceil_mode:
        return list(padding)
    rows = list(zip(x.shape[2:], counts, window.kernel, window.stride, padding, strict=True))
    if not all(isinstance(size, int) for row in rows for size in row):
        return None
    return [max((count - 1) * s + k - n - p, 0) for n, count, k, s, p in rows]
