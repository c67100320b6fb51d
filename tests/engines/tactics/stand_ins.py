"""PyTorch in the place of the kernels that tactics call, and of the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tactics.codes import encoded
from tactics.oracles import activated, finished, summed
from torch import Tensor, fx

from trtnet.engines.torch.tactics.epilogue import Epilogue

LAST = torch.channels_last


def wide(x: Tensor | None) -> Tensor | None:
    """`x` in float32, in which kernels compute."""
    return None if x is None else x.float()


def linear(
    x, weight, bias, factor, other, gate, source, target, epilogue, tile, *, added=None, out=None
):
    """As :func:`trtnet.engines.torch.tactics.linear.linear`, and only of what that takes."""
    assert x.dim() == weight.dim() == 2
    assert x.stride(1) == 1
    assert added is None or (gate is None and added.shape == x.shape and added.stride(1) == 1)
    x = x if added is None else x + added
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
    return y if out is None else out.copy_(y)


def depthwise(x, kernel, bias, stride, padding, dilation, epilogue: Epilogue, block):
    """As :func:`trtnet.engines.torch.tactics.depthwise.depthwise`: `epilogue.first` alone."""
    assert x.is_contiguous(memory_format=LAST)
    weight = kernel.permute(2, 0, 1)[:, None].float()
    y = F.conv2d(x.float(), weight, wide(bias), stride, padding, dilation, x.shape[1])
    return activated(y, epilogue.first).to(x.dtype).contiguous(memory_format=LAST)


def convolution(x, weight, bias, factor, other, window, epilogue, tile):
    """As :func:`trtnet.engines.torch.tactics.convolution.convolution`."""
    assert x.stride(-1) == 1
    assert weight.is_contiguous()
    assert other is None or other.stride(1) == 1
    image, kernel = x.permute(0, 3, 1, 2).float(), weight.permute(0, 3, 1, 2).float()
    y = F.conv2d(image, kernel, None, *window).permute(0, 2, 3, 1).reshape(-1, len(weight))
    return finished(y, wide(bias), wide(factor), wide(other), epilogue).to(x.dtype)


def finish(x, bias, factor, other, epilogue):
    """As :func:`trtnet.engines.torch.tactics.pointwise.finish`: it overwrites `x`."""
    assert x.dim() == 2
    assert x.is_contiguous()
    assert other is None or (other.shape == x.shape and other.is_contiguous())
    return x.copy_(finished(x.float(), wide(bias), wide(factor), wide(other), epilogue))


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


def scale_shift(x, scale, shift, epilogue):
    """As :func:`trtnet.engines.torch.tactics.pointwise.scale_shift`."""
    assert x.dim() == 2
    assert x.is_contiguous()
    assert scale.shape[-1:] == x.shape[1:]
    assert shift is None or shift.shape == scale.shape
    if scale.dim() == 2:
        assert scale.is_contiguous()
        scale = scale.repeat_interleave(len(x) // len(scale), 0)
    return finished(x.float() * scale.float(), wide(shift), None, None, epilogue).to(x.dtype)


def image_sums(x, how, dtype, division):
    """As :func:`trtnet.engines.torch.tactics.image_sums.image_sums`."""
    assert x.dim() == 3
    assert x.is_contiguous()
    return summed(x.float(), how).to(dtype)


def take_columns(a, b, which, place, warps):
    """As :func:`trtnet.engines.torch.tactics.columns.take_columns`."""
    assert a.dim() == b.dim() == 2
    assert a.stride(1) == b.stride(1) == 1
    picked = [x[:, place.long().clamp(max=x.shape[1] - 1)] for x in (a, b)]
    return torch.where(which.bool(), picked[1], picked[0])


def unit_vectors(x, epsilon, dtype, warps):
    """As :func:`trtnet.engines.torch.tactics.windows.unit_vectors`."""
    assert x.dim() == 5
    assert x.stride(-1) == 1
    return F.normalize(x.float(), dim=-1, eps=epsilon).to(dtype)


KERNELS = (
    *(linear, convolution, depthwise, finish, layer_norm, window_attention),
    *(scale_shift, image_sums, take_columns, unit_vectors),
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
