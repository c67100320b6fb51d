"""Tensors over memory at a given address, which the caller owns."""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor


def view(address: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor over the memory at `address` of `device`, which must outlive it."""
    nbytes = math.prod(shape) * dtype.itemsize
    if not nbytes:
        return torch.empty(shape, dtype=dtype, device=device)
    if device.type == "cpu":
        memory = (ctypes.c_char * nbytes).from_address(address)
        return torch.frombuffer(memory, dtype=dtype).view(shape)
    plain = torch.as_tensor(_DeviceBytes(address, nbytes), device=device)
    return plain.view(dtype).view(shape)


class _DeviceBytes:
    """Bytes, because the interface has no bfloat16 and no float8."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }
