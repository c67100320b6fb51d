"""What nodes of a module become: outputs of OpenVINO's operations, or arrays that are known."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as ops

TYPES = {
    torch.float32: ov.Type.f32,
    torch.float16: ov.Type.f32,  # rounded where the network rounds, see half.py
    torch.bfloat16: ov.Type.f32,
    torch.int32: ov.Type.i32,
    torch.int64: ov.Type.i64,
    torch.bool: ov.Type.boolean,
}

_EXACT = 2**24


class LoweringError(Exception):
    """A node that has no lowering; its text names the layer and says why."""


def is_exact(low: int, high: int) -> bool:
    """Whether float32 holds all integers from `low` to `high`: OpenVINO compares integers in it,
    and has int64 values in 32 bits. No emitter computes larger ones from these."""
    return bool(low >= -_EXACT and high <= _EXACT)


def type_of(dtype: torch.dtype, what: str) -> ov.Type:
    """OpenVINO's type for `dtype`; `what` is of it."""
    if dtype not in TYPES:
        raise LoweringError(f"{what}: values of {dtype}")
    return TYPES[dtype]


def as_output(value: Any) -> ov.Output:
    """`value` as an output of an operation: arrays and numbers become constants."""
    if isinstance(value, ov.Output):
        return value
    if isinstance(value, (bool, int, float)):
        value = np.asarray(value, np.float32)
    if not isinstance(value, np.ndarray) or value.dtype in (np.int8, np.float64):
        raise LoweringError("a value that only quantized layers can have")
    return ops.constant(value, shared_memory=True).output(0)


def host(value: Any) -> tuple[int, ...]:
    """Integers that are known.

    Raises:
        LoweringError: they depend on an input.
    """
    if isinstance(value, np.ndarray):
        return tuple(int(n) for n in value.reshape(-1))
    if isinstance(value, int):
        return (value,)
    if isinstance(value, (tuple, list)) and all(isinstance(n, int) for n in value):
        return tuple(value)
    raise LoweringError("sizes that depend on an input")


def sizes(value: Any) -> tuple[int, ...]:
    """The shape of `value`.

    Raises:
        LoweringError: a size is not known.
    """
    if isinstance(value, np.ndarray):
        return tuple(value.shape)
    shape = value.get_partial_shape()
    if shape.is_dynamic:
        raise LoweringError("a layer that needs sizes which depend on an input")
    return tuple(shape.to_shape())


def rank(value: Any) -> int:
    """The number of axes of `value`."""
    if isinstance(value, np.ndarray):
        return value.ndim
    axes = value.get_partial_shape().rank
    if axes.is_dynamic:
        raise LoweringError("a value whose number of axes is unknown")
    return int(axes.get_length())


def core() -> ov.Core:
    """OpenVINO in this process, until it ends. Its CPU plugin installs a stack for signals in the
    thread that loads it, and with a second one in the same thread leaves memory there that it has
    freed: the next signal would end the process."""
    return _core_of(os.getpid())


@functools.cache
def _core_of(process: int) -> ov.Core:
    return ov.Core()
