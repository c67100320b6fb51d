"""Tensors that say that they are on a GPU, for a machine without one.

Their values lie on the CPU. What a CUDA graph cannot capture is noted: a value that is copied from
the host to the device, one that the host reads, and tensors on the host beside ones on the device.
"""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)


class Ledger:
    """Counts the memory of tensors on :data:`GPU`.

    Attributes:
        held: bytes that live now.
        peak: the most at a time since :meth:`restart`.
    """

    def __init__(self) -> None:
        self.held = self.peak = 0
        self._known: set[int] = set()

    def note(self, storage: torch.UntypedStorage) -> None:
        """Counts `storage` for as long as it lives."""
        key, nbytes = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.held += nbytes
            self.peak = max(self.peak, self.held)
            weakref.finalize(storage, self._drop, key, nbytes)

    def _drop(self, key: int, nbytes: int) -> None:
        self._known.discard(key)
        self.held -= nbytes

    def restart(self) -> None:
        """Begins a new measurement."""
        self.peak = self.held


_LEDGER: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


@contextmanager
def counted() -> Iterator[Ledger]:
    """Inside, the tensors that are made on :data:`GPU` are counted."""
    made = Ledger()
    token = _LEDGER.set(made)
    try:
        yield made
    finally:
        _LEDGER.reset(token)


class OnGpu(torch.Tensor):
    """A tensor whose device is :data:`GPU`; `inner` has its values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnGpu:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=GPU,
        )  # fmt: skip
        made.inner = inner
        ledger = _LEDGER.get()
        if ledger is not None:
            ledger.note(inner.untyped_storage())
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})[0]


class Device(TorchDispatchMode):
    """Inside of it tensors can be made on :data:`GPU`.

    Attributes:
        transfers: what no CUDA graph can capture, so far: the operator and where it was called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.transfers: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result, is_transfer = _computed(func, args, kwargs or {})
        if is_transfer:
            self.transfers.append(f"{func}, {_caller()}")
        return result


def allow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets PyTorch name devices that this machine does not have."""
    torch._C._ensureCUDADeviceGuardSet()  # as PyTorch's own FakeTensorMode does
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    on_host = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device=None: on_host())
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)


def values(x: Any) -> Any:
    """The tensor on the CPU that has the values of `x`; anything else as it is."""
    return x.inner if isinstance(x, OnGpu) else x


def _conv_relu(x, kernel, *window):
    return F.relu(F.conv2d(x, kernel, *window))


def _conv_add_relu(x, kernel, other, alpha, *window):
    return F.relu(F.conv2d(x, kernel, *window) + alpha * other)


_ON_CUDA_ALONE: dict[str, Callable[..., torch.Tensor]] = {
    "cudnn_convolution_relu": _conv_relu,
    "cudnn_convolution_add_relu": _conv_add_relu,
}


# What makes the host wait for the device: it reads a value, or the size of the result.
_READ_BY_HOST = {
    *("_local_scalar_dense", "equal", "nonzero", "masked_select"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount"),
}


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, bool]:
    """What `func` gives, and whether it reads from one device what is on the other."""
    name = func.overloadpacket.__name__
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    there = [x for x in tensors if isinstance(x, OnGpu)]
    here = [x for x in tensors if not isinstance(x, OnGpu)]
    place, given = kwargs.get("device"), dict(kwargs)
    on_gpu = bool(there)
    if place is not None:
        on_gpu = place.type == "cuda"
        given["device"] = torch.device("cpu") if on_gpu else place
    is_copy = name in ("_to_copy", "copy_")
    is_transfer = (
        (bool(there) and name in _READ_BY_HOST)
        or (name.startswith("index") and any(x.dtype == torch.bool for x in there[1:]))
        or (is_copy and bool(there) and (bool(here) or not on_gpu))
        or (is_copy and bool(here) and on_gpu)
        or (bool(there) and any(x.dim() or name.startswith("index") for x in here))
    )
    run = _ON_CUDA_ALONE.get(name, func)
    result = run(*tree_map(values, args), **tree_map(values, given))
    if there and args[0] is there[0] and name.endswith("_"):
        return args[0], is_transfer
    return tree_map(_on_gpu if on_gpu else _same, result), is_transfer


def _on_gpu(x: Any) -> Any:
    return OnGpu(x) if isinstance(x, torch.Tensor) and not isinstance(x, OnGpu) else x


def _same(x: Any) -> Any:
    return x


def _caller() -> str:
    frames = [f for f in traceback.extract_stack() if "/trtnet/" in f.filename]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "outside of trtnet"
