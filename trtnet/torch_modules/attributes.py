"""What is known of a traced tensor without a layer: the attributes and methods that describe it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from trtnet.errors import NetworkError, ShapeError
from trtnet.tensor import same_sizes
from trtnet.torch_modules.sizes import plain_size, symbolic
from trtnet.torch_modules.traced import Traced

Answer = Callable[..., Any]


def shape(x: Traced) -> torch.Size:
    """PyTorch's ``x.shape``."""
    return torch.Size(symbolic(tuple(x.tensor.shape), x.tracing))


def _size(x: Traced, dim: int | None = None) -> Any:
    return shape(x) if dim is None else symbolic(x.tensor.shape[dim], x.tracing)


def _numel(x: Traced) -> Any:
    return symbolic(math.prod(x.tensor.shape), x.tracing)


def _strides(x: Traced, dim: int | None = None) -> Any:
    """Those of a contiguous tensor: TensorRT decides how memory lies."""
    sizes = x.tensor.shape
    every = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    strides = symbolic(tuple(every), x.tracing)
    return strides if dim is None else strides[dim]


def _length(x: Traced) -> int:
    size = x.tensor.shape[0]
    if not isinstance(size, int):
        raise ShapeError(
            "len() of a tensor whose first size is known only at run time",
            got=f"size {size}",
            fix="write x.shape[0] for len(x), or give the axis a fixed size in network.input(...)",
        )
    return size


def _no_memory(x: Traced, *_: Any, **__: Any) -> Any:
    raise NetworkError(
        "a tensor of a network has no memory",
        got=repr(x.tensor),
        fix="compute with the tensor itself, without its storage or address",
    )


def _itself(x: Traced, *_: Any, **__: Any) -> Traced:
    return x


def _copy(x: Traced, *_: Any) -> Any:
    return x.clone()


def _always(value: Any) -> Answer:
    return lambda *_, **__: value


ATTRIBUTES: Mapping[str, Answer] = {
    "shape": shape,
    "dtype": lambda x: x.declared,
    "device": lambda x: x.tracing.device,
    "ndim": lambda x: x.tensor.ndim,
    "layout": _always(torch.strided),
    "itemsize": lambda x: x.declared.itemsize,
    "nbytes": lambda x: symbolic(math.prod(x.tensor.shape) * x.declared.itemsize, x.tracing),
    "names": lambda x: (None,) * x.tensor.ndim,
    "grad": _always(None),
    "grad_fn": _always(None),
    "is_leaf": _always(True),
    "output_nr": _always(0),
    "is_cuda": lambda x: x.tracing.device.type == "cuda",
    "is_cpu": lambda x: x.tracing.device.type == "cpu",
    **{
        name: _always(False)
        for name in (
            *("requires_grad", "is_sparse", "is_sparse_csr", "is_quantized", "is_nested"),
            *("is_mkldnn", "is_meta", "is_mps", "is_xpu", "is_ipu", "is_maia", "is_vulkan"),
            *("is_mtia", "is_xla", "retains_grad"),
        )
    },
}
"""The attributes that are answered on the host, by name."""

METHODS: Mapping[str, Answer] = {
    "size": _size,
    "sym_size": _size,
    "sym_numel": _numel,
    "sym_stride": _strides,
    "sym_storage_offset": _always(0),
    "dim": lambda x: x.tensor.ndim,
    "ndimension": lambda x: x.tensor.ndim,
    "numel": _numel,
    "nelement": _numel,
    "stride": _strides,
    "__len__": _length,
    "__hash__": id,
    "__repr__": repr,
    "__str__": repr,
    "__format__": lambda x, spec: format(repr(x), spec),
    "__deepcopy__": _copy,
    "element_size": lambda x: x.declared.itemsize,
    "storage_offset": _always(0),
    "get_device": lambda x: -1 if x.tracing.device.type == "cpu" else x.tracing.device.index or 0,
    "is_contiguous": _always(True),
    "is_floating_point": lambda x: x.declared.is_floating_point,
    "is_complex": lambda x: x.declared.is_complex,
    "is_signed": lambda x: x.declared.is_signed,
    "is_same_size": lambda x, other: same_sizes(
        x.tensor.shape, tuple(map(plain_size, other.shape))
    ),
    **{
        name: _always(False)
        for name in (
            *("is_pinned", "is_shared", "is_inference", "is_conj", "is_neg", "has_names"),
            *("is_coalesced", "is_distributed", "_is_view", "_is_zerotensor"),
        )
    },
    **dict.fromkeys(
        (
            *("requires_grad_", "resolve_conj", "resolve_neg", "retain_grad", "pin_memory"),
            *("cpu", "cuda", "refine_names", "detach_", "share_memory_", "as_subclass"),
        ),
        _itself,
    ),
    **dict.fromkeys(
        (
            *("data_ptr", "storage", "untyped_storage", "_typed_storage", "set_", "resize_"),
            *("__reduce_ex__", "__dlpack__", "pin_memory_"),
        ),
        _no_memory,
    ),
}
"""The methods, and functions of PyTorch, that are answered on the host, by name."""


def _fixed(x: Traced) -> tuple[int, ...]:
    sizes = x.tensor.shape
    if not all(isinstance(size, int) for size in sizes):
        raise ShapeError(
            "code of PyTorch that is not Python needs the size of every axis",
            got=f"sizes {sizes}",
            fix="give these axes a fixed size in network.input(...)",
        )
    return sizes


def _fixed_strides(x: Traced) -> tuple[int, ...]:
    sizes = _fixed(x)
    return tuple(math.prod(sizes[axis + 1 :]) for axis in range(len(sizes)))


ATEN_ANSWERS: Mapping[str, Answer] = {
    "size": _fixed,
    "sym_size": _fixed,
    "stride": _fixed_strides,
    "sym_stride": _fixed_strides,
    "dim": lambda x: x.tensor.ndim,
    "numel": lambda x: math.prod(_fixed(x)),
    "sym_numel": lambda x: math.prod(_fixed(x)),
    "storage_offset": _always(0),
    "sym_storage_offset": _always(0),
    "is_contiguous": _always(True),
    "is_strides_like_format": _always(False),
    "is_non_overlapping_and_dense": _always(True),
}
"""The questions about a tensor that C++ code asks, by the name of the ATen operator."""
