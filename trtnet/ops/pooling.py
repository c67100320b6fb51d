"""Max and average pooling, with PyTorch's rounding of output sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.arguments import (
    IntOrInts,
    check_input,
    check_window,
    ntuple,
    require,
)
from trtnet.ops.elementwise import mul
from trtnet.ops.operands import insert_axes, remove_axes
from trtnet.ops.operator import operator
from trtnet.ops.padding import pad
from trtnet.tensor import Tensor, same_sizes


def max_pool(
    rank: int,
    input: Tensor,
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """Max pooling over the last `rank` axes; see ``torch.nn.functional.max_pool2d``.

    Raises:
        UnsupportedError: ``dilation`` other than 1 or ``return_indices``: TensorRT has neither.
    """
    check_max_pool(ntuple(dilation, rank, "dilation"), return_indices)
    window = Window(rank, kernel_size, stride, padding, ceil_mode)
    check_input(input, rank + 2, f"max_pool{rank}d")
    return _pool("max_pool", "MAX", input, window, window.padding)


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
    """Average pooling over the last `rank` axes; see ``torch.nn.functional.avg_pool2d``."""
    window = Window(rank, kernel_size, stride, padding, ceil_mode)
    check_input(input, rank + 2, f"avg_pool{rank}d")
    if window.is_whole(input):
        input = input.network.quantizer.pooled(input, range(2, rank + 2))
    if divisor_override is not None:
        # Padding the far end of ceil_mode by hand makes every window full: the mean is sum / area.
        x, window = window.padded(input)
        mean = _pool("avg_pool", "AVERAGE", x, window, window.padding, exclusive=False)
        return mul(mean, window.area / divisor_override)
    if ceil_mode and count_include_pad and any(window.padding):
        # What ceil_mode adds beyond the padding does not count; the padding itself does.
        amounts = [p for p in reversed(window.padding) for _ in range(2)]
        x = pad(input, amounts)
        return _pool("avg_pool", "AVERAGE", x, window, (0,) * rank, exclusive=True)
    exclusive = ceil_mode or not count_include_pad
    return _pool("avg_pool", "AVERAGE", input, window, window.padding, exclusive=exclusive)


@operator(methods=())
def max_pool1d(
    input: Tensor,
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
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
) -> Tensor:
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
) -> Tensor:
    """``torch.nn.functional.max_pool3d``; input (N, C, D, H, W). See :func:`max_pool`."""
    return max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


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


class Window:
    """A pooling window: kernel, stride, padding and how output sizes round."""

    def __init__(
        self, rank: int, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool
    ) -> None:
        self.rank = rank
        self.kernel = ntuple(kernel_size, rank, "kernel_size")
        self.stride = self.kernel if stride in (None, ()) else ntuple(stride, rank, "stride")
        self.padding = ntuple(padding, rank, "padding")
        self.ceil_mode = ceil_mode
        for size, amount in zip(self.kernel, self.padding, strict=True):
            if amount * 2 > size:
                raise ShapeError(
                    "padding must be at most half of kernel_size",
                    got=amount,
                    expected=f"<= {size // 2}",
                )

    @property
    def area(self) -> int:
        """Number of positions in the window."""
        area = 1
        for size in self.kernel:
            area *= size
        return area

    def is_whole(self, x: Tensor) -> bool:
        """Whether one window takes in all of `x`."""
        return same_sizes(self.kernel, x.shape[2:]) and not any(self.padding)

    def far_padding(self, sizes: Sequence[Any], padding: Sequence[int]) -> list[int] | None:
        """Padding at the end of each axis with which rounding down gives PyTorch's size, or
        ``None`` for an axis of unknown size, where rounding up is needed.

        PyTorch's ceil_mode drops a last window that would start beyond the input and its near
        padding; TensorRT's EXPLICIT_ROUND_UP keeps it.
        """
        if not self.ceil_mode:
            return list(padding)
        if not all(isinstance(size, int) for size in sizes):
            return None
        far = []
        for size, k, s, own, p in zip(
            sizes, self.kernel, self.stride, self.padding, padding, strict=True
        ):
            inner = size - 2 * (own - p)  # the input's size before any padding by hand
            count = -(-(inner + 2 * own - k) // s) + 1
            if (count - 1) * s >= inner + own:
                count -= 1
            far.append(max((count - 1) * s + k - size - p, 0))
        return far

    def padded(self, x: Tensor) -> tuple[Tensor, Window]:
        """`x` padded with zeros by hand, and the window without padding for it."""
        far = self.far_padding(x.shape[2:], self.padding)
        if far is None:
            raise UnsupportedError(
                "divisor_override with ceil_mode needs fixed sizes",
                got=x.shape,
            )
        near_far = list(zip(self.padding, far, strict=True))
        amounts = [amount for pair in reversed(near_far) for amount in pair]
        return pad(x, amounts), Window(self.rank, self.kernel, self.stride, 0, False)


def _pool(
    op: str,
    kind: str,
    x: Tensor,
    window: Window,
    padding: Sequence[int],
    exclusive: bool | None = None,
) -> Tensor:
    network = x.network
    if not window.ceil_mode:  # which keeps one window, however small the input is
        check_window(x.shape[2:], window.kernel, [2 * amount for amount in padding], op)
    far = window.far_padding(x.shape[2:], padding)
    if far is None:
        _check_dynamic_ceil(window)
    lift = [1] if window.rank == 1 else []  # TensorRT pools 2 or 3 axes
    mode = "EXPLICIT_ROUND_DOWN" if far is not None else "EXPLICIT_ROUND_UP"
    raised = insert_axes(x, [2]) if lift else x
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
        dims=[*raised.shape[: 2 + len(lift)], *[-1] * window.rank],
        stride_nd=lift + list(window.stride),
        pre_padding=zero + list(padding),
        post_padding=zero + list(padding if far is None else far),
        padding_mode=getattr(network.trt.PaddingMode, mode),
        **attributes,
    )
    return remove_axes(out, [2]) if lift else out


def _check_dynamic_ceil(window: Window) -> None:
    """A last window that PyTorch drops and TensorRT keeps can only occur where stride + padding
    exceeds the kernel."""
    for k, s, p in zip(window.kernel, window.stride, window.padding, strict=True):
        if s + p > k:
            raise UnsupportedError(
                "ceil_mode rounds differently in TensorRT for some sizes of a dynamic axis",
                got=f"kernel {k}, stride {s}, padding {p}",
                expected="stride + padding <= kernel_size, or fixed sizes",
            )


def check_max_pool(dilation: tuple[int, ...], return_indices: bool) -> None:
    """Raises :class:`UnsupportedError` for max pooling that TensorRT lacks."""
    require(
        all(d == 1 for d in dilation),
        "TensorRT's max pooling has no dilation",
        expected="dilation=1",
        got=dilation,
    )
    refuse_indices(return_indices)


def refuse_indices(return_indices: bool) -> None:
    """Raises :class:`UnsupportedError` for ``return_indices=True``."""
    require(
        not return_indices,
        "TensorRT's max pooling returns no indices",
        expected="return_indices=False",
    )
