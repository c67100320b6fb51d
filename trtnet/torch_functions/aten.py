"""ATen operators whose arguments differ from those of PyTorch's function of that name.

They come from ``torch.export``, from TorchScript, and from PyTorch's own decompositions. Signatures
are those of https://docs.pytorch.org/docs/stable/torch.compiler_ir.html.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.tensor import Tensor

Operator = Callable[..., Any]


def aten_operator(name: str) -> Operator | None:
    """The function for the ATen operator `name`, without its overload and the underscore of its
    in-place form; ``None`` where trtnet's operator of that name takes the same arguments."""
    return _OPERATORS.get(name)


def _batch_norm(
    input: Tensor,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    return ops.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _batch_norm_no_training(
    input: Tensor, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float
) -> tuple[Any, ...]:
    return ops.batch_norm(input, mean, var, weight, bias, False, momentum, eps), None, None


def _native_batch_norm(*args: Any) -> tuple[Any, ...]:
    return _batch_norm(*args), None, None


def _instance_norm(
    input: Tensor,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    return ops.instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


def _layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return ops.layer_norm(input, normalized_shape, weight, bias, eps)


def _native_layer_norm(*args: Any) -> tuple[Any, ...]:
    return _layer_norm(*args), None, None


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    return ops.group_norm(input, num_groups, weight, bias, eps)


def _native_group_norm(
    input: Tensor, weight: Any, bias: Any, n: Any, c: Any, positions: Any, groups: int, eps: float
) -> tuple[Any, ...]:
    return ops.group_norm(input, groups, weight, bias, eps), None, None


def _embedding(
    weight: Any,
    indices: Any,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    return ops.embedding(indices, weight)


def _embedding_bag(
    weight: Any,
    indices: Any,
    offsets: Any,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Any, ...]:
    name = ("sum", "mean", "max")[mode]
    rest = (name, sparse, per_sample_weights, include_last_offset, padding_idx)
    bags = ops.embedding_bag(indices, weight, offsets, None, 2.0, scale_grad_by_freq, *rest)
    return bags, None, None, None


def _dropout(input: Tensor, p: float, train: bool) -> Tensor:
    if train and p:
        raise UnsupportedError(
            "dropout: nothing is random in a network",
            got=f"p={p}, train=True",
            expected="train=False",
        )
    return input


def _convolution(
    input: Tensor,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *_: Any,
) -> Tensor:
    rank = len(stride)
    if transposed:
        call = getattr(ops, f"conv_transpose{rank}d")
        return call(input, weight, bias, stride, padding, output_padding, groups, dilation)  # type: ignore[no-any-return]
    call = getattr(ops, f"conv{rank}d")
    return call(input, weight, bias, stride, padding, dilation, groups)  # type: ignore[no-any-return]


def _slice(
    input: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Tensor:
    index: list[Any] = [slice(None)] * input.ndim
    last = isinstance(end, int) and end >= 2**62  # how ATen says "to the end"
    index[dim] = slice(start, None if last else end, step)
    return input[tuple(index)]  # type: ignore[no-any-return, index]


def _select(input: Tensor, dim: int, index: Any) -> Tensor:
    items: list[Any] = [slice(None)] * input.ndim
    items[dim] = index
    return input[tuple(items)]  # type: ignore[no-any-return, index]


def _index(input: Tensor, indices: Sequence[Any]) -> Tensor:
    return input[tuple(slice(None) if item is None else item for item in indices)]  # type: ignore[no-any-return, index]


def _as_strided(
    input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """Elements by their places in memory, which are known of a contiguous tensor."""
    if not input.has_dense_memory:
        raise UnsupportedError(
            "as_strided: it depends on the layout of a tensor that may not be contiguous",
            fix="call contiguous() before it, or use unfold, narrow or permute",
        )
    sizes = [*input.shape, *size]
    if not all(isinstance(n, int) for n in sizes):
        raise ShapeError("as_strided: needs the size of every axis", got=tuple(sizes))
    places = np.full(tuple(size), storage_offset or 0, np.int64)
    for axis, (length, step) in enumerate(zip(size, stride, strict=True)):
        steps = np.arange(length, dtype=np.int64) * step
        places = places + steps.reshape(-1, *[1] * (len(size) - axis - 1))
    if places.size and places.max() >= math.prod(input.shape):
        raise ShapeError(
            "as_strided: reaches outside of the tensor",
            expected=f"places below {math.prod(input.shape)}",
            got=int(places.max()),
        )
    index = input.network.constant(places)
    return ops.index_select(ops.flatten(input), 0, ops.flatten(index)).reshape(*size)


def _itself(input: Tensor, *_: Any, **__: Any) -> Tensor:
    return input


def _reshape(input: Tensor, sizes: Sequence[Any], *_: Any) -> Tensor:
    return ops.reshape(input, sizes)


def _softmax(input: Tensor, dim: int, half_to_float: bool = False) -> Tensor:
    return ops.softmax(input, dim)


def _log_softmax(input: Tensor, dim: int, half_to_float: bool = False) -> Tensor:
    return ops.log_softmax(input, dim)


def _constant_pad_nd(input: Tensor, pad: Sequence[Any], value: float = 0) -> Tensor:
    return ops.pad(input, pad, "constant", value)


def _padded(mode: str) -> Operator:
    return lambda input, pad: ops.pad(input, pad, mode)


def _upsample(mode: str, aligned: bool) -> Operator:
    """Sizes, or the factors of the overload ``vec``, then align_corners where `aligned`; in the
    other overload one factor per axis may follow the sizes, which then says where the pixels of
    the output lie."""

    def resize(input: Tensor, output_size: Any, *rest: Any) -> Tensor:
        align = bool(rest[0]) if aligned else None
        factors = [item for item in rest[aligned:] if item is not None]
        if factors and isinstance(factors[0], (list, tuple)):
            factors = list(factors[0])
        if output_size is None or _sizes_follow(input, output_size, factors):
            return ops.interpolate(input, None, tuple(factors), mode, align)
        if factors and not align:
            raise UnsupportedError(
                f"{mode} resizing: the factors do not give the sizes",
                got=f"sizes {tuple(output_size)}, factors {tuple(factors)}, input {input.shape}",
                fix="give F.interpolate one of them",
            )
        return ops.interpolate(input, output_size, None, mode, align)

    return resize


def _sizes_follow(input: Tensor, output_size: Sequence[Any], factors: Sequence[Any]) -> bool:
    """Whether `factors`, one for each axis, make the `output_size` of `input`."""
    sizes = input.shape[2:]
    if len(factors) != len(sizes) or not all(isinstance(n, int) for n in sizes):
        return False
    made = [math.floor(n * factor) for n, factor in zip(sizes, factors, strict=True)]
    return made == list(output_size)


def _grid_sampler(
    input: Tensor, grid: Tensor, mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    modes, paddings = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
    return ops.grid_sample(input, grid, modes[mode], paddings[padding_mode], align_corners)


def _with_indices(name: str) -> Operator:
    """Of two results the first: the positions take many layers. Graphs of ``torch.export`` that
    need them call another function."""
    return lambda *args: (getattr(ops, name)(*args), None)


def _elu(input: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    inner = input if input_scale == 1 else ops.mul(input, input_scale)
    if scale == 1:
        return ops.elu(inner, alpha)
    if input_scale == 1:
        return ops.mul(ops.elu(input, alpha), scale)
    curve = ops.mul(ops.expm1(inner), alpha * scale)  # the scale of the input is of this side only
    return ops.where(ops.gt(input, 0), ops.mul(input, scale), curve)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *args: Any,
    attn_mask: Any = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> tuple[Any, ...]:
    """Of ``_scaled_dot_product_flash_attention_for_cpu``: dropout_p and is_causal by position."""
    causal = bool(args[1]) if len(args) > 1 else is_causal
    return (
        ops.scaled_dot_product_attention(query, key, value, attn_mask, 0.0, causal, scale),
        None,
    )


_OPERATORS: Mapping[str, Operator] = {
    "_adaptive_avg_pool2d": lambda input, size: ops.adaptive_avg_pool2d(input, size),
    "_convolution": _convolution,
    "_log_softmax": _log_softmax,
    "_native_batch_norm_legit_no_training": _batch_norm_no_training,
    "_reshape_alias": _reshape,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_softmax": _softmax,
    "_unsafe_view": _reshape,
    "adaptive_max_pool1d": ops.adaptive_max_pool1d_with_indices,
    "adaptive_max_pool2d": _with_indices("adaptive_max_pool2d"),
    "adaptive_max_pool3d": _with_indices("adaptive_max_pool3d"),
    "alias": _itself,
    "as_strided": _as_strided,
    "batch_norm": _batch_norm,
    "col2im": lambda input, *args: ops.fold(input, *args),
    "constant_pad_nd": _constant_pad_nd,
    "convolution": _convolution,
    "dropout": _dropout,
    "elu": _elu,
    "elu_": lambda input, *args: input.copy_(_elu(input, *args)),
    "embedding": _embedding,
    "embedding_bag": _embedding_bag,
    "feature_dropout": _dropout,
    "affine_grid_generator": lambda theta, size, align: ops.affine_grid(theta, size, align),
    "grid_sampler": _grid_sampler,
    "grid_sampler_2d": _grid_sampler,
    "grid_sampler_3d": _grid_sampler,
    "group_norm": _group_norm,
    "im2col": lambda input, size, dilation, padding, stride: ops.unfold(
        input, size, dilation, padding, stride
    ),
    "index": _index,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "lift_fresh": _itself,
    "lift_fresh_copy": _itself,
    "max_pool2d_with_indices": _with_indices("max_pool2d"),
    "max_pool3d_with_indices": _with_indices("max_pool3d"),
    "native_batch_norm": _native_batch_norm,
    "native_dropout": lambda input, p, train: (_dropout(input, p, bool(train)), None),
    "native_group_norm": _native_group_norm,
    "native_layer_norm": _native_layer_norm,
    "reflection_pad1d": _padded("reflect"),
    "reflection_pad2d": _padded("reflect"),
    "replication_pad1d": _padded("replicate"),
    "replication_pad2d": _padded("replicate"),
    "select": _select,
    "slice": _slice,
    "split_with_sizes": lambda input, sizes, dim=0: ops.split(input, sizes, dim),
    "tensordot": lambda a, b, of_a, of_b: ops.tensordot(a, b, (of_a, of_b)),
    "unfold": ops.unfold_dimension,
    "upsample_bicubic2d": _upsample("bicubic", True),
    "upsample_bilinear2d": _upsample("bilinear", True),
    "upsample_linear1d": _upsample("linear", True),
    "upsample_nearest1d": _upsample("nearest", False),
    "upsample_nearest2d": _upsample("nearest", False),
    "upsample_nearest3d": _upsample("nearest", False),
    "upsample_trilinear3d": _upsample("trilinear", True),
}
