"""PyTorch tensors over memory that is given by its address."""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor


def tensor_at(
    address: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Returns a contiguous tensor over existing memory, without a copy.

    Args:
        address: where the memory starts; it must stay allocated as long as the tensor is used.
        shape: shape of the tensor; an empty tensor has memory of its own.
        dtype: element type of the tensor.
        device: the CPU, or the CUDA device of the memory.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    if not nbytes:
        return torch.empty(shape, dtype=dtype, device=device)
    if device.type == "cpu":
        memory = (ctypes.c_char * nbytes).from_address(address)
        return torch.frombuffer(memory, dtype=dtype).view(shape)
    plain = torch.as_tensor(_DeviceBytes(address, nbytes), device=device)
    return plain.view(dtype).view(shape)


class _DeviceBytes:
    """CUDA memory as bytes: the CUDA array interface has neither bfloat16 nor float8."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }
