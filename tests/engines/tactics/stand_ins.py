"""PyTorch in the place of the kernels that tactics call, and of the clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tactics.codes import encoded
from tactics.oracles import activated, finished, summed
from torch import Tensor, fx

from trtnet.engines.torch.pooling import rows_of
from trtnet.engines.torch.tactics.epilogue import NOTHING, Epilogue

LAST = torch.channels_last


def wide(x: Tensor | None) -> Tensor | None:
    """`x` in float32, in which kernels compute."""
    return None if x is None else x.float()


def linear(
    x, weight, bias, factor, other, gate, source, target, epilogue, tile, *, added=None, scale=None,
    shift=None, before=NOTHING, out=None, places=None,
):  # fmt: skip
    """As :func:`trtnet.engines.torch.tactics.linear.linear`, and only of what that takes."""
    assert x.dim() == weight.dim() == 2
    assert x.stride(1) == 1
    assert added is None or (gate is None and added.shape == x.shape and added.stride(1) == 1)
    x = x if added is None else x + added
    if scale is not None:
        assert gate is added is None
        assert scale.shape == shift.shape == x.shape[1:]
        x = activated(x.float() * scale.float() + shift.float(), before).to(x.dtype)
    assert gate is None or (source is None and gate.is_contiguous())
    count = x.shape[0] if source is None else source.shape[0]
    assert other is None or (other.shape == (count, weight.shape[0]) and other.stride(1) == 1)
    for vector in (bias, factor):
        assert vector is None or (vector.dim() == 1 and vector.is_contiguous())
    if gate is not None:
        x = x * gate.repeat_interleave(x.shape[0] // gate.shape[0], 0)
    x = x if source is None else x[source.long()]
    y = x.float() @ weight.float().t()
    y = y if target is None else y[target.long()]
    y = finished(y, wide(bias), wide(factor), wide(other), epilogue).to(x.dtype)
    if places is not None:
        assert places.shape == (3, y.shape[1])
        return put_columns(y, places, out)
    return y if out is None else out.copy_(y)


def depthwise(x, kernel, bias, stride, padding, dilation, epilogue: Epilogue, block):
    """As :func:`trtnet.engines.torch.tactics.depthwise.depthwise`: `epilogue.first` alone."""
    assert x.is_contiguous(memory_format=LAST)
    weight = kernel.permute(2, 0, 1)[:, None].float()
    y = F.conv2d(x.float(), weight, wide(bias), stride, padding, dilation, x.shape[1])
    return activated(y, epilogue.first).to(x.dtype).contiguous(memory_format=LAST)


def convolution(x, weight, bias, factor, other, window, epilogue, tile, out=None):
    """As :func:`trtnet.engines.torch.tactics.convolution.convolution`."""
    assert x.stride(-1) == 1
    assert weight.is_contiguous()
    assert other is None or other.stride(1) == 1
    image, kernel = x.permute(0, 3, 1, 2).float(), weight.permute(0, 3, 1, 2).float()
    y = F.conv2d(image, kernel, None, *window).permute(0, 2, 3, 1).reshape(-1, len(weight))
    y = finished(y, wide(bias), wide(factor), wide(other), epilogue).to(x.dtype)
    return y if out is None else out.copy_(y)


def finish(x, bias, factor, other, epilogue, out=None):
    """As :func:`trtnet.engines.torch.tactics.pointwise.finish`: without `out` it overwrites `x`."""
    assert x.dim() == 2
    assert x.stride(1) == 1
    assert other is None or (other.shape == x.shape and other.stride(1) == 1)
    assert out is None or (out.shape == x.shape and out.stride(1) == 1)
    y = x if out is None else out
    return y.copy_(finished(x.float(), wide(bias), wide(factor), wide(other), epilogue))


def layer_norm(x, scale, bias, epsilon, dtype, warps, step=None, codes=None):
    """As :func:`trtnet.engines.torch.tactics.norm.layer_norm`."""
    assert x.dim() == 2
    assert x.is_contiguous()
    y = F.layer_norm(x.float(), x.shape[1:], scale.float(), bias.float(), epsilon).to(dtype)
    return y if step is None else encoded(y, step.size, codes)


def window_attention(query, key, value, biases, scale, warps):
    """As :func:`trtnet.engines.torch.tactics.windows.window_attention`."""
    assert all(x.dim() == 5 and x.stride(-1) == 1 for x in (query, key, value))
    scores = query.float() @ key.float().mT * scale
    for bias in biases:
        assert bias.shape[-2:] == scores.shape[-2:]
        assert bias.stride(-1) == 1 or bias.shape[-1] == 1
        scores = scores + bias.float()
    y = (scores.softmax(-1) @ value.float()).to(query.dtype)
    return y.transpose(2, 3).contiguous().transpose(2, 3)


def scale_shift(x, scale, shift, epilogue, out=None):
    """As :func:`trtnet.engines.torch.tactics.pointwise.scale_shift`."""
    assert x.dim() == 2
    assert x.stride(1) == 1
    assert scale.shape[-1:] == x.shape[1:]
    assert shift is None or shift.shape == x.shape[1:]
    assert out is None or (out.shape == x.shape and out.stride(1) == 1)
    if scale.dim() == 2:
        assert scale.is_contiguous()
        scale = scale.repeat_interleave(len(x) // len(scale), 0)
    y = finished(x.float() * scale.float(), wide(shift), None, None, epilogue).to(x.dtype)
    return y if out is None else out.copy_(y)


def image_sums(x, how, dtype, division):
    """As :func:`trtnet.engines.torch.tactics.image_sums.image_sums`."""
    assert x.dim() == 3
    assert x.is_contiguous()
    return summed(x.float(), how).to(dtype)


def put_columns(x, places, into):
    """As :func:`trtnet.engines.torch.tactics.columns.put_columns`."""
    assert x.dim() == places.dim() == 2
    assert into.dim() == 1
    assert x.stride(1) == 1
    assert into.dtype is x.dtype
    rows = torch.arange(x.shape[0], device=places.device)[:, None]
    columns, begin, apart = places
    return into.index_put_((begin + rows * apart,), x[:, columns])


def copy_columns(sources, begins, y):
    """As :func:`trtnet.engines.torch.tactics.columns.copy_columns`."""
    assert y.stride(1) == 1
    for x, begin in zip(sources, begins, strict=True):
        assert x.dim() == 2
        assert x.stride(1) == 1
        assert x.dtype == y.dtype
        y[:, begin : begin + x.shape[1]] = x


def unit_vectors(x, epsilon, dtype, warps):
    """As :func:`trtnet.engines.torch.tactics.windows.unit_vectors`."""
    assert x.dim() == 5
    assert x.stride(-1) == 1
    return F.normalize(x.float(), dim=-1, eps=epsilon).to(dtype)


def pool_images(x, how, block=None, out=None):
    """As :func:`trtnet.engines.torch.pooling.pool_images`: padded with what changes nothing, behind
    by as much as the last window needs."""
    assert rows_of(x) is not None
    assert out is None or rows_of(out) is not None
    axes = zip(how.size, how.stride, how.window, how.before, x.shape[2:], strict=True)
    ends = [(n - 1) * s + k - a - m for n, s, k, a, m in axes]
    (top, left), (bottom, right) = how.before, (max(0, end) for end in ends)
    around = (left, right, top, bottom)
    if how.counted is None:
        y = F.max_pool2d(F.pad(x, around, value=-math.inf), how.window, how.stride)
        return y if out is None else out.copy_(y)
    total = F.avg_pool2d(F.pad(x.float(), around), how.window, how.stride, divisor_override=1)
    counts = torch.ones((), device=x.device)
    for axis in (0, 1):
        low, high = how.counted[axis]
        begin = torch.arange(how.size[axis], device=x.device) * how.stride[axis] - how.before[axis]
        covered = (begin + how.window[axis]).clamp(max=high) - begin.clamp(min=low)
        counts = counts.unsqueeze(-1) * covered.clamp(min=1)
    y = (total / counts).to(x.dtype)
    return y if out is None else out.copy_(y)


KERNELS = (
    *(linear, convolution, depthwise, finish, layer_norm, window_attention),
    *(scale_shift, image_sums, put_columns, copy_columns, unit_vectors, pool_images),
)


class Clock:
    """Times nothing: nodes as they are take 100, a tactic what is said here.

    Attributes:
        tactics: what `Region` tactics call, in the order in which they were timed.
        kept: how often nodes were timed as they are.
    """

    def __init__(self, microseconds: Callable[[Any], float] = lambda call: 1.0) -> None:
        """`microseconds` is asked for each tactic."""
        self.microseconds = microseconds
        self.tactics: list[str] = []
        self.kept = 0

    def __call__(self, call: Any, limit: float) -> float:
        call()
        if isinstance(call.func, fx.GraphModule):
            self.kept += 1
            return 100.0
        self.tactics.append(call.func.__name__)
        return self.microseconds(call)


def replace_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts PyTorch in the place of the kernels that tactics call, those of codes too."""
    from tactics import codes

    from trtnet.engines.torch.tactics import calls
    from trtnet.engines.torch.tactics.quantized import calls as calls_of_codes

    for owner, kernels in ((calls, KERNELS), (calls_of_codes, codes.KERNELS)):
        for kernel in kernels:
            monkeypatch.setattr(owner, kernel.__name__, kernel)
