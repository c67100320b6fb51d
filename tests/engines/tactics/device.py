"""A stand-in for a GPU on which the module of an engine runs as it is captured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from doubles import cuda_tensors
from doubles.cuda_tensors import Device, OnGpu, values
from tactics import stand_ins
from torch import Tensor, fx

from trtnet.engines.torch import counting, greedy, kernels, nearest, pooling
from trtnet.engines.torch.constants import given, recorded
from trtnet.engines.torch.tactics import selection
from trtnet.engines.torch.tactics.elements import rewrite
from trtnet.reference.index import select_k

LAST = torch.channels_last


@contextmanager
def entered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """A device that is entered; kernels of ours are PyTorch's functions."""
    import_module("torch._dynamo")  # PyTorch does inside of a device, without torch.Generator
    monkeypatch.setattr(pooling, "pool_images", stand_ins.pool_images)
    monkeypatch.setattr(nearest, "take_nearest", _taken)
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


def _taken(x, size, steps, out=None):
    assert pooling.rows_of(x) is not None
    for axis, count, (factor, offset, divisor) in zip((2, 3), size, steps, strict=True):
        index = torch.arange(count, device=x.device) * factor + offset
        index = (index.clamp(min=0) // divisor).clamp(max=x.shape[axis] - 1)
        x = x.index_select(axis, index)
    return x.contiguous(memory_format=LAST) if out is None else out.copy_(x)


def _by_kernel(tensors, threshold, rounds):
    found = greedy._on_host(tuple(map(values, tensors)), threshold, rounds)
    return [OnGpu(torch.from_numpy(mask)) for mask in found]


def _counted(*tensors):
    mask, scores, order = map(values, tensors)
    return OnGpu(greedy.count_better(mask, scores, order).squeeze(1))


def _largest(x, count, axis, index_dtype):
    return select_k(x, count, axis, largest=True, index_dtype=index_dtype)
