"""Window: the kernel, stride, padding and dilation of a pooling, and PyTorch's output sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.errors import ShapeError
from trtnet.ops.windows import ints, least, most, window_count
from trtnet.tensor import Dim, Tensor, same_size, same_sizes


class Window:
    """A pooling window: kernel, stride, padding, dilation, and how output sizes round.

    Raises:
        ShapeError: what PyTorch refuses: sizes below one, negative padding, or padding of more
            than half a window.
    """

    def __init__(
        self,
        rank: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        ceil_mode: bool,
        dilation: Any = 1,
    ) -> None:
        self.rank = rank
        self.kernel = ints(kernel_size, rank, "kernel_size", 1)
        given = stride not in (None, (), [])
        self.stride = ints(stride, rank, "stride", 1) if given else self.kernel
        self.padding = ints(padding, rank, "padding", 0)
        self.dilation = ints(dilation, rank, "dilation", 1)
        self.ceil_mode = ceil_mode
        limits = self.spans if rank == 1 else self.kernel  # as PyTorch has it
        for size, amount in zip(limits, self.padding, strict=True):
            if amount * 2 > size:
                raise ShapeError(
                    "padding must be at most half of kernel_size",
                    got=amount,
                    expected=f"<= {size // 2}",
                )

    @property
    def spans(self) -> tuple[int, ...]:
        """Positions that the dilated kernel spans on each axis."""
        pairs = zip(self.kernel, self.dilation, strict=True)
        return tuple(d * (k - 1) + 1 for k, d in pairs)

    @property
    def area(self) -> int:
        """Number of positions in the window."""
        area = 1
        for size in self.kernel:
            area *= size
        return area

    def reaching(self, x: Tensor) -> Window:
        """This window without what lies beyond all of the padded input `x`, (N, C, ...), which
        ceil_mode allows: it gives the same results. TensorRT limits the size of a window."""
        if not self.ceil_mode:
            return self
        rows = zip(self.kernel, self.dilation, self.padding, x.shape[2:], strict=True)
        kernel = [
            min(k, n + 2 * p) if isinstance(n, int) and d == 1 and n else k for k, d, p, n in rows
        ]
        made = Window(self.rank, kernel, self.stride, self.padding, True, self.dilation)
        same = made.counts(x, "") == self.counts(x, "")
        return made if same else self

    def is_whole(self, x: Tensor) -> bool:
        """Whether one window takes in all of `x`."""
        return same_sizes(self.kernel, x.shape[2:]) and not any(self.padding)

    def counts(self, x: Tensor, op: str) -> list[Any]:
        """PyTorch's output sizes for an input (N, C, ...); ints, or Dims where `x` has Dims.

        ceil_mode rounds up, and drops a last window that would start beyond the input and its
        near padding.

        Raises:
            ShapeError: the window is larger than the padded input.
        """
        rows = zip(x.shape[2:], self.spans, self.stride, self.padding, strict=True)
        found = []
        for n, span, s, p in rows:
            if self.ceil_mode:
                count = least(window_count(n, 2 * p + s - 1, span, s), (n + (p - 1)) // s + 1)
            else:
                count = window_count(n, 2 * p, span, s)
            found.append(count)
        if any(isinstance(count, int) and count < 1 for count in found):
            raise ShapeError(
                f"{op}: the kernel is larger than its input",
                expected="windows that fit into the padded input",
                got=f"kernel {self.spans} with dilation, padding {self.padding}, "
                f"input sizes {tuple(x.shape[2:])}",
                fix="use a smaller kernel or more padding, or a larger image in network.input(...)",
            )
        return found

    def far_padding(self, x: Tensor, op: str) -> list[Any]:
        """How far the windows reach beyond the end of each axis: that padding at the far end
        makes rounding down give PyTorch's sizes."""
        if not self.ceil_mode:
            return list(self.padding)
        rows = zip(
            x.shape[2:], self.counts(x, op), self.spans, self.stride, self.padding, strict=True
        )
        return [most((count - 1) * s + (span - p) - n, 0) for n, count, span, s, p in rows]

    @property
    def may_drop(self) -> bool:
        """Whether PyTorch can drop a last window of ceil_mode: TensorRT's EXPLICIT_ROUND_UP keeps
        every one. That needs windows which start in the far padding."""
        rows = zip(self.spans, self.stride, self.padding, strict=True)
        return any(s + p > span for span, s, p in rows)


def whole_axes(
    rank: int, x: Tensor, kernel_size: Any, padding: Any, dilation: Any = 1
) -> list[int]:
    """The axes of `x` along which a window of `kernel_size`, a Dim, takes in the whole axis."""
    kernel, paddings, dilations = (listed(v, rank) for v in (kernel_size, padding, dilation))
    lead = x.ndim - rank
    if lead < 0:
        return []
    return [
        lead + i
        for i, (size, amount, apart) in enumerate(zip(kernel, paddings, dilations, strict=False))
        if isinstance(size, Dim)
        and same_size(size, x.shape[lead + i])
        and (amount, apart) == (0, 1)
    ]


def without_axes(rank: int, ndim: int, axes: Sequence[int], arguments: Sequence[Any]) -> list[Any]:
    """Kernel, stride, padding and dilation of a pooling for which `axes` have size one."""
    replaced = []
    for value, alone in zip(arguments, (1, 1, 0, 1), strict=False):
        if value not in (None, (), []):
            value = [
                alone if ndim - rank + i in axes else one
                for i, one in enumerate(listed(value, rank))
            ]
        replaced.append(value)
    return replaced


def listed(value: Any, rank: int) -> list[Any]:
    """`value` for each of `rank` axes."""
    many = list(value) if isinstance(value, (tuple, list)) else [value]
    return many * rank if len(many) == 1 else many
