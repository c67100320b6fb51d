"""A stand-in for a GPU on which the module of an engine runs as it is captured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from doubles import cuda_tensors
from doubles.cuda_tensors import Device, OnGpu, values
from torch import Tensor, fx

from trtnet.engines.torch import counting, greedy, kernels, pooling
from trtnet.engines.torch.constants import given, recorded
from trtnet.engines.torch.tactics import selection
from trtnet.engines.torch.tactics.elements import rewrite
from trtnet.reference.index import select_k

LAST = torch.channels_last


@contextmanager
def entered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """A device that is entered; kernels of ours are PyTorch's functions."""
    monkeypatch.setattr(pooling, "pool_images", _pooled)
    monkeypatch.setattr(kernels, "pack_channels_last", _packed)
    monkeypatch.setattr(selection, "largest_of", _largest)
    monkeypatch.setattr(rewrite, "_on_gpu", lambda x: False)
    monkeypatch.setattr(rewrite, "_that_compile", lambda launches: launches)
    monkeypatch.setattr(greedy, "_by_kernel", _by_kernel)
    monkeypatch.setattr(counting, "count_better", _counted)
    cuda_tensors.allow(monkeypatch)
    with torch.no_grad(), Device() as made:
        yield made


def executed_twice(
    module: fx.GraphModule, inputs: Sequence[Tensor], device: Device
) -> tuple[dict[str, Tensor], list[str]]:
    """What `module` gives as it is captured, after an execution before that, and the transfers
    that no CUDA graph can capture."""
    with recorded() as copies:
        module.forward(*inputs)
    device.transfers.clear()
    with given(copies):
        outputs = module.forward(*inputs)
    return outputs, list(device.transfers)


def _packed(x, channels, dtype):
    padded = F.pad(x.to(dtype), (0, 0, 0, 0, 0, channels - x.shape[1]))
    return padded.contiguous(memory_format=LAST)


def _pooled(x, how):
    """Padded with what changes nothing, behind by as much as the last window needs."""
    assert x.is_contiguous(memory_format=LAST)
    axes = zip(how.size, how.stride, how.window, how.before, x.shape[2:], strict=True)
    ends = [(n - 1) * s + k - a - m for n, s, k, a, m in axes]
    (top, left), (bottom, right) = how.before, (max(0, end) for end in ends)
    around = (left, right, top, bottom)
    if how.counted is None:
        return F.max_pool2d(F.pad(x, around, value=-math.inf), how.window, how.stride)
    total = F.avg_pool2d(F.pad(x.float(), around), how.window, how.stride, divisor_override=1)
    counts = torch.ones((), device=x.device)
    for axis in (0, 1):
        low, high = how.counted[axis]
        begin = torch.arange(how.size[axis], device=x.device) * how.stride[axis] - how.before[axis]
        covered = (begin + how.window[axis]).clamp(max=high) - begin.clamp(min=low)
        counts = counts.unsqueeze(-1) * covered.clamp(min=1)
    return (total / counts).to(x.dtype)


def _by_kernel(tensors, threshold, rounds):
    found = greedy._on_host(tuple(map(values, tensors)), threshold, rounds)
    return [OnGpu(torch.from_numpy(mask)) for mask in found]


def _counted(*tensors):
    mask, scores, order = map(values, tensors)
    return OnGpu(greedy.count_better(mask, scores, order).squeeze(1))


def _largest(x, count, axis, index_dtype):
    return select_k(x, count, axis, largest=True, index_dtype=index_dtype)
