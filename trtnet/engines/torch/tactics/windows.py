"""Attention of few tokens by one Triton kernel, with biases: the windows of Swin and MaxViT."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.launching import launch

LARGEST_TOKENS = 128
LARGEST_FEATURES = 128


def window_attention(
    query: Tensor, key: Tensor, value: Tensor, biases: tuple[Tensor, ...], scale: float, warps: int
) -> Tensor:
    """``softmax(scale * query @ keyᵀ + biases) @ value``.

    Args:
        query, key, value: (B, W, H, T, D), of any strides but 1 along D; half precision, on a CUDA
            device; T and D up to 128.
        biases: at most two tensors (1 or B, 1 or W, 1 or H, T, T), of any strides but 1 along the
            last axis.
        scale: of the products, in float32.
        warps: that work on one window and head.

    Returns:
        (B, W, H, T, D), in memory as (B, W, T, H, D).
    """
    b, w, h, t, d = query.shape
    stored = torch.empty((b, w, t, h, d), dtype=query.dtype, device=query.device)
    y = stored.permute(0, 1, 3, 2, 4)
    if y.numel() == 0:
        return y
    given = [_expanded(bias, (b, w, h, t, t)) for bias in biases]
    first, second = (*given, None, None)[:2]
    strides = [x.stride()[:4] for x in (query, key, value, y)]
    strides += [(0, 0, 0, 0) if x is None else x.stride()[:4] for x in (first, second)]
    launch(
        _attention, (b * w * h,),
        query, key, value, first, second, y, scale, w, h, t,
        *[stride for each in strides for stride in each],
        first is not None, second is not None, d,
        max(16, triton.next_power_of_2(t)), max(16, triton.next_power_of_2(d)),
        num_warps=warps,
    )  # fmt: skip
    return y


def unit_vectors(x: Tensor, epsilon: float, dtype: torch.dtype, warps: int) -> Tensor:
    """`x` divided by its length along the last axis, or by `epsilon` where that is longer.

    Args:
        x: (B, W, H, T, D), of any strides but 1 along D, on a CUDA device; T and D up to 128.
        dtype: of the result, which has no gaps.
    """
    b, w, h, t, d = x.shape
    y = torch.empty(x.shape, dtype=dtype, device=x.device)
    if y.numel():
        launch(
            _unit_vectors, (b * w * h,),
            x, y, epsilon, w, h, t, *x.stride()[:4], d,
            triton.next_power_of_2(t), triton.next_power_of_2(d), num_warps=warps,
        )  # fmt: skip
    return y


def _expanded(bias: Tensor, shape: tuple[int, ...]) -> Tensor:
    return bias.expand(shape)


@triton.jit
def _attention(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    query, key, value, first, second, y, scale, w, h, t,
    q_b, q_w, q_h, q_t, k_b, k_w, k_h, k_t, v_b, v_w, v_h, v_t, y_b, y_w, y_h, y_t,
    f_b, f_w, f_h, f_t, s_b, s_w, s_h, s_t,
    has_first: tl.constexpr, has_second: tl.constexpr, d: tl.constexpr,
    tokens: tl.constexpr, features: tl.constexpr,
):  # fmt: skip
    """One program computes one head of one window."""
    program = tl.program_id(0).to(tl.int64)
    head, window, image = program % h, program // h % w, program // h // w
    token, other = tl.arange(0, tokens), tl.arange(0, tokens)
    feature = tl.arange(0, features)
    rows = (token < t)[:, None] & (feature < d)[None, :]
    q_at = query + image * q_b + window * q_w + head * q_h
    k_at = key + image * k_b + window * k_w + head * k_h
    v_at = value + image * v_b + window * v_w + head * v_h
    q = tl.load(q_at + token[:, None] * q_t + feature[None, :], rows, 0.0)
    k = tl.load(k_at + token[:, None] * k_t + feature[None, :], rows, 0.0)
    v = tl.load(v_at + token[:, None] * v_t + feature[None, :], rows, 0.0)
    scores = tl.dot(q, tl.trans(k)) * scale
    inside = (token < t)[:, None] & (other < t)[None, :]
    if has_first:
        at = first + image * f_b + window * f_w + head * f_h
        at += token[:, None] * f_t + other[None, :]
        scores += tl.load(at, inside, 0.0).to(tl.float32)
    if has_second:
        at = second + image * s_b + window * s_w + head * s_h
        at += token[:, None] * s_t + other[None, :]
        scores += tl.load(at, inside, 0.0).to(tl.float32)
    scores = tl.where((other < t)[None, :], scores, float("-inf"))
    scores = tl.exp(scores - tl.max(scores, 1)[:, None])
    weights = scores / tl.sum(scores, 1)[:, None]
    result = tl.dot(weights.to(v.dtype), v)
    y_at = y + image * y_b + window * y_w + head * y_h
    tl.store(y_at + token[:, None] * y_t + feature[None, :], result.to(y.dtype.element_ty), rows)


@triton.jit
def _unit_vectors(  # type: ignore[no-untyped-def]  # as above
    x, y, epsilon, w, h, t, x_b, x_w, x_h, x_t,
    d: tl.constexpr, tokens: tl.constexpr, features: tl.constexpr,
):  # fmt: skip
    """One program computes one head of one window."""
    program = tl.program_id(0).to(tl.int64)
    head, window, image = program % h, (program // h) % w, program // h // w
    token, feature = tl.arange(0, tokens), tl.arange(0, features)
    inside = (token < t)[:, None] & (feature < d)[None, :]
    at = x + image * x_b + window * x_w + head * x_h
    value = tl.load(at + token[:, None] * x_t + feature[None, :], inside, 0.0).to(tl.float32)
    length = tl.maximum(tl.sqrt(tl.sum(value * value, 1)), epsilon, tl.PropagateNan.ALL)
    value = value / length[:, None]
    place = (program * t + token)[:, None] * d + feature[None, :]
    tl.store(y + place, value.to(y.dtype.element_ty), inside)
